"""How much of the processors the control groups of this process allow, as in a container.

A group that has computed for its quota stands still, with all its threads, until its next period,
usually of 0.1 s. The number of processors that the process sees says nothing of it.
"""

from __future__ import annotations

import math
from pathlib import Path

from greenroom.untrusted.control_groups import PROC, binding_folders, positive, text_of

_V2_FILE = "cpu.max"
_V1_QUOTA, _V1_PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


def cpu_quota(proc: Path = PROC) -> float:
    """Return the seconds that this process may compute each second; infinite without a limit.

    The smallest quota of its groups and all their parents. Reads files: call off the loop.
    """
    found = (_quota_at(folder, version) for version, folder in binding_folders("cpu", proc))
    return min(found, default=math.inf)


def _quota_at(folder: Path, version: int) -> float:
    if version == 2:
        told = text_of(folder / _V2_FILE).split()
    else:
        told = [text_of(folder / _V1_QUOTA), text_of(folder / _V1_PERIOD)]
    numbers = [positive(text) for text in told]
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        return math.inf
    return numbers[0] / numbers[1]
