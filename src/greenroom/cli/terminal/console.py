"""The console: results on standard output, everything else on standard error, and the log."""

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
"""How long the end of a command waits for logged lines to be written."""

KEY_FIX = "Give one of its keys with --key, or in GREENROOM_API_KEY."
"""The fix where a worker requires a key, or another one."""


class CommandError(Exception):
    """A command cannot be carried out; the message is one sentence with the fix."""


def print_error(message: object) -> None:
    """Print one line to standard error."""
    text = escaped(" ".join(str(message).split()))
    _on_standard_error(Text.assemble(("error:", "red bold"), " ", text))


def print_text(text: str) -> None:
    """Print text to standard output, with control characters escaped."""
    out.print(escaped(text), markup=False, soft_wrap=True)


def print_note(text: str) -> None:
    """Print a remark to standard error."""
    _on_standard_error(Text(escaped(text)))


def spinner(text: str) -> AbstractContextManager[Any]:
    """Show a spinner with `text` during the block, on a terminal; nothing elsewhere."""
    return err.status(escape(escaped(text)))


def output_failed() -> bool:
    """Whether printing is of no use any more: the last write to standard output failed."""
    return getattr(out.file, "problem", None) is not None


def print_json(content: Any) -> None:
    """Print `content` as JSON; characters that are not printable are escaped."""
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
    spare: Sequence[str] = (),
    indent: int = 0,
) -> None:
    """Print a table to standard output, fitted to its width if that is a terminal."""
    width = out.width - indent if out.is_terminal else None
    rows = [[escaped(cell) for cell in row] for row in rows]
    head, *body = table_lines(headings, rows, wraps=wraps, right=right, spare=spare, width=width)
    out.print(Text(" " * indent + head, style="bold"), soft_wrap=True)
    if body:
        print_text("\n".join(" " * indent + line for line in body))


class _Logging:
    """The log of the command that runs; there is one at a time."""

    writer: LineWriter | None = None
    never_waits = False
    """Whether messages, too, are queued instead of waiting for standard error."""


@contextlib.contextmanager
def logging_restored() -> Iterator[None]:
    """Restore logging at the end; what was logged is written first, for at most `FLUSH_S`."""
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
        writer, _Logging.writer, _Logging.never_waits = _Logging.writer, None, False
        if writer is not None:
            writer.close(FLUSH_S)


def configure_logging(level: int, *, never_waits: bool = False) -> None:
    """Send log records to standard error; the only place where logging is set up.

    A thread writes them, so that logging never blocks. Of other libraries warnings are shown. At
    WARNING and above the events of models are left out: a command reports its own failure. With
    `never_waits` messages do not wait for standard error either.
    """
    _Logging.writer, _Logging.never_waits = LineWriter(_write_line), never_waits
    handler = LogHandler(_Logging.writer)
    form = "%(asctime)s %(levelname)s %(message)s" if level < logging.WARNING else "%(message)s"
    handler.setFormatter(logging.Formatter(form, "%H:%M:%S"))
    if level >= logging.WARNING:
        handler.addFilter(lambda record: not hasattr(record, "greenroom_kind"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("greenroom").setLevel(level)
    logging.raiseExceptions = False


def _write_line(line: str) -> None:
    """Write one line of the log: past a running spinner if there is one, not into it."""
    stream = err.file
    if isinstance(stream, StandardStream) and not stream.isatty():
        stream.send(f"{line}\n")
    else:
        err.print(line, markup=False, soft_wrap=True)


def _on_standard_error(text: Text) -> None:
    """Print a message after the lines that were logged before it."""
    writer = _Logging.writer
    if writer is not None and _Logging.never_waits:
        writer.put(text.plain)
        return
    if writer is not None:
        writer.flush(FLUSH_S)
    err.print(text, soft_wrap=True)
