"""Which functions of the package are called, in what order, in whatever thread."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Self

import greenroom

PACKAGE = Path(greenroom.__file__).parent


class CallRecorder:
    """Records calls as (file inside the package, qualified name), inside a `with` block.

    A thread is seen if it was started inside the block. A coroutine that goes on counts as called
    again.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self._prefix = f"{PACKAGE}/"

    def __enter__(self) -> Self:
        threading.setprofile(self._see)
        sys.setprofile(self._see)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def forget(self) -> None:
        """Forget what was called so far."""
        self.calls.clear()

    def _see(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(self._prefix):
            file = code.co_filename.removeprefix(self._prefix)
            self.calls.append((file, code.co_qualname.replace(".<locals>", "")))
