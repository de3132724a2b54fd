"""Where a trace comes from: a specification of one that is generated, or a file."""

from __future__ import annotations

import zlib
from pathlib import Path

from greenroom.errors import TraceError
from greenroom.simulation.csv_trace import Assumptions, read_csv
from greenroom.simulation.generator import PREFIX, generate, parse_workload
from greenroom.simulation.recorded_trace import is_recorded, read_recorded
from greenroom.simulation.trace import Trace
from greenroom.untrusted.bounded_files import read_bounded, read_failure

MOST_BYTES = 1 << 30
"""Of a file, unpacked: about ten million requests."""


def read_trace(source: str, assumed: Assumptions | None = None) -> Trace:
    """Return the trace of a specification or a file; raises `TraceError`.

    A file is one that `greenroom record` wrote, or a CSV that `csv_trace` knows, packed by gzip or
    not.
    """
    if source.startswith(PREFIX):
        return generate(parse_workload(source))
    path = Path(source)
    lines = _text(path).splitlines()
    try:
        if lines and is_recorded(lines[0]):
            return read_recorded(lines)
        if lines and "," in lines[0]:
            return read_csv(lines, assumed or Assumptions(), lambda *words: _beside(path, *words))
    except TraceError as error:
        raise TraceError(f"{source}: {error}") from None
    raise TraceError(
        f"{source} is no trace; give a file that `greenroom record` wrote, "
        f"a CSV, or `{PREFIX}KEY=VALUE,...`."
    )


def _beside(path: Path, word: str, other: str) -> str | None:
    """Return the text of the file that is named like this one but for a word, if there is one."""
    found = path.with_name(path.name.replace(word, other))
    return _text(found) if found != path and found.is_file() else None


def _text(path: Path) -> str:
    try:
        content = read_bounded(path, MOST_BYTES)
        if path.suffix == ".gz":
            content = _unpacked(content)
        return content.decode("utf-8-sig", "replace")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        failure = error if isinstance(error, OSError | ValueError) else ValueError(str(error))
        raise TraceError(f"{path} {read_failure(failure)}.") from None


def _unpacked(content: bytes) -> bytes:
    # Little by little: a small file may unpack to more than the memory has.
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    text = unpacker.decompress(content, MOST_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError(f"unpacks to more than {MOST_BYTES >> 20} MiB")
    if not unpacker.eof:
        raise ValueError("it is cut off")
    return text
