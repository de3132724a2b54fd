"""What each model took when it was loaded, remembered for the next start."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import platformdirs

from greenroom.memory import MIB
from greenroom.speech import ModelSpec

logger = logging.getLogger(__name__)

FILE_SIZE_FACTOR = 3.0
"""A resident voice takes 2.3 to 5 times its file (measured on Piper and Kokoro)."""

SMALLEST_MEASURE = MIB
"""A growth of the process below this cannot be told from noise, and is not believed."""


def default_path() -> Path:
    """Return where measurements are kept: `$GREENROOM_CACHE_DIR` or the user's cache."""
    chosen = os.environ.get("GREENROOM_CACHE_DIR")
    place = Path(chosen) if chosen else platformdirs.user_cache_path("greenroom")
    return place / "footprints.json"


class Footprints:
    """Measured footprints in bytes, by model and by what its file looked like.

    The largest measurement counts: a load that reuses freed memory grows the process by less
    than the model takes. `read` and `write` block: call them off the loop, `read` first.
    """

    def __init__(self, specs: Iterable[ModelSpec], path: Path | None = None) -> None:
        self._path = path or default_path()
        self._specs = tuple(specs)
        self._measured: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._keys: dict[str, str] = {}
        self._changed = False

    def read(self) -> None:
        """Look at the models' files, and remember what earlier runs measured.

        A record that cannot be read is as good as none.
        """
        for spec in self._specs:
            size = self._sizes[spec.model_id] = _file_size(spec)
            shape = f"{spec.path}|{size}|{spec.device}|{sorted(spec.options.items())}"
            digest = hashlib.sha256(shape.encode(errors="replace")).hexdigest()[:16]
            self._keys[spec.model_id] = f"{spec.model_id}@{digest}"
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(content, dict):
                self._measured = {k: v for k, v in content.items() if _is_size(v)}

    def write(self) -> None:
        """Keep what this run measured; written beside and renamed."""
        if not self._changed:
            return
        beside = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(self._measured, indent=1), encoding="utf-8")
            beside.replace(self._path)
            self._changed = False
        except OSError as error:
            logger.warning("footprints are not remembered: %s", error)

    def expected(self, spec: ModelSpec) -> int:
        """Return the bytes to book: measured before, else the catalog's, else by file size."""
        measured = self._measured.get(self._keys[spec.model_id])
        if measured is not None:
            return measured
        if spec.footprint_mb is not None:
            return int(spec.footprint_mb * MIB)
        return int(self._sizes[spec.model_id] * FILE_SIZE_FACTOR)

    def record(self, spec: ModelSpec, measured: int) -> int | None:
        """Remember a measurement; return what to book now, or `None` if it is not believed."""
        if measured < SMALLEST_MEASURE:
            return None
        key = self._keys[spec.model_id]
        known = self._measured.get(key, 0)
        if measured > known:
            self._measured[key] = known = measured
            self._changed = True
        return known


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _file_size(spec: ModelSpec) -> int:
    """Return the size of the model's file, or of all files in its folder; 0 if there is none."""
    if spec.path is None:
        return 0
    with contextlib.suppress(OSError):
        path = Path(spec.path)
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return path.stat().st_size
    return 0
