"""What each model took when it was loaded, remembered for the next start."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import os
import stat
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TypeGuard

import platformdirs

from greenroom.memory import MIB, Usage
from greenroom.speech import ModelSpec

logger = logging.getLogger(__name__)

FILE_SIZE_FACTOR = 3.0
"""A resident voice takes 2.3 to 5 times its file (measured on Piper and Kokoro)."""

SMALLEST_MEASURE = MIB
"""A growth of the process below this cannot be told from noise, and counts as this much."""

REMEMBERED = 3
"""So many measurements count, the latest: one that reused freed memory is too small, and one that
the model outgrew (a prepared form exists now) is too large."""

FILES_LOOKED_AT = 10_000
"""In the folder of one model: `path` may be any folder, also the root of the file system."""


def default_path() -> Path:
    """Return where measurements are kept: `$GREENROOM_CACHE_DIR` or the user's cache."""
    chosen = os.environ.get("GREENROOM_CACHE_DIR")
    place = Path(chosen) if chosen else platformdirs.user_cache_path("greenroom")
    return place / "footprints.json"


class Footprints:
    """Measured footprints in bytes, by model and by what its file looked like.

    A footprint is of *anonymous* memory, and that alone is booked against the budget: pages of
    mapped files are shared with every process that maps them, and the system takes them back by
    itself when memory gets short. They are remembered beside it, to be shown.

    The largest of the latest measurements counts, be it from a load or from an unload. `read` and
    `write` block: call them off the loop, `read` first.
    """

    def __init__(self, specs: Iterable[ModelSpec], path: Path | None = None) -> None:
        self._path = path or default_path()
        self._specs = tuple(specs)
        self._measured: dict[str, list[Usage]] = {}
        self._sizes: dict[str, int] = {}
        self._keys: dict[str, str] = {}
        self._changed = False
        self._stated: set[str] = set()

    def read(self) -> None:
        """Look at the models' files, and remember what earlier runs measured.

        A record that cannot be read is as good as none. One look at each file is all that is done
        for every model: what only a load needs is made when one is loaded.
        """
        self._sizes = {spec.model_id: _file_size(spec) for spec in self._specs}
        with contextlib.suppress(OSError, ValueError, RecursionError):
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(content, dict):
                self._measured = {k: found for k, v in content.items() if (found := _usages(v))}

    def write(self) -> None:
        """Keep what this run measured; written beside and renamed."""
        if not self._changed:
            return
        beside = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            content = {key: list(map(asdict, known)) for key, known in self._measured.items()}
            beside.write_text(json.dumps(content, indent=1), encoding="utf-8")
            beside.replace(self._path)
            self._changed = False
        except OSError as error:
            logger.warning("footprints are not remembered: %s", error)

    def _key_of(self, spec: ModelSpec) -> str:
        """Return the name of a model's record: its id, and what it looked like at the start."""
        key = self._keys.get(spec.model_id)
        if key is None:
            size = self._sizes[spec.model_id]
            shape = f"{spec.path}|{size}|{spec.device}|{sorted(spec.options.items())}"
            digest = hashlib.sha256(shape.encode(errors="replace")).hexdigest()[:16]
            key = self._keys[spec.model_id] = f"{spec.model_id}@{digest}"
        return key

    def expected(self, spec: ModelSpec) -> int:
        """Return the bytes to book: measured before, else the catalog's, else by file size."""
        known = self._measured.get(self._key_of(spec))
        if known:
            return max(each.anonymous for each in known)
        if spec.footprint_mb is not None:
            return int(spec.footprint_mb * MIB)
        return int(self._sizes[spec.model_id] * FILE_SIZE_FACTOR)

    def mapped(self, spec: ModelSpec) -> int:
        """Return the bytes of mapped files, as measured before; 0 if never."""
        known = self._measured.get(self._key_of(spec), ())
        return max((each.mapped for each in known), default=0)

    def record(self, spec: ModelSpec, measured: Usage) -> int:
        """Remember what a load was measured to take; return what to book now."""
        known = self._measured.setdefault(self._key_of(spec), [])
        known.append(Usage(max(SMALLEST_MEASURE, measured.anonymous), max(0, measured.mapped)))
        del known[:-REMEMBERED]
        self._changed = True
        return self.expected(spec)

    def outgrown(self, spec: ModelSpec, returned: int) -> None:
        """Correct the latest measurement where the unload after it gave back more.

        Speaking may add to what a model takes, and keep it until the model leaves.
        """
        key = self._key_of(spec)
        known = self._measured.get(key)
        if known and key not in self._stated and returned > known[-1].anonymous:
            known[-1] = Usage(returned, known[-1].mapped)
            self._changed = True

    def state(self, spec: ModelSpec, stated: Usage) -> int:
        """Remember what the model says it takes, in place of whatever was measured."""
        key = self._key_of(spec)
        self._changed |= self._measured.get(key) != [stated]
        self._measured[key] = [stated]
        self._stated.add(key)
        return stated.anonymous


def _usages(content: object) -> list[Usage]:
    """Return what a record says of one model; a plain number is one measurement, as of old."""
    entries = content if isinstance(content, list) else [{"anonymous": content}]
    found = []
    for entry in entries[-REMEMBERED:]:
        if not isinstance(entry, dict):
            return []
        anonymous, mapped = entry.get("anonymous"), entry.get("mapped", 0)
        if not (_is_size(anonymous) and _is_size(mapped)):
            return []
        found.append(Usage(anonymous, mapped))
    return found


def _is_size(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _file_size(spec: ModelSpec) -> int:
    """Return the size of the model's file, or of the files in its folder; 0 if there is none."""
    if spec.path is None:
        return 0
    with contextlib.suppress(OSError, ValueError):
        seen = os.stat(spec.path)
        return _size_below(spec.path) if stat.S_ISDIR(seen.st_mode) else seen.st_size
    return 0


def _size_below(folder: Path | str) -> int:
    """Return the size of the files in a folder, as far as can be seen in bounded time."""
    files = itertools.islice(Path(folder).rglob("*"), FILES_LOOKED_AT)
    return sum(file.stat().st_size for file in files if file.is_file())
