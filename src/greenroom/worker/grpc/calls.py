"""Admission of gRPC calls: a slot for each, and a limit for the message that it was opened for.

gRPC's own limit counts all calls alike; here each is counted for its key and its address, and a
refusal says which of them has too many.
Every call becomes one that streams both ways (on the wire there is no difference), so that its
message is waited for here, with a limit, and not by gRPC, without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from greenroom.errors import InvalidInputError, StalledError, WorkerBusyError
from greenroom.worker.admission import RETRY_S, SlotPools, host_of
from greenroom.worker.auth import Caller
from greenroom.worker.grpc.errors import answered

MAX_SILENT = 1_024
"""Calls at once whose message has not come."""

_MESSAGE_LIMIT_S = 10.0
"""How long a call may be open without its message."""

_WRITE_LIMIT_S = 30.0
"""How long a caller may take for an answer of one message."""

_Context = grpc.aio.ServicerContext[Any, Any]
_Requests = AsyncIterator[bytes]


class _Wait:
    """One call that waits for its message."""

    def __init__(self, peer: str, patience: float) -> None:
        self.peer = peer
        self.limit = asyncio.timeout(patience)
        self.makes_room = False
        """Whether it ends so that another may begin."""


class SilentCalls:
    """Calls that are open and have not sent their message, bounded in number.

    A new one is always let in: the oldest of the address that has most makes room for it, so that
    a client that opens calls and sends nothing keeps no other client out.
    """

    def __init__(self, limit: int = MAX_SILENT, patience: float = _MESSAGE_LIMIT_S) -> None:
        self._limit = limit
        self._patience = patience
        self._count = 0
        self._waits: dict[str, dict[_Wait, None]] = {}
        """By address, oldest first."""

    async def message(self, requests: _Requests, peer: str) -> bytes:
        """Return the first message of a call.

        Raises `InvalidInputError` when there is none, `StalledError` when it does not come in time,
        and `WorkerBusyError` when the call has to make room.
        """
        wait = _Wait(peer, self._patience)
        try:
            async with wait.limit:
                with self._counted(wait):
                    return await anext(requests)
        except StopAsyncIteration:
            raise InvalidInputError("no message came; send one.") from None
        except TimeoutError:
            if wait.makes_room:
                problem = f"{self._limit} calls are open without a message; send it at once"
                raise WorkerBusyError(problem, RETRY_S) from None
            raise StalledError(
                f"no message came for {self._patience:g} s; send it at once."
            ) from None

    @contextlib.contextmanager
    def _counted(self, wait: _Wait) -> Iterator[None]:
        if self._count >= self._limit:
            longest = max(self._waits, key=lambda peer: len(self._waits[peer]))
            oldest = next(iter(self._waits[longest]))
            self._forget(oldest)
            oldest.makes_room = True
            oldest.limit.reschedule(0)
        self._waits.setdefault(wait.peer, {})[wait] = None
        self._count += 1
        try:
            yield
        finally:
            self._forget(wait)

    def _forget(self, wait: _Wait) -> None:
        """Count it no longer; it may have made room already."""
        waits = self._waits.get(wait.peer, {})
        if wait in waits:
            del waits[wait]
            self._count -= 1
            if not waits:
                del self._waits[wait.peer]

    def __len__(self) -> int:
        return self._count


class AdmittedCalls:
    """Wraps handlers, so that a call runs only once it has its message and a slot."""

    def __init__(self) -> None:
        self.silent = SilentCalls()

    def handler(self, handler: Any, caller: Caller, slots: SlotPools | None) -> Any:
        """Return a handler of any kind as one that streams both ways and is admitted first.

        Without `slots` none is needed: for probes, which are answered in one step.
        """
        call = _Call(handler, caller, slots, self.silent)
        return grpc.stream_stream_rpc_method_handler(
            call.answer, response_serializer=handler.response_serializer
        )


class _Call:
    """One method of a servicer as it is called by one caller."""

    def __init__(
        self, handler: Any, caller: Caller, slots: SlotPools | None, silent: SilentCalls
    ) -> None:
        self._handler = handler
        self._caller = caller
        self._slots = slots
        self._silent = silent

    @answered
    async def answer(self, requests: _Requests, context: _Context) -> None:
        """Run the method; a single message is read before a slot is taken, silence takes none."""
        parse = self._handler.request_deserializer
        request: Any = _Parsed(requests, parse)
        if not self._handler.request_streaming:
            message = await self._silent.message(requests, host_of(context.peer()))
            request = _parse(message, parse)
        _take(self._slots, self._caller, context)
        await _deliver(_behaviour(self._handler)(request, context), context)


def _take(slots: SlotPools | None, caller: Caller, context: _Context) -> None:
    """Take a slot, which comes back when the call is over for gRPC: its answer is sent."""
    if slots is not None:
        slot = slots.take(caller, host_of(context.peer()))
        context.add_done_callback(lambda _: slot.give_back())  # type: ignore[arg-type]


def _behaviour(handler: Any) -> Callable[[Any, _Context], Any]:
    found: Callable[[Any, _Context], Any] = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    return found


async def _deliver(answer: Any, context: _Context) -> None:
    """Send what a servicer's method returns or yields; one that writes for itself returns none."""
    if inspect.isasyncgen(answer):
        async with contextlib.aclosing(answer) as answers:
            async for each in answers:
                await write(context, each)
        return
    found = await answer
    if found is not None:
        await write(context, found)


async def write(context: _Context, message: Any) -> None:
    """Send one message; raises `StalledError` when it is not taken in time."""
    try:
        async with asyncio.timeout(_WRITE_LIMIT_S):
            await context.write(message)
    except TimeoutError:
        raise StalledError(
            f"no answer was taken for {_WRITE_LIMIT_S:g} s; read faster, or cancel the call."
        ) from None


class _Parsed(AsyncIterator[Any]):
    """The messages of a call, parsed as they come."""

    def __init__(self, requests: _Requests, parse: Callable[[bytes], Any]) -> None:
        self._requests = requests
        self._parse = parse

    async def __anext__(self) -> Any:
        return _parse(await anext(self._requests), self._parse)


def _parse(message: bytes, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(message)
    except DecodeError:
        raise InvalidInputError(
            "the message cannot be read; send what the service's .proto describes."
        ) from None
