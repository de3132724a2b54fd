"""A fresh interpreter for a measurement that another one would disturb."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Apart:
    """A process of its own for as long as the `with` block lasts; functions of a module run in it.

    What one call leaves in the globals of its module is there for the next.
    """

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown()

    def __call__(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function there and return its result."""
        return self._pool.submit(call, *args, **kwargs).result()


def apart(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function of a module in a process of its own and return its result."""
    with Apart() as process:
        return process(call, *args, **kwargs)
