"""Call code that others wrote and leave it behind when it does not end: `within`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class NeverEndedError(Exception):
    """A call outlasted its limit; its thread goes on, and ends with the process at the latest."""


def within(limit_s: float, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise what it raises, as long as it ends within the limit.

    Raises `NeverEndedError`. It runs in a thread, so Ctrl-C ends the wait.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - carried over to the caller
            outcome.set_exception(error)

    threading.Thread(target=run, name="greenroom-time-limit", daemon=True).start()
    try:
        return outcome.result(limit_s)
    except TimeoutError:
        if outcome.done():  # it is the call's own
            raise
        raise NeverEndedError(f"it did not end within {limit_s:g} s") from None
