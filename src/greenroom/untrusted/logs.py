"""Loggers whose handlers may fail: a line that cannot be written ends nothing but itself.

The manager logs in the middle of what must not be left half done. A full disk, a closed pipe or a
handler of the surrounding program must not decide whether a model's room is given back.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import MutableMapping
from typing import Any


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that drops what its handlers cannot write."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Leave message and `extra` as they are."""
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log, whatever the handlers raise."""
        with contextlib.suppress(Exception, SystemExit):
            super().log(level, msg, *args, **{"stacklevel": 2, **kwargs})


def safe_logger(name: str) -> SafeLogger:
    """Return the logger of a module."""
    return SafeLogger(logging.getLogger(name), {})
