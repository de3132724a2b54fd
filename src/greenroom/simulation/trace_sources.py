"""Where a trace comes from: a specification of one that is generated, or a file."""

from __future__ import annotations

from pathlib import Path

from greenroom.errors import TraceError
from greenroom.simulation.generator import PREFIX, generate, parse_workload
from greenroom.simulation.recorded_trace import is_recorded, read_recorded
from greenroom.simulation.trace import Trace
from greenroom.untrusted.bounded_files import read_bounded, read_failure

MOST_BYTES = 1 << 30
"""Of a file: about ten million requests."""


def read_trace(source: str) -> Trace:
    """Return the trace of a specification or a file; raises `TraceError`."""
    if source.startswith(PREFIX):
        return generate(parse_workload(source))
    lines = _text(Path(source)).splitlines()
    try:
        if lines and is_recorded(lines[0]):
            return read_recorded(lines)
    except TraceError as error:
        raise TraceError(f"{source}: {error}") from None
    raise TraceError(
        f"{source} is no trace; give a file that `greenroom record` wrote, "
        f"or `{PREFIX}KEY=VALUE,...`."
    )


def _text(path: Path) -> str:
    try:
        return read_bounded(path, MOST_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        raise TraceError(f"{path} {read_failure(error)}.") from None
