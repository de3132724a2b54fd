"""What people see: tables on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from greenroom.cli.tables import table_lines
from greenroom.printable import escaped

out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


KEY_FIX = "Give another one with --key, or in GREENROOM_API_KEY."
"""What to do, in a command, where a worker wants another key or one at all."""


class CommandError(Exception):
    """A command that cannot be carried out; the message is one sentence with the fix."""


def say_error(message: object) -> None:
    """Print one line to standard error."""
    text = escaped(" ".join(str(message).split()))
    err.print(f"[red bold]error:[/] {escape(text)}", soft_wrap=True)


def tell(text: str) -> None:
    """Print text to standard output; what could move a terminal's cursor is shown, not done."""
    out.print(escaped(text), markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Print a remark to standard error."""
    err.print(escaped(text), markup=False, soft_wrap=True)


def working(text: str) -> AbstractContextManager[Any]:
    """Show that something takes its time, on a terminal; nothing elsewhere."""
    return err.status(escape(escaped(text)))


def print_json(content: Any) -> None:
    """Print `content` for programs: what is not printable is written as JSON escapes it."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    if not text.isascii():
        text = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    out.print(text, markup=False, soft_wrap=True)


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    wraps: Collection[str] = (),
    right: Collection[str] = (),
    spare: Collection[str] = (),
    indent: int = 0,
) -> None:
    """Print a table to standard output, fitted to the terminal if it is one."""
    width = out.width - indent if out.is_terminal else None
    rows = [[escaped(cell) for cell in row] for row in rows]
    head, *body = table_lines(headings, rows, wraps=wraps, right=right, spare=spare, width=width)
    out.print(Text(" " * indent + head, style="bold"), soft_wrap=True)
    for line in body:
        tell(" " * indent + line)


@contextlib.contextmanager
def logging_restored() -> Iterator[None]:
    """Leave logging, at the end, as it was."""
    logger = logging.getLogger("greenroom")
    level, handlers = logger.level, logger.handlers[:]
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def configure_logging(level: int) -> None:
    """Send what Greenroom logs to standard error; the only place where logging is set up.

    At WARNING and above the events of models are left out: a command reports its own failure.
    """
    logger = logging.getLogger("greenroom")
    handler = _ToStandardError()
    form = "%(asctime)s %(levelname)s %(message)s" if level < logging.WARNING else "%(message)s"
    handler.setFormatter(logging.Formatter(form, "%H:%M:%S"))
    if level >= logging.WARNING:
        handler.addFilter(lambda record: not hasattr(record, "greenroom_kind"))
    logger.addHandler(handler)
    logger.setLevel(level)


class _ToStandardError(logging.Handler):
    """Writes beside a running status line instead of into it."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(escaped(self.format(record)), markup=False, soft_wrap=True)
