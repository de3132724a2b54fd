"""How much memory each model took when it was loaded, kept in a file for the next start."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import Field, TypeAdapter, ValidationError

from greenroom.adapter import ModelSpec
from greenroom.catalog import registry
from greenroom.ledger.state import SharedPart
from greenroom.memory.usage import MIB, Usage
from greenroom.untrusted.bounded_files import read_bounded
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

FILE_SIZE_FACTOR = 3.0
"""A resident voice takes 2.3 to 5 times its file (measured on Piper and Kokoro)."""

SMALLEST_MEASURE = MIB
"""A growth of the process below this cannot be told from noise, and counts as this much."""

REMEMBERED = 3
"""How many measurements count, the latest; their median is booked. One that reused freed memory is
too small, one during which the surrounding program grew is too large. Of two the smaller counts: a
footprint booked too low shows in what the process takes, one booked too high shows nowhere."""

PROOFS = 2
"""How many loads with nothing else in memory prove what a model takes at least."""

_MAX_RECORDS = 20_000
"""Records that are kept, the latest."""

_MAX_FILE_BYTES = 16 * MIB
"""More than so many records take: a larger file was not written here."""

_Size = Annotated[int, Field(ge=0)]

MAX_FILES_COUNTED = 10_000
"""The limit for one model's folder: `path` may be any folder, even the root of a file system."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The growth of the process during one load; bytes."""

    anonymous: _Size
    mapped: _Size = 0
    alone: bool = False
    """Whether only pinned models were in memory beside it."""


@dataclass(slots=True)
class FootprintRecord:
    """What is known about one form of one model; sizes in bytes."""

    model_id: str
    file: str
    """A digest of the model's path, file size, device and options."""
    form: str = ""
    """Which form of the model (`TTSAdapter.form`); each has a record of its own."""
    stated: Measurement | None = None
    """What the loaded model itself states; it takes precedence over measurements."""
    shared: SharedPart | None = None
    """What it states to have in common with others, beside that."""
    measured: list[Measurement] = field(default_factory=list)
    """The latest `REMEMBERED`, oldest first."""

    @property
    def anonymous(self) -> int | None:
        """The bytes to book; `None` when nothing is known."""
        if self.stated is not None:
            return self.stated.anonymous
        # The median; of two the smaller (see REMEMBERED).
        sizes = sorted(each.anonymous for each in self.measured)
        return sizes[(len(sizes) - 1) // 2] if sizes else None

    @property
    def mapped(self) -> int:
        """Bytes of mapped files; 0 when nothing is known."""
        if self.stated is not None:
            return self.stated.mapped
        return max((each.mapped for each in self.measured), default=0)

    @property
    def least(self) -> int:
        """The bytes that it takes at least; 0 until `PROOFS` loads alone have shown it."""
        alone = [each.anonymous for each in self.measured if each.alone]
        return min(alone) if len(alone) >= PROOFS else 0

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies the record: model, file and form."""
        return self.model_id, self.file, self.form

    def __str__(self) -> str:
        form = f" as {self.form}" if self.form else ""
        if self.stated is not None:
            part = self.shared
            shared = "" if part is None else f" beside {part.size / MIB:.1f} MB of {part.name}"
            return f"{self.stated.anonymous / MIB:.1f} MB{form}{shared}, as the model itself says"
        sizes = ", ".join(f"{each.anonymous / MIB:.1f}" for each in self.measured)
        return f"{(self.anonymous or 0) / MIB:.1f} MB{form}, the middle of what loads took: {sizes}"


_RECORDS = TypeAdapter(list[FootprintRecord])


@dataclass(frozen=True, slots=True)
class Expectation:
    """How much memory a load is expected to take; bytes."""

    footprint: int
    least: int | None
    """What it takes for certain; `None` if the footprint is the catalog's, which is final."""
    source: str
    """Where the footprint comes from, for messages."""
    measured: bool = False
    """Whether it comes from earlier loads."""
    shared: SharedPart | None = None
    """What it is expected to have in common with others, beside `footprint`."""


@dataclass(frozen=True, slots=True)
class _FileState:
    """A model's file when it was last inspected."""

    size: int
    file: str
    form: str


_UNSEEN = _FileState(0, "", "")


def default_path() -> Path:
    """Return where measurements are kept: `$GREENROOM_CACHE_DIR` or the user's cache."""
    chosen = os.environ.get("GREENROOM_CACHE_DIR")
    place = Path(chosen) if chosen else platformdirs.user_cache_path("greenroom")
    return place / "footprints.json"


class FootprintStore:
    """Measured footprints, by model, by what its file looked like, and by form.

    A footprint is of *anonymous* memory, and that alone is booked against the budget: pages of
    mapped files are shared with every process that maps them, and the system takes them back by
    itself when memory gets short. They are remembered beside it, to be shown.

    Only loads are measured. What speaking adds is not part of what a model needs to be loaded, so
    an unload that gives back more than its load took changes nothing; one that gives back less
    shows that something else grew beside that load, and corrects it.

    `read`, `inspect` and `write` block: call them off the loop, `inspect` before a model is asked
    about. A model that could not be inspected in time is expected to take nothing.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self._records: dict[tuple[str, str, str], FootprintRecord] = {}
        self._changed: dict[tuple[str, str, str], None] = {}
        self._files: dict[str, _FileState] = {}
        self._stale: set[str] = set()

    def read(self) -> None:
        """Read what earlier runs measured; a file that cannot be read counts as empty."""
        # Reading may take long; what was measured meanwhile is newer than the file.
        known = {key: self._records[key] for key in self._changed}
        self._records = {record.key: record for record in self._read_file()} | known

    def write(self) -> None:
        """Write what this run measured, beside what other processes have written meanwhile."""
        if not self._changed:
            return
        # Read again: another process may have written since. Only what this run changed replaces
        # that, and goes to the end, so that the limit drops the oldest records.
        kept = {record.key: record for record in self._read_file()}
        for key in self._changed:
            kept.pop(key, None)
            kept[key] = self._records[key]
        if self._try_to_write(list(kept.values())[-_MAX_RECORDS:]):
            self._changed.clear()

    def records(self, model_id: str | None = None) -> Sequence[FootprintRecord]:
        """Return the records of one model or of all: one for each form of each file."""
        return [
            record
            for record in self._records.values()
            if record.anonymous is not None and model_id in (None, record.model_id)
        ]

    def forget(self, model_ids: Iterable[str] | None = None) -> int:
        """Delete the records of some models, or all, from the file; return how many there were.

        Raises `OSError` when the file cannot be written.
        """
        gone = None if model_ids is None else set(model_ids)
        kept = self._read_file()
        left = [] if gone is None else [record for record in kept if record.model_id not in gone]
        if len(left) < len(kept):
            self._write_file(left)
        self.read()
        return len(kept) - len(left)

    def inspect(self, spec: ModelSpec) -> None:
        """Note the state of the model's file, and which form of the model would be loaded next."""
        size = _file_size(spec)
        shape = f"{spec.path}|{size}|{spec.device}|{sorted(spec.options.items())}"
        digest = hashlib.sha256(shape.encode(errors="replace")).hexdigest()[:16]
        self._files[spec.model_id] = _FileState(size, digest, _next_form(spec))
        self._stale.discard(spec.model_id)

    def is_current(self, spec: ModelSpec) -> bool:
        """Whether the model was inspected, and not marked stale since."""
        return spec.model_id in self._files and spec.model_id not in self._stale

    def mark_stale(self, spec: ModelSpec) -> None:
        """Have the model inspected again before it is next asked about: it may have changed."""
        self._stale.add(spec.model_id)

    def expected(self, spec: ModelSpec) -> Expectation:
        """Return what to book: as measured before, else as the catalog says, else by file size."""
        seen = self._files.get(spec.model_id, _UNSEEN)
        record = self._records.get((spec.model_id, seen.file, seen.form))
        if record is not None and record.anonymous is not None:
            return Expectation(record.anonymous, record.least, str(record), True, record.shared)
        if spec.footprint_mb is not None:
            return Expectation(int(spec.footprint_mb * MIB), None, "as the catalog says")
        size = int(seen.size * FILE_SIZE_FACTOR)
        return Expectation(size, 0, f"estimated as {FILE_SIZE_FACTOR:g} times its file")

    def mapped(self, spec: ModelSpec, form: str) -> int:
        """Return the bytes of mapped files, as measured before; 0 if never."""
        record = self._records.get(
            (spec.model_id, self._files.get(spec.model_id, _UNSEEN).file, form)
        )
        return 0 if record is None else record.mapped

    def add_measurement(self, spec: ModelSpec, form: str, taken: Usage, *, alone: bool) -> int:
        """Add the growth of the process during a load; return what to book now."""
        record = self._record(spec, form)
        anonymous, mapped = max(SMALLEST_MEASURE, taken.anonymous), max(0, taken.mapped)
        record.measured.append(Measurement(anonymous, mapped, alone))
        del record.measured[:-REMEMBERED]
        self._changed[record.key] = None
        return record.anonymous or 0

    def set_stated(
        self, spec: ModelSpec, form: str, stated: Usage, shared: SharedPart | None = None
    ) -> int:
        """Record what the loaded model states that it takes; return what to book now.

        That is without what it has in common with others.
        """
        record = self._record(spec, form)
        said = Measurement(stated.anonymous, stated.mapped)
        if (record.stated, record.shared) != (said, shared):
            record.stated, record.shared = said, shared
            self._changed[record.key] = None
        return stated.anonymous

    def correct_last(self, spec: ModelSpec, form: str, returned: int) -> None:
        """Lower the latest measurement to what the unload gave back, if that is less."""
        record = self._record(spec, form)
        if record.measured and returned < record.measured[-1].anonymous:
            last = record.measured[-1]
            size = max(SMALLEST_MEASURE, returned)
            record.measured[-1] = Measurement(size, last.mapped, last.alone)
            self._changed[record.key] = None

    def _record(self, spec: ModelSpec, form: str) -> FootprintRecord:
        key = (spec.model_id, self._files.get(spec.model_id, _UNSEEN).file, form)
        return self._records.setdefault(key, FootprintRecord(*key))

    def _read_file(self) -> list[FootprintRecord]:
        # The file is a cache: without it loads are measured again.
        with contextlib.suppress(OSError, ValidationError):
            return _RECORDS.validate_json(read_bounded(self.path, _MAX_FILE_BYTES), strict=True)
        return []

    def _try_to_write(self, records: list[FootprintRecord]) -> bool:
        try:
            self._write_file(records)
        except OSError as error:
            logger.warning("footprints are not remembered: %s", error)
            return False
        return True

    def _write_file(self, records: list[FootprintRecord]) -> None:
        """Write beside, then rename: readers see the old file or the new one, whole."""
        beside = self.path.with_suffix(f".{os.getpid()}.tmp")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(_RECORDS.dump_json(records, indent=1))
        beside.replace(self.path)


def _next_form(spec: ModelSpec) -> str:
    """Return which form of the model would be loaded; empty if the adapter cannot say."""
    try:
        preparation = registry.resolve(spec.adapter).preparation
        return "" if preparation is None else str(preparation.next_form(spec))
    except Exception:  # noqa: BLE001 - an adapter may raise anything; its load will say what is wrong
        return ""


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
    files = itertools.islice(Path(folder).rglob("*"), MAX_FILES_COUNTED)
    return sum(file.stat().st_size for file in files if file.is_file())
