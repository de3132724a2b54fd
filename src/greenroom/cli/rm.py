"""`greenroom rm`: remove voices from the directories of voices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from greenroom.catalog.catalog import Catalog
from greenroom.catalog.discovery import discover_models
from greenroom.cli.model_argument import Models
from greenroom.cli.pull import size_of
from greenroom.cli.shared_options import AsJson, ConfigFile, Settings, configuration
from greenroom.cli.terminal.console import CommandError, print_json, print_text
from greenroom.config.schema import Config, VoiceSettings, voice_directories
from greenroom.voices.installation import remove


def rm(
    voices: Models, config: ConfigFile = None, settings: Settings = None, as_json: AsJson = False
) -> None:
    """Remove voices from the directories of voices.

    Their files are deleted; what a worker has in memory goes on speaking until it leaves. All names
    are checked before anything is removed. What was prepared of them, `prepare --prune` removes.
    """
    found = configuration(config, settings)
    catalog = Catalog(discover_models(voice_directories(found.voices), ["piper"]).models.values())
    models = {name: _model_of(name, catalog, found) for name in dict.fromkeys(voices)}
    freed = {}
    for name, model in models.items():
        try:
            freed[name] = remove(model)
        except OSError as error:
            raise CommandError(
                f"{error.filename or model} cannot be removed: {error.strerror}; make its folder "
                "writable."
            ) from error
        if not as_json:
            print_text(f"{name}: removed, {size_of(freed[name])} came free")
    if as_json:
        print_json([{"voice": name, "freed_bytes": size} for name, size in freed.items()])


def _model_of(name: str, catalog: Catalog, config: Config) -> Path:
    """Return the file of a voice that may be removed; raises `CommandError` for others."""
    if any(entry.model_id == name for entry in config.models):
        raise CommandError(f"{name} is an entry of the configuration; remove it there.")
    path = catalog.get(name).path
    assert path is not None, "a voice that was found in a directory has a path"
    if not _is_below(Path(path), _directories(config.voices)):
        raise CommandError(
            f"{name} comes with an installed package ({path}); uninstall that, or leave it out of "
            "voices.packages."
        )
    return Path(path)


def _directories(settings: VoiceSettings) -> list[Path]:
    """Return the directories of voices without those of packages."""
    return voice_directories(settings.model_copy(update={"packages": ()}))


def _is_below(path: Path, directories: Sequence[Path]) -> bool:
    place = os.path.abspath(path)
    return any(Path(place).is_relative_to(os.path.abspath(each)) for each in directories)
