"""Where resident models speak: every running stream is counted, threaded and limited here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from greenroom.errors import ModelNotResidentError, SynthesisError
from greenroom.stated import StatedVoice
from greenroom.stream import Speaker
from greenroom.threads import Lane, OverdueError

T = TypeVar("T")


class ModelHost:
    """The `Host` of one resident.

    `opened` and `closed` are called once for each stream; `closed` only when no thread of the
    stream is inside the model, however its caller has gone.
    """

    def __init__(
        self,
        model_id: str,
        *,
        lane: Lane,
        concurrency: int | None,
        limit: float,
        opened: Callable[[], None],
        closed: Callable[[], None],
    ) -> None:
        self.model_id = model_id
        self.lane = lane
        self.limit = limit
        self.turns = None if concurrency is None else asyncio.Semaphore(concurrency)
        self.closed = closed
        self.speakers: set[Speaker] = set()
        self.hanging = 0
        """Calls that were written off and have a thread inside the model still."""
        self._opened: Callable[[], None] | None = opened

    def open(self, speaker: Speaker) -> ModelUse:
        """Count one more stream; raises `ModelNotResidentError` when the model has left."""
        if self._opened is None:
            raise ModelNotResidentError(self.model_id)
        self._opened()
        self.speakers.add(speaker)
        return ModelUse(self, speaker)

    def retire(self) -> None:
        """Let no new stream begin: the model is leaving."""
        self._opened = None

    def written_off(self, call: asyncio.Future[object]) -> None:
        """Count a call as hanging until it ends."""
        self.hanging += 1

        def ended(_: asyncio.Future[object]) -> None:
            self.hanging -= 1

        call.add_done_callback(ended)

    def stop_all(self) -> None:
        """Stop every stream."""
        for speaker in list(self.speakers):
            speaker.stop()


class Hosts:
    """The hosts of one manager, by the number of the resident."""

    def __init__(self, lane: Lane, limit: float) -> None:
        self._lane = lane
        self._limit = limit
        self._hosts: dict[int, ModelHost] = {}

    def add(
        self,
        number: int,
        model_id: str,
        voice: StatedVoice,
        *,
        opened: Callable[[], None],
        closed: Callable[[], None],
    ) -> ModelHost:
        """Return the host of a model that was loaded."""
        host = self._hosts[number] = ModelHost(
            model_id,
            lane=self._lane,
            concurrency=voice.concurrency,
            limit=self._limit,
            opened=opened,
            closed=closed,
        )
        return host

    def retire(self, number: int) -> None:
        """Forget the host of a model that leaves."""
        host = self._hosts.pop(number, None)
        if host is not None:
            host.retire()

    def hanging(self, number: int) -> bool:
        """Whether a thread is inside the model that was written off."""
        host = self._hosts.get(number)
        return host is not None and host.hanging > 0

    def stop_all(self) -> None:
        """Let no stream begin, and stop all that run."""
        for host in self._hosts.values():
            host.retire()
            host.stop_all()


class ModelUse:
    """The `Use` of one stream."""

    def __init__(self, host: ModelHost, speaker: Speaker) -> None:
        self._host = host
        self._speaker: Speaker | None = speaker
        self._overdue: list[asyncio.Future[object]] = []

    async def run(self, step: Callable[[], T]) -> T:
        """Run `step` in a thread, when the model and a thread are free; see `stream.Use`."""
        host = self._host
        try:
            async with self._turn():
                return await host.lane.run(step, limit=host.limit)
        except OverdueError as late:
            self._overdue.append(late.call)
            host.written_off(late.call)
            raise SynthesisError(
                f"model {host.model_id!r} made no audio within {host.limit:g} s."
            ) from None
        except TimeoutError:
            raise SynthesisError(
                f"model {host.model_id!r} was not free within {host.limit:g} s; try again."
            ) from None

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        turns = self._host.turns
        if turns is None:
            yield
            return
        async with asyncio.timeout(self._host.limit):
            await turns.acquire()
        try:
            yield
        except OverdueError as late:
            late.call.add_done_callback(lambda _: turns.release())
            raise
        except BaseException:
            turns.release()
            raise
        else:
            turns.release()

    def close(self) -> None:
        """Count one stream fewer, now or when its overdue threads have left the model."""
        speaker, self._speaker = self._speaker, None  # no cycle keeps an unloaded model alive
        if speaker is not None:
            self._host.speakers.discard(speaker)
        hanging = [call for call in self._overdue if not call.done()]
        if not hanging:
            self._host.closed()

        def left(call: asyncio.Future[object]) -> None:
            hanging.remove(call)
            if not hanging:
                self._host.closed()

        for call in list(hanging):
            call.add_done_callback(left)
