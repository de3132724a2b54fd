"""How many files this process may have open, and how many connections that allows."""

from __future__ import annotations

import resource

_MOST = 4_096
"""Connections of one server, however many files may be open."""


def raise_limit() -> None:
    """Allow as many open files as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connection_limit() -> int:
    """Return how many connections one of the worker's two servers may have.

    Half of the files are left for models and whatever else there is.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(1, min(_MOST, soft // 4))
