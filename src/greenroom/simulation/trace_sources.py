"""Where a trace comes from: a specification of one that is generated, or a file."""

from __future__ import annotations

from greenroom.errors import TraceError
from greenroom.simulation.generator import PREFIX, generate, parse_workload
from greenroom.simulation.trace import Trace


def read_trace(source: str) -> Trace:
    """Return the trace of a specification or a file; raises `TraceError`."""
    if source.startswith(PREFIX):
        return generate(parse_workload(source))
    raise TraceError(f"{source} is no trace; give `{PREFIX}KEY=VALUE,...`.")
