"""What turns phoneme ids into samples: the voice's own file, or its prepared form."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from greenroom.adapters.piper import cuda
from greenroom.devices import gpu_of
from greenroom.prepared import background
from greenroom.prepared.crew import cores
from greenroom.prepared.looking import switched_off
from greenroom.prepared.runtime import default_store
from greenroom.prepared.voice import PreparedVoice

logger = logging.getLogger(__name__)

Samples = NDArray[np.float32]

PREPARED, OWN_FILE = "prepared", "own file"
"""The forms in which a voice can be in memory."""


class Engine(Protocol):
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

    def speak(self, feeds: Mapping[str, NDArray[Any]]) -> Generator[Samples, None, None]:
        """Yield the samples of one sentence, shape `(n,)`, in pieces."""

    def close(self) -> None:
        """Give the memory back."""


class OwnSession:
    """The voice's file as it is, in a session of its own; each sentence is one piece."""

    looks_ahead = False
    footprint_bytes: int | None = None
    mapped_bytes: int | None = None

    def __init__(self, model: Path, threads: int, gpu: int | None = None) -> None:
        """Read and optimise the graph; raises what onnxruntime raises."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if gpu is not None:
            self._session = cuda.session(model, options, gpu)
            return
        self._session = onnxruntime.InferenceSession(
            str(model), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def speak(self, feeds: Mapping[str, NDArray[Any]]) -> Generator[Samples, None, None]:
        """Yield the whole sentence."""
        yield self._session.run(None, dict(feeds))[0].reshape(-1)

    def close(self) -> None:
        """Drop the session."""
        self._session = None


def open_engine(model: Path, device: str, options: Mapping[str, Any]) -> Engine:
    """Return the prepared voice, or its own file while there is none that can be used."""
    threads = int(options.get("threads", cores()))
    if not may_be_prepared(device, options):
        return OwnSession(model, threads, gpu_of(device))
    files = default_store().find(model)
    if files is not None:
        try:
            return PreparedVoice(files, threads=threads, linger=float(options.get("linger", 0.0)))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the file serves
            logger.warning("%s: its prepared form cannot be used: %s", model.name, error)
    engine = OwnSession(model, threads)
    background.prepare(model)
    return engine


def may_be_prepared(device: str, options: Mapping[str, Any]) -> bool:
    """Whether a prepared form of such a model is made and used: it is for the CPU only."""
    return gpu_of(device) is None and bool(options.get("prepare", 1)) and not switched_off()
