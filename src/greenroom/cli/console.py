"""What people see: tables on standard output, everything else on standard error."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

_UNBOUNDED = 10_000
"""Columns of a table that is read by a program: nothing is cut or wrapped."""


class CommandError(Exception):
    """A command that cannot be carried out; the message is one sentence with the fix."""


def say_error(message: object) -> None:
    """Print one line to standard error."""
    text = " ".join(str(message).split())
    err.print(f"[red bold]error:[/] {escape(text)}", soft_wrap=True)


def note(text: str) -> None:
    """Print a remark to standard error."""
    err.print(escape(text), soft_wrap=True)


def working(text: str) -> AbstractContextManager[Any]:
    """Show that something takes its time, on a terminal; nothing elsewhere."""
    return err.status(escape(text))


def print_json(content: Any) -> None:
    """Print `content` for programs."""
    out.print(json.dumps(content, indent=2, ensure_ascii=False), markup=False, soft_wrap=True)


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()
) -> None:
    """Print rows under headings; the columns named in `right` are numbers.

    The first column is never cut. On a terminal the others wrap, elsewhere nothing does.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    numbers = set(right)
    for place, heading in enumerate(headings):
        justify: Any = "right" if heading in numbers else "left"
        table.add_column(
            heading, justify=justify, no_wrap=place == 0 or heading in numbers, overflow="fold"
        )
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table, width=_UNBOUNDED, soft_wrap=False, crop=False)
    for line in captured.get().splitlines():
        out.print(line.rstrip(), markup=False, soft_wrap=True)


def configure_logging(level: int) -> None:
    """Send what Greenroom logs to standard error; the only place where logging is set up."""
    logger = logging.getLogger("greenroom")
    for handler in logger.handlers[:]:
        if isinstance(handler, _ToStandardError):
            logger.removeHandler(handler)
    handler = _ToStandardError()
    form = "%(asctime)s %(levelname)s %(message)s" if level < logging.WARNING else "%(message)s"
    handler.setFormatter(logging.Formatter(form, "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(level)


class _ToStandardError(logging.Handler):
    """Writes beside a running status line instead of into it."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(self.format(record), markup=False, soft_wrap=True)
