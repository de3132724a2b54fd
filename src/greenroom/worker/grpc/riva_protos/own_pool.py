"""The descriptor pool of Riva's messages, apart from the one that all of a process shares.

Riva's own client has messages of the same names. In the shared pool, where generated modules put
theirs, a process with both could import the first of them only.
"""

from __future__ import annotations

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()


def Default() -> DescriptorPool:  # noqa: N802 - the generated modules call it so
    """Return the pool; `make protos` has the generated modules ask here."""
    return POOL
