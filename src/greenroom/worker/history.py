"""What a worker did in the last ten minutes, in steps of five seconds, for pages that open later.

Bounded, whatever happens: `STEPS` steps are kept, and the latest times until first audio of at most
`_MOST_TIMES` speeches. Speeches count in the step in which they end.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from greenroom.concurrency.cpu_time import CpuTime, cpu_time
from greenroom.model_manager import ModelManager
from greenroom.statistics import ManagerStatistics, ProcessMemoryStatistics
from greenroom.worker.speech import Timing

STEP_S = 5.0
STEPS = 120

_WINDOW = 12
"""Steps, a minute, of which each has the percentiles: one alone may have no speech, or one."""

_MOST_TIMES = 2_000


@dataclass(frozen=True, slots=True)
class Step:
    """One step, or what was so at its end."""

    number: int
    """Counts from 1 on."""
    time: float
    """When it ended, in seconds since the epoch."""
    streams: int
    """The most that spoke at once."""
    speeches: int
    """Requests for speech that had their model and ended."""
    first_audio_p50_s: float | None
    """Of the speeches of the last minute, from the request to its first frame; `None` without."""
    first_audio_p95_s: float | None
    gaps: int
    """Silences of more than 20 ms in the midst of speech."""
    late_s: float
    """Seconds of silence in the midst of speech."""
    refused: Mapping[str, int]
    """Requests that were refused, by reason: the manager's, and the worker's limits."""
    capacity_used: float
    """The share of the cores that all streams need to be kept up."""
    cores_busy: float
    """Cores that this process and its engines' kept busy, on average."""
    memory: ProcessMemoryStatistics | None
    """Of this process, as `ManagerStatistics.process_memory` has it."""
    engines_mb: float
    """Of the processes that engines have of their own, in proportion likewise."""


class _Tally:
    """What has happened in the step that is under way."""

    def __init__(self, streams: int) -> None:
        self.most_streams = streams
        self.speeches = 0
        self.gaps = 0
        self.late_s = 0.0
        self.refused: Counter[str] = Counter()


class History:
    """The steps of one worker; all methods on its event loop."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager
        self._steps: deque[Step] = deque(maxlen=STEPS)
        self._times: deque[tuple[int, float]] = deque(maxlen=_MOST_TIMES)
        """The step and the time until first audio of the latest speeches."""
        self._number = 1
        self._streams = 0
        self._tally = _Tally(0)
        self._refused_before: Mapping[str, int] = {}

    # What is counted

    def speech_begins(self) -> None:
        """Count a stream that speaks from here on."""
        self._streams += 1
        self._tally.most_streams = max(self._tally.most_streams, self._streams)

    def speech_ends(self, timing: Timing) -> None:
        """Count it as ended."""
        self._streams -= 1
        self._tally.speeches += 1
        self._tally.gaps += timing.gaps
        self._tally.late_s += timing.late_s
        if timing.first_audio_s is not None:
            self._times.append((self._number, timing.first_audio_s))

    def refused(self, reason: str) -> None:
        """Count a request that was refused for one of the worker's limits."""
        self._tally.refused[reason] += 1

    # What is told

    def steps(self, after: int = 0) -> tuple[Step, ...]:
        """Return the steps that are kept, oldest first; of those only what came `after` one."""
        return tuple(step for step in self._steps if step.number > after)

    async def follow(self) -> None:
        """End a step every `STEP_S` seconds, until it is cancelled."""
        before = await self._look() or cpu_time()
        while True:
            await asyncio.sleep(STEP_S)
            now = await self._look() or before
            self.end_step(self._manager.statistics(), now.cores_since(before))
            before = now

    async def _look(self) -> CpuTime | None:
        """Return what all processes have used; `None` where no thread can be had to look."""
        engines = [process.pid for process in self._manager.statistics().processes]
        if not engines:
            return cpu_time()
        with contextlib.suppress(RuntimeError):
            return await asyncio.to_thread(cpu_time, engines)
        return None

    def end_step(self, found: ManagerStatistics, cores_busy: float) -> None:
        """Keep what the step had, and begin the next one."""
        tally, number = self._tally, self._number
        tally.refused.update(_more(found.refused, self._refused_before))
        self._refused_before = found.refused
        times = sorted(seconds for step, seconds in self._times if step > number - _WINDOW)
        self._steps.append(
            Step(
                number=number,
                time=time.time(),
                streams=tally.most_streams,
                speeches=tally.speeches,
                first_audio_p50_s=percentile(times, 0.5),
                first_audio_p95_s=percentile(times, 0.95),
                gaps=tally.gaps,
                late_s=tally.late_s,
                refused=dict(tally.refused),
                capacity_used=found.capacity_used,
                cores_busy=cores_busy,
                memory=found.process_memory,
                engines_mb=sum(process.memory_mb or 0.0 for process in found.processes),
            )
        )
        self._number += 1
        self._tally = _Tally(self._streams)

    def __repr__(self) -> str:
        return f"<History of {len(self._steps)} steps>"


def percentile(sorted_times: Sequence[float], share: float) -> float | None:
    """Return the smallest value that `share` of them do not exceed; `None` of none."""
    if not sorted_times:
        return None
    return sorted_times[max(0, math.ceil(share * len(sorted_times)) - 1)]


def _more(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {
        reason: count - before.get(reason, 0)
        for reason, count in now.items()
        if count > before.get(reason, 0)
    }
