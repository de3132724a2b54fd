"""The hosts of speaking models: each stream is counted, run in threads and limited here.

A turn in a model lasts from the first step of a sentence to its end, so that an engine made for
one sentence at a time never sees the steps of two. Turns are taken in order of arrival. A stream
that holds one while another stream waits finishes its sentence without waiting for its listener.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from greenroom.concurrency.fifo_semaphore import FifoSemaphore
from greenroom.concurrency.threads import (
    DaemonExecutor,
    ExecutorBusyError,
    NoThreadError,
    OverdueError,
    run_to_end,
)
from greenroom.errors import ModelNotResidentError, SynthesisError
from greenroom.speech.stream import Speaker

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

    `opened` and `closed` are called once for each stream; `closed` only when no thread of the
    stream is inside the model, however its caller has gone.
    """

    def __init__(
        self,
        model_id: str,
        *,
        executor: DaemonExecutor,
        voice: StatedVoice,
        limit: float,
        opened: Callable[[], None],
        closed: Callable[[], None],
    ) -> None:
        self.model_id = model_id
        self.executor = executor
        self.limit = limit
        self.loop = asyncio.get_running_loop()
        self.sample_rate = voice.sample_rate
        self.turns = FifoSemaphore(voice.concurrency, self._notify_turn_wanted)
        self.abandoned: asyncio.Future[None] = self.loop.create_future()
        """Done when the manager ends, and waits no longer for threads that hang in the model."""
        self.closed = closed
        self.speakers: set[Speaker] = set()
        self.hanging = 0
        """Calls that were abandoned and have a thread inside the model still."""
        self._opened: Callable[[], None] | None = opened

    def open(self, speaker: Speaker) -> ModelUse:
        """Count one more stream; raises `ModelNotResidentError` when the model has left."""
        if self._opened is None:
            raise ModelNotResidentError(self.model_id)
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

    def stop_all(self) -> None:
        """Stop every stream."""
        for speaker in list(self.speakers):
            speaker.stop()


class ModelUse:
    """The `Use` of one stream."""

    def __init__(self, host: ModelHost, speaker: Speaker) -> None:
        self._host = host
        self._speaker: Speaker | None = speaker
        self._overdue: list[asyncio.Future[object]] = []

    @property
    def turn_wanted(self) -> bool:
        """Whether another stream waits for the turn that this one may hold."""
        return self._host.turns.contended

    async def enter(self) -> ModelTurn:
        """Wait for a turn in the model; see `stream.Use`."""
        host = self._host
        try:
            await host.turns.acquire(host.limit)
        except TimeoutError:
            raise _not_free(host) from None
        return ModelTurn(self, host.turns)

    def enter_now(self) -> ModelTurn | None:
        """Return a turn if one is free that no other stream waits for."""
        turns = self._host.turns
        return ModelTurn(self, turns) if turns.acquire_now() else None

    async def run(self, step: Callable[[], T], *, must_run: bool = False) -> T:
        """Run `step` in a thread, when one is free; see `stream.Use`."""
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
        self._host.speakers.discard(speaker)
        when_done(self.inside, self._host.closed)


class ModelTurn:
    """The `Turn` of one sentence."""

    def __init__(self, use: ModelUse, turns: FifoSemaphore) -> None:
        self._use = use
        self._turns: FifoSemaphore | None = turns

    async def run(self, step: Callable[[], T], *, must_run: bool = False) -> T:
        """Run a step of the sentence; see `stream.Use`."""
        return await self._use.run(step, must_run=must_run)

    def leave(self) -> None:
        """Give the turn back, once: now, or when the overdue threads have left."""
        turns, self._turns = self._turns, None
        if turns is not None:
            # An engine for one sentence at a time may not be entered while a thread hangs in it.
            when_done(self._use.inside, turns.release)


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
    sample_rate = None
    model_id = ""
    turn_wanted = False

    def open(self, speaker: Speaker) -> UnmanagedHost:
        """Return itself: no stream is counted."""
        return self

    def close(self) -> None:
        """Do nothing: no stream is counted."""

    async def enter(self) -> UnmanagedHost:
        """Return itself at once: turns are not limited."""
        return self

    def enter_now(self) -> UnmanagedHost:
        """Return itself: turns are not limited."""
        return self

    def leave(self) -> None:
        """Do nothing: turns are not limited."""

    async def run(self, step: Callable[[], T], *, must_run: bool = False) -> T:
        """Run `step` in the event loop's default executor, to its end even when cancelled."""
        return await run_to_end(step)
