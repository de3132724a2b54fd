"""Public fakes: a voice whose every step can be held, failed and watched, and a clock that waits.

With these a test of code that uses a `ModelManager` needs neither sleeps nor real voices::

    stage = Stage("amy", "joe")
    manager = ModelManager(catalog=stage.catalog, default_model_id="joe")
    stage["amy"].load.hold()            # the next load of amy stays inside the engine
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextvars import Context
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, ClassVar, TypeVar, TypeVarTuple

import numpy as np

from greenroom.adapter import ModelSpec, TTSAdapter
from greenroom.audio.frames import AudioChunk
from greenroom.catalog.catalog import Catalog
from greenroom.concurrency.threads import running_calls
from greenroom.memory.usage import MIB

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LONGEST_HOLD = 60.0
"""Seconds after which a step that no test opens fails, so that its thread ends."""

_ROUNDS = 30
"""Turns of the loop: more than a chain of callbacks takes to its end."""


class Gate:
    """A step of a fake engine: passes, waits until it is opened, or raises."""

    _held: ClassVar[int] = 0
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self.error: BaseException | type[BaseException] | None = None
        """Raised by every pass, until it is `None` again."""
        self._open = threading.Event()
        self._open.set()
        self._here = 0

    @classmethod
    def held(cls) -> int:
        """Return how many threads wait at gates now."""
        return cls._held

    def hold(self) -> None:
        """Let nobody pass until `open`."""
        self._open.clear()

    def open(self) -> None:
        """Let everybody pass."""
        with Gate._lock:
            Gate._held -= self._here
            self._here = 0
            self._open.set()

    def _leave_closed(self) -> None:
        """Count one waiting thread fewer, unless `open` has counted it off meanwhile.

        Else all clocks of later tests would take a thread that runs for one that waits here.
        """
        with Gate._lock:
            if not self._open.is_set():
                self._here -= 1
                Gate._held -= 1

    @property
    def waiting(self) -> int:
        """The number of threads that wait here."""
        return self._here

    def go_through(self) -> None:
        """Pass, in the engine's thread."""
        with Gate._lock:
            held = not self._open.is_set()
            self._here += held
            Gate._held += held
        if held and not self._open.wait(_LONGEST_HOLD):
            self._leave_closed()
            raise TimeoutError("a gate was never opened")
        if self.error is not None:
            raise self.error


@dataclass
class Script:
    """How one model behaves, and what has happened to it."""

    construct: Gate = field(default_factory=Gate)
    load: Gate = field(default_factory=Gate)
    warm_up: Gate = field(default_factory=Gate)
    synthesize: Gate = field(default_factory=Gate)
    """Passed before every chunk but those of the warmup."""
    unload: Gate = field(default_factory=Gate)
    chunks: int = 5
    """Chunks of 100 ms per sentence."""
    amplitude: float = 0.5
    spoken_rate: int | None = None
    """Hz of the chunks, when it shall differ from what the model says."""
    footprint: int | None = None
    """Bytes that the adapter states; `None` states what the catalog does, or none."""
    mapped: int = 0
    """Bytes of mapped files that the adapter states."""
    shared: tuple[str, int] | None = None
    """Name and bytes of what the adapter states to have in common with others."""
    measured: bool = False
    """Whether the adapter states nothing, so that the manager measures the process."""
    calls: Counter[str] = field(default_factory=Counter)
    """How often each step was begun: construct, load, warm_up, synthesize, unload."""
    said: list[str] = field(default_factory=list)
    """The sentences spoken, without the warmup."""
    options: list[Mapping[str, Any]] = field(default_factory=list)


class Stage:
    """Fake models by name: their scripts, and what all of them did together."""

    def __init__(
        self, *names: str, sample_rate: int = 16_000, concurrency: int | None = None, **spec: Any
    ) -> None:
        self.scripts = {name: Script() for name in names}
        self.living: weakref.WeakSet[TTSAdapter] = weakref.WeakSet()
        """Every adapter object that exists."""
        self.loaded = 0
        self.peak = 0
        """The most models that were between the begin of load and the end of unload at once."""
        self._lock = threading.Lock()
        attributes = {"stage": self, "sample_rate": sample_rate, "concurrency": concurrency}
        self.adapter: type[TTSAdapter] = type("StagedAdapter", (_StagedAdapter,), attributes)
        self.catalog = Catalog([ModelSpec(name, self.adapter, **spec) for name in names])

    def __getitem__(self, name: str) -> Script:
        return self.scripts[name]

    def count(self, change: int) -> None:
        """Count a model in or out."""
        with self._lock:
            self.loaded += change
            self.peak = max(self.peak, self.loaded)

    def open_all(self) -> None:
        """Open every gate, so that no thread is left waiting."""
        for script in self.scripts.values():
            gates = (script.construct, script.load, script.warm_up, script.synthesize)
            for gate in (*gates, script.unload):
                gate.open()


class _StagedAdapter(TTSAdapter):
    stage: ClassVar[Stage]

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.script = self.stage[spec.model_id]
        self._in = False
        self._warm = False
        self._pass("construct", self.script.construct)
        self.stage.living.add(self)

    def _pass(self, step: str, gate: Gate) -> None:
        self.script.calls[step] += 1
        gate.go_through()

    def load(self) -> None:
        self._in = True
        self.stage.count(+1)
        self._pass("load", self.script.load)

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        warm, self._warm = self._warm, True
        if warm:
            self.script.calls["synthesize"] += 1
            self.script.said.append(text)
            self.script.options.append(options)
        else:
            self._pass("warm_up", self.script.warm_up)
        rate = self.script.spoken_rate or self.sample_rate
        count = rate // 10
        for _ in range(self.script.chunks):
            if warm:
                self.script.synthesize.go_through()
            yield AudioChunk(np.full(count, self.script.amplitude, np.float32), rate)

    def footprint_bytes(self) -> int | None:
        if self.script.measured:
            return None
        if self.script.footprint is None:
            return int((self.spec.footprint_mb or 0) * MIB)
        return self.script.footprint

    def mapped_bytes(self) -> int | None:
        return None if self.script.measured else self.script.mapped

    def shared_memory(self) -> tuple[str, int] | None:
        return self.script.shared

    def unload(self) -> None:
        try:
            self._pass("unload", self.script.unload)
        finally:
            if self._in:
                self._in = False
                self.stage.count(-1)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still until a test moves it.

    Threads run in real time meanwhile; `settle` waits for them.
    """

    def __init__(self) -> None:
        self._now = 1_000.0
        self._moments: list[float] = []
        self._executing = 0
        """Calls in the loop's own executors, such as those of `asyncio.to_thread`."""
        super().__init__()

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Schedule, and remember the moment as one to stop at."""
        heappush(self._moments, when)
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run in a thread, and count that it runs."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._executing += 1
        future.add_done_callback(self._executed)
        return future

    def _executed(self, _: asyncio.Future[Any]) -> None:
        self._executing -= 1

    def _running(self) -> int:
        return running_calls() + self._executing

    async def advance(self, seconds: float) -> None:
        """Move time on, stopping at every timer on the way; settle before, between and after."""
        target = self._now + seconds
        await self.settle()
        while self._moments and self._moments[0] <= target:
            self._now = max(self._now, heappop(self._moments))
            await self.settle()
        self._now = target
        await self.settle()

    async def settle(self) -> None:
        """Return when nothing more happens by itself: all threads rest or wait at gates.

        A call counts as running until its outcome is on its way to the loop. So when no thread
        runs, all that can still happen is callbacks, which get their turns; the second look is for
        those that start a thread.
        """
        while True:
            for _ in range(_ROUNDS):
                await asyncio.sleep(0)
            before = self._running()
            if before <= Gate.held():
                for _ in range(_ROUNDS):
                    await asyncio.sleep(0)
                if self._running() == before and before <= Gate.held():
                    return
            await self.run_in_executor(None, time.sleep, 0.0002)
