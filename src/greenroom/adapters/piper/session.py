"""Sessions, which turn phoneme ids into samples: of a voice's own file or of its prepared form."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from greenroom.adapters.piper import cuda
from greenroom.adapters.piper.phoneme_runs import LONGEST_IDS
from greenroom.adapters.piper.prepared.run.arena import ArenaShrinker
from greenroom.adapters.piper.prepared.run.fifo_lock import FifoLock
from greenroom.adapters.piper.prepared.run.prepared_voice import (
    ONNXRUNTIME,
    Lengths,
    PreparedVoice,
    sentence,
)
from greenroom.adapters.piper.prepared.run.shared_graphs import cpu_session
from greenroom.adapters.piper.prepared.run.stage import shrinking
from greenroom.adapters.piper.prepared.store.lookup import switched_off
from greenroom.adapters.piper.prepared.store.store import default_store
from greenroom.catalog.devices import gpu_of
from greenroom.concurrency.cores import cores
from greenroom.memory.usage import MIB
from greenroom.speech.pace import mark_last
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

Samples = NDArray[np.float32]

PREPARED, OWN_FILE = "prepared", "own file"
"""The forms in which a voice can be in memory."""

_SESSION_FACTOR = 1.3
"""A session takes this many times its file while it rests: measured 1.26 for a medium voice."""

_BYTES_PER_ID = int(0.57 * MIB)
"""What a run takes for each id of its text: measured 0.50 to 0.56 MiB, growing with the length."""

CPU_LOCK = FifoLock()
"""One run at a time, of all `CpuSession`s: a run uses every core, so two at once would take twice
the memory and be done no sooner."""


class Session(Protocol):
    """Speaks sentences. Any number of threads may be inside `speak`."""

    @property
    def looks_ahead(self) -> bool:
        """Whether the next sentence may begin while one is spoken."""

    @property
    def footprint_bytes(self) -> int | None:
        """Anonymous memory, where it is known."""

    @property
    def mapped_bytes(self) -> int | None:
        """Memory of mapped files, where it is known."""

    @property
    def shared_memory(self) -> tuple[str, int] | None:
        """Name and bytes of what it has in common with other sessions, where there is any."""

    @property
    def knows_lengths(self) -> bool:
        """Whether it knows how many samples each text id has."""

    def speak(
        self, feeds: Mapping[str, NDArray[Any]], take_lengths: Lengths | None = None
    ) -> Generator[Samples, None, None]:
        """Yield the samples of one sentence, shape `(n,)`, in pieces.

        `take_lengths` is called before the first piece, if the session `knows_lengths`.
        """

    def close(self) -> None:
        """Give the memory back."""


class CpuSession:
    """The voice's file as it is, in a session of its own on the CPU; a sentence is one piece.

    Runs follow one another in the order of arrival, and what the longest of them took is given back
    when none has run for half a second.
    """

    looks_ahead = False
    knows_lengths = False
    mapped_bytes: int | None = 0
    shared_memory: tuple[str, int] | None = None

    def __init__(self, model: Path, threads: int) -> None:
        """Read and optimise the graph; raises what onnxruntime raises."""
        self._session = cpu_session(model, threads, optimise=True)
        self.footprint_bytes: int | None = own_file_footprint(model.stat().st_size)
        self._shrinker = ArenaShrinker()
        self._shrinker.add(self._shrink_arena)

    def speak(
        self, feeds: Mapping[str, NDArray[Any]], take_lengths: Lengths | None = None
    ) -> Generator[Samples, None, None]:
        """Yield the whole sentence."""
        with self._shrinker.in_use(self._shrink_arena), CPU_LOCK.hold():
            samples = self._session.run(None, dict(feeds))[0].reshape(-1)
        mark_last()
        yield samples

    def _shrink_arena(self) -> None:
        """Run on next to nothing, so that the arena drops what earlier runs took."""
        inputs = {value.name for value in self._session.get_inputs()}
        feeds = {name: array for name, array in sentence(1).items() if name in inputs}
        self._session.run(None, feeds, shrinking())

    def close(self) -> None:
        """Drop the session."""
        self._shrinker.remove(self._shrink_arena)
        self._session = None


class GpuSession:
    """The voice's file in the memory of a GPU; a sentence is one piece."""

    looks_ahead = False
    knows_lengths = False
    footprint_bytes: int | None = None
    mapped_bytes: int | None = None
    shared_memory: tuple[str, int] | None = None

    def __init__(self, model: Path, threads: int, gpu: int) -> None:
        """Read and optimise the graph; raises `ConfigError` or what onnxruntime raises."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = cuda.gpu_session(model, options, gpu)

    def speak(
        self, feeds: Mapping[str, NDArray[Any]], take_lengths: Lengths | None = None
    ) -> Generator[Samples, None, None]:
        """Yield the whole sentence."""
        samples = self._session.run(None, dict(feeds))[0].reshape(-1)
        mark_last()
        yield samples

    def close(self) -> None:
        """Drop the session."""
        self._session = None


def own_file_footprint(file_bytes: int) -> int:
    """Return what a voice takes on its own file while it says the longest piece of text."""
    return int(file_bytes * _SESSION_FACTOR) + LONGEST_IDS * _BYTES_PER_ID


def open_session(model: Path, device: str, options: Mapping[str, Any], sample_rate: int) -> Session:
    """Return the prepared voice, or its own file while there is none that can be used."""
    gpu = gpu_of(device)
    if gpu is not None:
        return GpuSession(model, _threads(options), gpu)
    prepared = open_prepared(model, device, options, sample_rate)
    return prepared or open_own_file(model, options)


def open_prepared(
    model: Path, device: str, options: Mapping[str, Any], sample_rate: int
) -> PreparedVoice | None:
    """Return the prepared voice; `None`, and one warning, where there is none that can be used."""
    if not may_be_prepared(device, options):
        return None
    files = default_store().find(model)
    if files is None:
        return None
    linger = float(options.get("linger", 0.0))
    try:
        threads = int(options.get("threads", 1))
        return PreparedVoice(
            files,
            threads=threads,
            linger=linger,
            sample_rate=sample_rate,
            runtime=str(options.get("runtime", ONNXRUNTIME)),
        )
    except Exception as error:  # noqa: BLE001 - the file serves, and the warning says what is wrong
        logger.warning("%s: its prepared form cannot be used: %s", model.name, error)
        return None


def open_own_file(model: Path, options: Mapping[str, Any]) -> CpuSession:
    """Return the voice's file as it is, on the CPU."""
    return CpuSession(model, _threads(options))


def may_be_prepared(device: str, options: Mapping[str, Any]) -> bool:
    """Whether a prepared form of such a model is made and used: it is for the CPU only."""
    return gpu_of(device) is None and bool(options.get("prepare", 1)) and not switched_off()


def _threads(options: Mapping[str, Any]) -> int:
    return int(options.get("threads", cores()))
