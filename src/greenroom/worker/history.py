"""What a worker did in the last ten minutes, in steps of five seconds, for pages that open later.

Bounded, whatever happens: `STEPS` steps are kept. Speeches count in the step in which they end;
what a step had is the difference between what `SpeechLog` had counted at its end and before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from greenroom.concurrency.cpu_time import CpuTime, cpu_time
from greenroom.model_manager import ModelManager
from greenroom.statistics import ManagerStatistics, ProcessMemoryStatistics
from greenroom.worker.speech_log import SpeechLog, Totals, first_audio_of

STEP_S = 5.0
STEPS = 120


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
    """Requests for speech that ended, and were not refused."""
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


class History:
    """The steps of one worker; all methods on its event loop."""

    def __init__(
        self,
        manager: ModelManager,
        log: SpeechLog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`log` is kept by the same clock, which tells seconds."""
        self._manager = manager
        self._log = log
        self._clock = clock
        self._steps: deque[Step] = deque(maxlen=STEPS)
        self._number = 1
        self._streams = 0
        self._most_streams = 0
        self._told = Totals()
        """What had happened by the end of the last step."""

    def speech_begins(self) -> None:
        """Count a stream that speaks from here on."""
        self._streams += 1
        self._most_streams = max(self._most_streams, self._streams)

    def speech_ends(self) -> None:
        """Count it no longer."""
        self._streams -= 1

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
        totals, told = self._log.totals(found.refused), self._told
        _, recent = self._log.latest(self._clock())
        first_audio = first_audio_of(recent)
        self._steps.append(
            Step(
                number=self._number,
                time=time.time(),
                streams=self._most_streams,
                speeches=totals.speeches - told.speeches,
                first_audio_p50_s=first_audio.p50_s,
                first_audio_p95_s=first_audio.p95_s,
                gaps=totals.gaps - told.gaps,
                late_s=totals.late_s - told.late_s,
                refused=dict(totals.refused - told.refused),
                capacity_used=found.capacity_used,
                cores_busy=cores_busy,
                memory=found.process_memory,
                engines_mb=sum(process.memory_mb or 0.0 for process in found.processes),
            )
        )
        self._number += 1
        self._most_streams = self._streams
        self._told = totals

    def __repr__(self) -> str:
        return f"<History of {len(self._steps)} steps>"
