"""What nobody expects: values whose every method raises, and errors that bite who looks at them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from greenroom.errors import CapacityError, InvalidInputError, ModelLoadError, WarmupError


class Touchy:
    """An object that raises whatever is done with it."""

    def _raise(self, *args: object) -> Any:
        raise RuntimeError("do not touch")

    __repr__ = __str__ = __bool__ = __iter__ = __len__ = __int__ = __float__ = __index__ = _raise
    __eq__ = __lt__ = __gt__ = __add__ = __radd__ = __hash__ = __format__ = _raise
    __array__ = _raise


class Unhashable:
    """An object that no set can hold."""

    __hash__ = None  # type: ignore[assignment]


class TextThatLies(str):
    """A text that raises when it is asked for itself."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class SilentError(Exception):
    """Its text, its name and its arguments raise."""

    def __str__(self) -> str:
        raise ValueError("this error has no text")

    __repr__ = __str__


class NotATextError(Exception):
    """Its text is none."""

    def __str__(self) -> Any:
        return 7


class OwnLoadError(ModelLoadError):
    """A load error with a signature of its own."""

    def __init__(self, *, path: str) -> None:
        super().__init__("whatever", path, 3.0)
        self.path = path


class BareLoadError(ModelLoadError):
    """A load error that never called its base."""

    def __init__(self) -> None:
        pass


class OwnWarmupError(WarmupError):
    """A warmup error whose time is no number."""

    def __init__(self) -> None:
        super().__init__("whatever", "because")
        self.retry_after = "soon"  # type: ignore[assignment]
        self.problem = None  # type: ignore[assignment]


class OwnInputError(InvalidInputError):
    """Two arguments more than its base has."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")


class UnsettableError(Exception):
    """Nothing of it can be set, the traceback and the cause included."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no cause")


def _itself() -> BaseException:
    error = ValueError("its own cause")
    error.__cause__ = error
    return error


def _its_own_context() -> BaseException:
    error = ValueError("its own context")
    error.__context__ = error
    return error


def _ring() -> BaseException:
    first, second, third = ValueError("one"), KeyError("two"), OSError("three")
    first.__cause__, second.__context__, third.__cause__ = second, third, first
    return first


def _chain() -> BaseException:
    error: BaseException = ValueError("the first")
    for number in range(20_000):
        after = ValueError(f"after {number}")
        after.__cause__ = error
        error = after
    return error


def _group_ring() -> BaseException:
    inner = ValueError("inside")
    group = ExceptionGroup("a group", [inner, OSError("beside it")])
    inner.__cause__ = group
    return group


def _deep_group() -> BaseException:
    error: Exception = ValueError("the innermost")
    for _ in range(500):
        error = ExceptionGroup("around", [error])
    return error


def _hidden_group() -> BaseException:
    return BaseExceptionGroup("a group", [KeyboardInterrupt(), SystemExit(3)])


ERRORS: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: ValueError("plain"),
    "no text": lambda: ValueError(),
    "many lines": lambda: ValueError("one\ntwo\x1b[31m\x00\ud800" * 20),
    "huge text": lambda: ValueError("x" * 3_000_000),
    "silent": SilentError,
    "text is none": NotATextError,
    "unsettable": UnsettableError,
    "itself": _itself,
    "its own context": _its_own_context,
    "ring": _ring,
    "chain": _chain,
    "group": lambda: ExceptionGroup("a group", [ValueError("one"), OSError("two")]),
    "group ring": _group_ring,
    "deep group": _deep_group,
    "hidden group": _hidden_group,
    "own load error": lambda: OwnLoadError(path="/voice"),
    "bare load error": BareLoadError,
    "own warmup error": OwnWarmupError,
    "own input error": lambda: OwnInputError(1, 2),
    "somebody's load error": lambda: ModelLoadError("other", "not mine", math.nan),
    "capacity": lambda: CapacityError("other", "no room", -1.0),
    "timeout": lambda: TimeoutError("the engine's own"),
    "cancelled": asyncio.CancelledError,
    "stop": lambda: StopIteration(3),
    "stop async": StopAsyncIteration,
    "generator exit": GeneratorExit,
    "system exit": lambda: SystemExit(3),
    "keyboard": KeyboardInterrupt,
    "memory": MemoryError,
    "recursion": RecursionError,
    "assertion": AssertionError,
    "not implemented": NotImplementedError,
    "import": lambda: ImportError("libcudart.so.12: cannot open shared object file"),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
    "os": lambda: OSError(28, "No space left on device"),
}
"""By name, so that an input can be written down."""

VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "0": lambda: 0,
    "1": lambda: 1,
    "-1": lambda: -1,
    "10**400": lambda: 10**400,
    "2**63": lambda: 2**63,
    "0.5": lambda: 0.5,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "1e308": lambda: 1e308,
    "np.int64": lambda: np.int64(16_000),
    "np.uint8": lambda: np.uint8(200),
    "np.float32": lambda: np.float32(16_000),
    "np.nan": lambda: np.float64("nan"),
    "np.array": lambda: np.zeros(3),
    "np.bool": lambda: np.bool_(True),
    "decimal": lambda: Decimal("NaN"),
    "complex": lambda: 1j,
    "text": lambda: "16000",
    "empty text": lambda: "",
    "surrogate": lambda: "\ud800",
    "text that lies": lambda: TextThatLies("text"),
    "bytes": lambda: b"\xff",
    "list": lambda: [1, 2],
    "dict": lambda: {"a": 1},
    "set": lambda: {1},
    "a type": lambda: int,
    "a function": lambda: len,
    "touchy": Touchy,
    "unhashable": Unhashable,
    "an error": lambda: ValueError("given, not raised"),
}
"""By name likewise."""
