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

from greenroom.cli.terminal.log_writer import LineWriter, LogHandler
from greenroom.cli.terminal.streams import StandardStream
from greenroom.cli.terminal.tables import table_lines
from greenroom.untrusted.printable import escaped

out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


FLUSH_S = 1.0
"""How long the end of a command waits for what was logged to be written."""

KEY_FIX = "Give another one with --key, or in GREENROOM_API_KEY."
"""What to do, in a command, where a worker wants another key or one at all."""


class CommandError(Exception):
    """A command that cannot be carried out; the message is one sentence with the fix."""


def say_error(message: object) -> None:
    """Print one line to standard error."""
    text = escaped(" ".join(str(message).split()))
    _on_standard_error(Text.assemble(("error:", "red bold"), " ", text))


def tell(text: str) -> None:
    """Print text to standard output; what could move a terminal's cursor is shown, not done."""
    out.print(escaped(text), markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Print a remark to standard error."""
    _on_standard_error(Text(escaped(text)))


def working(text: str) -> AbstractContextManager[Any]:
    """Show that something takes its time, on a terminal; nothing elsewhere."""
    return err.status(escape(escaped(text)))


def reader_is_gone() -> bool:
    """Whether nobody sees what is printed to standard output any more."""
    return getattr(out.file, "problem", None) is not None


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
    if body:
        tell("\n".join(" " * indent + line for line in body))


class _Logging:
    """The log of the command that runs; there is one at a time."""

    writer: LineWriter | None = None
    hurries = False
    """Whether nothing may wait for standard error: not for longer than the log may take."""


@contextlib.contextmanager
def logging_restored() -> Iterator[None]:
    """Leave logging, at the end, as it was; what was logged is written, or given up soon."""
    loggers = [logging.getLogger(), logging.getLogger("greenroom")]
    before = [(each, each.level, each.handlers[:]) for each in loggers]
    raising = logging.raiseExceptions
    try:
        yield
    finally:
        for each, level, handlers in before:
            each.setLevel(level)
            each.handlers[:] = handlers
        logging.raiseExceptions = raising
        writer, _Logging.writer, _Logging.hurries = _Logging.writer, None, False
        if writer is not None:
            writer.close(FLUSH_S)


def configure_logging(level: int, *, hurries: bool = False) -> None:
    """Send what is logged to standard error; the only place where logging is set up.

    Whoever logs never waits for that. Of other libraries warnings are shown. At WARNING and above
    the events of models are left out: a command reports its own failure. With `hurries`, a remark
    does not wait for standard error either.
    """
    _Logging.writer, _Logging.hurries = LineWriter(_write_line), hurries
    handler = LogHandler(_Logging.writer)
    form = "%(asctime)s %(levelname)s %(message)s" if level < logging.WARNING else "%(message)s"
    handler.setFormatter(logging.Formatter(form, "%H:%M:%S"))
    if level >= logging.WARNING:
        handler.addFilter(lambda record: not hasattr(record, "greenroom_kind"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("greenroom").setLevel(level)
    logging.raiseExceptions = False


def _write_line(line: str) -> None:
    """Write beside a running status line instead of into it."""
    stream = err.file
    if isinstance(stream, StandardStream) and not stream.isatty():
        stream.send(f"{line}\n")
    else:
        err.print(line, markup=False, soft_wrap=True)


def _on_standard_error(text: Text) -> None:
    """Print after what was logged before."""
    writer = _Logging.writer
    if writer is not None and _Logging.hurries:
        writer.put(text.plain)
        return
    if writer is not None:
        writer.flush(FLUSH_S)
    err.print(text, soft_wrap=True)
