"""The hosts of speaking models: each stream is counted, run in threads and limited here.

A turn in a model lasts from the first step of a sentence to its end, so that an engine made for
one sentence at a time never sees the steps of two. The next turn is the most urgent stream's, and
a stream that holds one while another waits is as urgent as that, and finishes its sentence without
waiting for its listener. Each step waits for a core, in the order of the scheduler.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from greenroom.concurrency.priority_semaphore import PrioritySemaphore
from greenroom.concurrency.threads import (
    DaemonExecutor,
    ExecutorBusyError,
    NoThreadError,
    OverdueError,
    run_to_end,
)
from greenroom.errors import (
    EngineCrashedError,
    ModelManagerError,
    ModelNotResidentError,
    OverloadedError,
    SynthesisError,
)
from greenroom.speech.cost import SpeechCost
from greenroom.speech.dispatcher import Dispatcher
from greenroom.speech.pace import Pace
from greenroom.speech.scheduler import StreamState
from greenroom.speech.use import Speaking

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StatedVoice:
    """What is known of how a loaded model speaks."""

    sample_rate: int
    """Hz of its chunks."""
    concurrency: int | None
    """Sentences that may be spoken at once; `None` when any number may."""


class ModelHost:
    """The `Host` of one resident.

    `opened` and `closed` are called once for each stream; `closed` with the loop's time at which it
    began, and only when no thread of the stream is inside the model, however its caller has gone.
    `silent` is called with the reason when
    a stream falls silent in the midst of speech, once for each.
    """

    def __init__(
        self,
        model_id: str,
        *,
        executor: DaemonExecutor,
        dispatcher: Dispatcher,
        voice: StatedVoice,
        cost: SpeechCost,
        limit: float,
        opened: Callable[[], None],
        closed: Callable[[float], None],
        silent: Callable[[str], None],
    ) -> None:
        self.model_id = model_id
        self.executor = executor
        self.dispatcher = dispatcher
        self.cost = cost
        self.limit = limit
        self.loop = asyncio.get_running_loop()
        self.sample_rate = voice.sample_rate
        self.turns = PrioritySemaphore(voice.concurrency, self._notify_turn_wanted)
        self.abandoned: asyncio.Future[None] = self.loop.create_future()
        """Done when the manager ends, and waits no longer for threads that hang in the model."""
        self.closed = closed
        self._silent = silent
        self.speakers: set[Speaking] = set()
        self.gaps = 0
        """Silences of more than 20 ms in the midst of its streams' speech."""
        self.late_s = 0.0
        """Seconds of these."""
        self.crash = ""
        """How the process of the engine ended; empty while it has not."""
        self.hanging = 0
        """Calls that were abandoned and have a thread inside the model still."""
        self._opened: Callable[[], None] | None = opened

    def open(self, speaker: Speaking) -> ModelUse:
        """Count one more stream; raises `why_left` when the model has left."""
        if self._opened is None:
            raise self.why_left()
        self._opened()
        self.speakers.add(speaker)
        return ModelUse(self, speaker)

    @property
    def leaving(self) -> bool:
        """Whether no new stream may begin."""
        return self._opened is None

    def retire(self) -> None:
        """Let no new stream begin: the model is leaving."""
        self._opened = None

    def why_left(self) -> ModelManagerError:
        """Return the error for who would begin a stream now that the model is leaving."""
        if self.crash:
            return EngineCrashedError(self.model_id, f"its process ended: {self.crash}.")
        return ModelNotResidentError(self.model_id)

    def lose_engine(self, crash: str) -> None:
        """End every stream: the engine's process has ended, in the way that `crash` says.

        Also those that rest, which would find out only when their listener goes on, and hold up
        the next load of the model until then.
        """
        self.crash = crash
        self.retire()
        for speaker in list(self.speakers):
            speaker.fail(self.why_left())

    def abandon(self) -> None:
        """Wait no longer for threads that hang in the model: the manager ends."""
        if not self.abandoned.done():
            self.abandoned.set_result(None)

    def _notify_turn_wanted(self) -> None:
        for speaker in list(self.speakers):
            speaker.notify_turn_wanted()

    def count_abandoned(self, call: asyncio.Future[object]) -> None:
        """Count an abandoned call as hanging until it ends."""
        self.hanging += 1

        def ended(_: asyncio.Future[object]) -> None:
            self.hanging -= 1
            if not call.cancelled():
                call.exception()  # its caller knows that it is overdue; asyncio reports nothing

        call.add_done_callback(ended)

    def count_gap(self, seconds: float) -> None:
        """Count that a listener heard nothing for so long."""
        self.gaps += 1
        self.late_s += seconds

    def fell_silent(self, seconds: float, step_s: float) -> None:
        """Tell that a listener heard nothing for so long, as a step took `step_s`."""
        usual = max(self.cost.step_s, self.cost.first_s)
        why = self.dispatcher.why_silent()
        if step_s > 2 * usual:
            why = f"a step took {step_s:.2f} s, and {usual:.2f} s as a rule; {why}"
        self._silent(f"a listener heard nothing for {seconds:.2f} s: {why}")

    def stop_all(self) -> None:
        """Stop every stream."""
        for speaker in list(self.speakers):
            speaker.stop()


class ModelUse:
    """The `Use` of one stream."""

    def __init__(self, host: ModelHost, speaker: Speaking) -> None:
        self._host = host
        self._speaker: Speaking | None = speaker
        self._overdue: list[asyncio.Future[object]] = []
        self._begun = False
        self.state = StreamState(host.cost, host.loop.time())

    @property
    def cost(self) -> SpeechCost:
        """What the model's speech costs; learns from each step."""
        return self._host.cost

    @property
    def turn_wanted(self) -> bool:
        """Whether another stream waits for the turn that this one may hold; for any thread."""
        return self._host.turns.contended

    @property
    def core_wanted(self) -> bool:
        """Whether another step waits for a core; may be asked from any thread."""
        return self._host.dispatcher.is_contended

    def pace(self, ahead_s: float | None) -> Pace:
        """Return what the engine may know of a listener who has `ahead_s` seconds left to hear."""
        dispatcher = self._host.dispatcher
        return Pace(
            ahead_s,
            dispatcher.sharers(self.state),
            dispatcher.spare_s(self.state),
            is_full=not dispatcher.cores.idle,
        )

    def may_be_heard(self, made_s: float) -> bool:
        """Whether `made_s` seconds, handed over now, last until more is made."""
        return self._host.dispatcher.may_be_heard(self.state, made_s)

    async def begin(self, limit: float | None) -> None:
        """Wait until one more stream can be kept up; see `use.Use`."""
        if not self.cost.computes:
            return
        dispatcher = self._host.dispatcher
        try:
            await dispatcher.begin(self.state, self._host.limit if limit is None else limit)
        except TimeoutError:
            raise OverloadedError(dispatcher.retry_after) from None
        self._begun = True

    def silent(self, seconds: float, step_s: float, *, first: bool) -> None:
        """Take note that the listener heard nothing for so long; see `use.Use`."""
        self._host.count_gap(seconds)
        if first:
            self._host.fell_silent(seconds, step_s)

    async def enter(self) -> ModelTurn:
        """Wait for a turn in the model; see `use.Use`."""
        host = self._host
        try:
            await host.turns.acquire(host.limit, self._urgency)
        except TimeoutError:
            raise _not_free(host) from None
        return ModelTurn(self, host)

    def _urgency(self) -> float:
        return self.state.deadline(self._host.loop.time())

    def enter_now(self) -> ModelTurn | None:
        """Return a turn if one is free that no other stream waits for."""
        host = self._host
        return ModelTurn(self, host) if host.turns.acquire_now() else None

    async def run(self, step: Callable[[], T], *, must_run: bool = False) -> T:
        """Run `step` in a thread, when one is free; see `use.Use`."""
        host = self._host
        try:
            return await host.executor.run(
                step, limit=host.limit, must_run=must_run, abandoned=host.abandoned
            )
        except OverdueError as late:
            self._overdue.append(late.call)
            host.count_abandoned(late.call)
            raise SynthesisError(
                f"model {host.model_id!r} made no audio within {host.limit:g} s; "
                "raise synthesis_timeout_ms."
            ) from None
        except ExecutorBusyError:
            raise _not_free(host) from None
        except NoThreadError as error:
            raise SynthesisError(f"model {host.model_id!r} cannot speak: {error}.") from None

    @property
    def inside(self) -> list[asyncio.Future[object]]:
        """The abandoned calls of this stream that have a thread inside the model still."""
        return [call for call in self._overdue if not call.done()]

    def close(self) -> None:
        """Count one stream fewer, now or when its overdue threads have left the model.

        A thread that hangs keeps the stream counted, and so the model in memory: unloading it under
        the thread would crash the process. A second time does nothing.
        """
        # Cleared, so that no cycle of host, speaker and use keeps an unloaded model alive.
        speaker, self._speaker = self._speaker, None
        if speaker is None:
            return
        if self._begun:
            self._host.dispatcher.end(self.state)
        self._host.speakers.discard(speaker)
        when_done(self.inside, functools.partial(self._host.closed, self.state.arrived))


class ModelTurn:
    """The `Turn` of one sentence."""

    def __init__(self, use: ModelUse, host: ModelHost) -> None:
        self._use = use
        self._host: ModelHost | None = host

    async def run(self, step: Callable[[], T]) -> T:
        """Run a step of the sentence when a core is free; see `sentence.Turn`."""
        host, use = self._host, self._use
        assert host is not None
        if not host.cost.computes:
            return await use.run(step)
        # Asked whenever who is next is decided: those who wait for the turn may have less time left
        # by then, and others may have come.
        use.state.urged_by = self._urged
        try:
            place = await host.dispatcher.enter(use.state, host.limit)
        except TimeoutError:
            raise _not_free(host) from None
        try:
            return await use.run(step)
        finally:
            host.dispatcher.leave(place)

    def _urged(self) -> float:
        urged = None if self._host is None else self._host.turns.most_urgent
        return math.inf if urged is None else urged

    async def run_on_idle_core(self, step: Callable[[], T]) -> T | None:
        """Run a step if a core is idle that nobody waits for; see `sentence.Turn`."""
        assert self._host is not None
        dispatcher = self._host.dispatcher
        place = dispatcher.borrow(self._use.state)
        if place is None:
            return None
        try:
            return await self._use.run(step)
        finally:
            dispatcher.leave(place)

    async def close_engine(self, step: Callable[[], T]) -> T:
        """Run what frees something, whoever computes; see `sentence.Turn`."""
        return await self._use.run(step, must_run=True)

    def leave(self) -> None:
        """Give the turn back, once: now, or when the overdue threads have left."""
        host, self._host = self._host, None
        if host is not None:
            self._use.state.urged_by = None
            # An engine for one sentence at a time may not be entered while a thread hangs in it.
            when_done(self._use.inside, host.turns.release)


def when_done(calls: list[asyncio.Future[object]], then: Callable[[], None]) -> None:
    """Call `then` when all of `calls` are done: at once if they are."""
    left = list(calls)
    if not left:
        then()

    def one_is(call: asyncio.Future[object]) -> None:
        left.remove(call)
        if not left:
            then()

    for call in calls:
        call.add_done_callback(one_is)


def _not_free(host: ModelHost) -> SynthesisError:
    return SynthesisError(
        f"model {host.model_id!r} was not free within {host.limit:g} s; "
        "try again, or raise synthesis_timeout_ms."
    )


class UnmanagedHost:
    """The `Host`, `Use` and `Turn` of an adapter outside any manager: nothing counted or limited.

    Steps run in the event loop's default executor, so the process waits for them at exit.
    """

    loop = None
    leaving = False
    crash = ""
    sample_rate = None
    model_id = ""
    turn_wanted = False
    core_wanted = False

    def __init__(self) -> None:
        self.cost = SpeechCost()
        self.state = StreamState(self.cost, 0.0)

    def why_left(self) -> ModelManagerError:
        """Return an error that nobody gets: it never leaves."""
        return ModelNotResidentError(self.model_id)

    def open(self, speaker: Speaking) -> UnmanagedHost:
        """Return itself: no stream is counted."""
        return self

    def close(self) -> None:
        """Do nothing: no stream is counted."""

    def pace(self, ahead_s: float | None) -> Pace:
        """Return the pace of a stream that shares its core with nobody."""
        return Pace(ahead_s)

    def may_be_heard(self, made_s: float) -> bool:
        """Return true: what is made is handed over."""
        return True

    async def begin(self, limit: float | None) -> None:
        """Return at once: any number of streams may speak."""

    def silent(self, seconds: float, step_s: float, *, first: bool) -> None:
        """Do nothing: nobody is told."""

    async def enter(self) -> UnmanagedHost:
        """Return itself at once: turns are not limited."""
        return self

    def enter_now(self) -> UnmanagedHost:
        """Return itself: turns are not limited."""
        return self

    def leave(self) -> None:
        """Do nothing: turns are not limited."""

    async def run(self, step: Callable[[], T]) -> T:
        """Run `step` in the event loop's default executor, to its end even when cancelled."""
        return await run_to_end(step)

    async def run_on_idle_core(self, step: Callable[[], T]) -> T | None:
        """Run `step` like any other."""
        return await run_to_end(step)

    async def close_engine(self, step: Callable[[], T]) -> T:
        """Run `step` like any other."""
        return await run_to_end(step)
