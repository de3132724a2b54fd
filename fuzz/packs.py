"""The voices' door: folders with anything in them, beside one good pack that is always found."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fuzz.documents import hostile_json, hostile_yaml
from fuzz.memory import growth
from fuzz.shorter import one_left_out, parts_left_out
from fuzz.watchdog import Watchdog
from greenroom import Catalog, ConfigError, ModelManagerError, ModelSpec
from greenroom.catalog import registry
from greenroom.config.schema import Config

_METADATA = """\
options: {speed: 1.0}
languages: [en-US]
tags: [calm, "deep voice"]
footprint_mb: 50
ttl_ms: 60000
aliases: [joe]
"""
_KEYS = ("options", "languages", "tags", "footprint_mb", "ttl_ms", "aliases")
_VOICE: dict[str, Any] = {
    "audio": {"sample_rate": 22_050, "quality": "medium"},
    "espeak": {"voice": "en-us"},
    "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
    "phoneme_type": "espeak",
    "phoneme_map": {},
    "phoneme_id_map": {"_": [0], "^": [1], "$": [2], " ": [3], "a": [4]},
    "num_symbols": 256,
    "num_speakers": 1,
    "speaker_id_map": {},
    "piper_version": "1.0.0",
    "language": {"code": "en_US", "family": "en", "region": "US"},
}
_NAMES = (
    *(
        b"joe",
        b"Joe",
        b"en_US-joe-medium",
        b"good",
        b"a b",
        b"-",
        b"--help",
        b".hidden",
        b"x" * 250,
    ),
    *(b"\xff\xfe", b"\xed\xa0\x80", b"\x1b[2J", b"a\nb", b"\t", b"\x07", "\u202eeoj".encode()),
    *("jöé".encode(), "\U0001f600".encode(), b"%s", b"{}", b"'", b'"', b"*", b"tone-440", b"[red]"),
)
_KINDS = ("file", "file", "file", "file", "fifo", "folder", "loop", "nowhere", "zero", "sparse")
_MOST_BYTES = 300 << 20


@dataclass(frozen=True, slots=True)
class Thing:
    """One name in the voice directory, and what it is."""

    path: bytes
    kind: str
    content: bytes = b""


class PacksDoor:
    """Bad packs are left out and named; the others are found, in time."""

    name = "packs"
    about = "voice packs, their metadata, and voices' JSON"

    def open(self, watchdog: Watchdog) -> None:
        """Work in a folder of its own."""
        self._folder = tempfile.TemporaryDirectory(prefix="greenroom-fuzz-")
        self._root = Path(self._folder.name) / "voices"

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._root, ignore_errors=True)
        self._folder.cleanup()

    def draw(self, dice: random.Random) -> tuple[Thing, ...]:
        """Return one to three packs or loose voices."""
        found = [thing for _ in range(dice.choice((1, 1, 2, 3))) for thing in _pack(dice)]
        return tuple(found)

    def simpler(self, given: tuple[Thing, ...]) -> Iterator[tuple[Thing, ...]]:
        """Yield it without a thing, then with less in one."""
        yield from one_left_out(given)
        for number, thing in enumerate(given):
            for content in parts_left_out(thing.content):
                yield (*given[:number], replace(thing, content=content), *given[number + 1 :])

    def count(self, given: tuple[Thing, ...]) -> int:
        """Return 1."""
        return 1

    def attempt(self, given: tuple[Thing, ...]) -> list[str]:
        """Lay it all out, and look for voices as every command does."""
        shutil.rmtree(self._root, ignore_errors=True)
        _lay_out(self._root, (*_good(), *given))
        faults: list[str] = []
        handler = _Warnings(faults)
        logging.getLogger("greenroom").addHandler(handler)
        try:
            grown = growth(lambda: faults.extend(self._look()))
        finally:
            logging.getLogger("greenroom").removeHandler(handler)
        if grown > _MOST_BYTES:
            faults.append("looking for voices took more than 300 MB")
        return faults

    def _look(self) -> list[str]:
        voices = {"directories": [str(self._root)], "packages": []}
        try:
            discovered = Catalog.discover(self._root, adapters=["piper"])
            configured = Catalog.from_config(Config.model_validate({"voices": voices}))
        except Exception as error:  # noqa: BLE001 - nothing may be raised here
            return [f"discovering raised {type(error).__name__}: {error!s:.300}"]
        faults = []
        for catalog in (discovered, configured):
            if "piper-the-good-one" not in catalog:
                faults.append("the good pack was not found")
            for spec in catalog:
                faults += _wrong_with(spec)
        return faults


def _wrong_with(spec: ModelSpec) -> list[str]:
    """What was found can be listed, and what cannot be loaded says why."""
    faults = []
    shown = {"id": spec.model_id, "languages": spec.languages, "tags": spec.tags}
    names = [spec.model_id, *spec.languages, *spec.tags, *spec.aliases]
    try:
        json.dumps({**shown, "options": dict(spec.options)}, allow_nan=False).encode()
        "".join(names).encode()
    except (TypeError, ValueError) as error:
        faults.append(f"a voice cannot be listed: {error}")
    faults += [
        f"a voice has the name {name!a:.80}" for name in names if not str(name).isprintable()
    ]
    adapter = registry.resolve(spec.adapter)
    try:
        if adapter.preparation is not None:
            adapter.preparation.is_prepared(spec)
        adapter.check_spec(spec)
    except ConfigError as error:
        if not str(error).isprintable():
            faults.append(f"a problem cannot be printed: {str(error)[:200]!a}")
    except ModelManagerError as error:
        faults.append(f"checking raised {type(error).__name__}")
    except Exception as error:  # noqa: BLE001 - whatever else comes out is a fault
        faults.append(f"checking raised {type(error).__name__}: {error!s:.200}")
    return faults


def _good() -> tuple[Thing, ...]:
    place = b"piper/the_good_one/"
    return (
        Thing(place + b"voice.onnx", "file", b"graph"),
        Thing(place + b"voice.onnx.json", "file", json.dumps(_VOICE).encode()),
        Thing(place + b"metadata.yaml", "file", b"languages: [en-US]\n"),
    )


def _pack(dice: random.Random) -> list[Thing]:
    name = dice.choice(_NAMES)
    place = dice.choice((b"piper/" + name, b"piper/" + name, name, b"a/b/c/d/e/f/" + name, b"."))
    stem = dice.choice((b"voice", b"en_US-joe-medium", dice.choice(_NAMES)))[:200]
    graph = dice.choice((b"graph", b"", b"\x08\x07" * 50))
    voice = hostile_json(dice, _VOICE) if dice.random() < 0.6 else json.dumps(_VOICE).encode()
    metadata = hostile_yaml(dice, _METADATA, _KEYS)
    return [
        Thing(place + b"/" + stem + b".onnx", _kind(dice), graph),
        Thing(place + b"/" + stem + b".onnx.json", _kind(dice), voice),
        Thing(place + b"/metadata.yaml", _kind(dice), metadata),
    ]


def _kind(dice: random.Random) -> str:
    return dice.choice(_KINDS) if dice.random() < 0.25 else "file"


def _lay_out(root: Path, things: tuple[Thing, ...]) -> None:
    for thing in things:
        path = os.path.join(os.fsencode(root), thing.path)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _make(path, thing)
        except OSError:
            continue  # something else of that name is there, or the name is too long


def _make(path: bytes, thing: Thing) -> None:
    match thing.kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            os.mkdir(path)
        case "loop":
            os.symlink(os.path.basename(path), path)
        case "nowhere":
            os.symlink(b"/nowhere/at/all", path)
        case "zero":
            os.symlink(b"/dev/zero", path)
        case "sparse":
            with open(path, "xb") as file:
                file.truncate(200 << 20)
        case _:
            with open(path, "xb") as file:
                file.write(thing.content)


class _Warnings(logging.Handler):
    """Makes a line of the log that cannot be printed a fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not text.isprintable() or len(text) > 5_000:
            self._faults.append(f"a line of the log cannot be printed: {text[:200]!a}")
