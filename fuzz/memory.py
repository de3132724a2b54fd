"""By how much the process grew while something ran."""

from __future__ import annotations

import resource
from collections.abc import Callable


def growth(call: Callable[[], object]) -> int:
    """Return the bytes by which the most that was ever resident rose.

    The most never falls, so of several large inputs only the first one shows.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
