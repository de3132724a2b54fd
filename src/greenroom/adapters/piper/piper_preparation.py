"""The `Preparation` of Piper voices: by a process of its own, into a store in the user's cache."""

from __future__ import annotations

import sys
from pathlib import Path

from greenroom.adapter import ModelSpec, Preparation
from greenroom.adapters.piper.prepared.store.identity import resolved
from greenroom.adapters.piper.prepared.store.lookup import SWITCH, is_prepared, switched_off
from greenroom.adapters.piper.prepared.store.store import default_store
from greenroom.adapters.piper.session import OWN_FILE, PREPARED, may_be_prepared
from greenroom.memory.usage import MIB

_PYTHON_BYTES = 80 * MIB
"""Of the interpreter with onnx and onnxruntime."""

_FILE_FACTOR = 5.2
"""Times the file: measured 5.1, for two parsed copies and what a stage is optimised with."""


class PiperPreparation(Preparation):
    """Cuts a voice into a graph that voices share, and weights that are mapped: see `prepared`."""

    def is_prepared(self, spec: ModelSpec) -> bool | None:
        """Whether the next load of the voice in this process's cache directory is a fast one."""
        if spec.path is None or not may_be_prepared(spec.device, spec.options):
            return None
        return is_prepared(Path(spec.path))

    def next_form(self, spec: ModelSpec) -> str:
        """Return `prepared` where the next load takes that form, else `own file`."""
        return PREPARED if self.is_prepared(spec) else OWN_FILE

    def command(self, spec: ModelSpec) -> list[str]:
        """Return the command line that prepares the voice's file, one for all models of it."""
        module = "greenroom.adapters.piper.prepared.build.pipeline"
        return [sys.executable, "-m", module, str(resolved(Path(spec.path or "")))]

    def memory_bytes(self, spec: ModelSpec) -> int:
        """Return the anonymous memory that preparing takes at its peak; raises `OSError`."""
        return _PYTHON_BYTES + int(Path(spec.path or "").stat().st_size * _FILE_FACTOR)

    def prune(self, *, everything: bool) -> int:
        """Remove voices of other runtimes or without a source, and what exceeds the limit."""
        return default_store().prune(everything=everything)

    def switched_off(self) -> str:
        """Return that the environment switches it off, if it does."""
        if not switched_off():
            return ""
        return f"{SWITCH} is off, so nothing prepared would be used; unset it."
