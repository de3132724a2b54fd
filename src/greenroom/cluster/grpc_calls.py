"""gRPC calls without a connection: a worker's services, called by name with messages as bytes.

How a call travels in a cluster: keys, slots and errors are those of the worker's own server.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, cast

import grpc

from greenroom.cluster.handover import Give, made_by
from greenroom.worker.grpc.auth import AuthInterceptor

Metadata = tuple[tuple[str, str | bytes], ...]


class CallEnd(NamedTuple):
    """How a call ended that did not end well."""

    code: int
    details: str
    trailing: Metadata
    """Metadata that go with it: the whole `google.rpc.Status`."""


class GrpcMethods:
    """The methods of services, which are added to it as to a server."""

    def __init__(self, interceptor: AuthInterceptor) -> None:
        self._interceptor = interceptor
        self._handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[Any]) -> None:
        """Take the methods of a service, as a server does."""
        for each in generic_rpc_handlers:
            self._handlers.update(each._method_handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, Any]
    ) -> None:
        """Take the methods of a service, as a server does that looks them up by name."""
        self._handlers.update({f"/{service_name}/{k}": v for k, v in method_handlers.items()})

    @property
    def names(self) -> tuple[str, ...]:
        """All methods, as `/package.Service/Method`."""
        return tuple(self._handlers)

    async def call(
        self, method: str, metadata: Metadata, peer: str, requests: AsyncIterator[bytes]
    ) -> AsyncGenerator[tuple[bytes | CallEnd, ...], None]:
        """Yield the messages of the answer as they are made, those together that are.

        Last comes the status, unless it is OK.
        Closing the iterator is the client's leaving.
        """

        async def found(details: grpc.HandlerCallDetails) -> Any:
            return self._handlers.get(details.method)

        async def work(give: Give[bytes | CallEnd]) -> None:
            handler = await self._interceptor.intercept_service(found, _Details(method, metadata))
            if handler is None:
                code = grpc.StatusCode.UNIMPLEMENTED
                await give(CallEnd(code.value[0], f"{method} is not served here.", ()))
                return
            context = _Context(give, peer, handler.response_serializer)
            try:
                await handler.stream_stream(requests, context)
            except _Aborted as aborted:
                await give(aborted.end)
            finally:
                context.over()

        async with contextlib.aclosing(made_by(work)) as parts:
            async for messages in parts:
                yield messages


class _Details(grpc.HandlerCallDetails):
    """Which method is called, and what was sent with the call."""

    def __init__(self, method: str, metadata: Metadata) -> None:
        self.method = method
        self.invocation_metadata = metadata


class _Aborted(Exception):  # noqa: N818 - it ends a call as `grpc.aio.AbortError` does
    """A servicer has ended its call."""

    def __init__(self, end: CallEnd) -> None:
        super().__init__(end.details)
        self.end = end


class _Context:
    """What a servicer's method knows of its call: as much as the worker's use of it."""

    def __init__(
        self,
        give: Give[bytes | CallEnd],
        peer: str,
        serialize: Callable[[Any], bytes] | None,
    ) -> None:
        self._give = give
        self._peer = peer
        self._serialize = serialize
        self._callbacks: list[Callable[[Any], None]] = []

    def peer(self) -> str:
        """Return the address of the client."""
        return self._peer

    async def write(self, message: Any) -> None:
        """Send a message of the answer."""
        await self._give(message if self._serialize is None else self._serialize(message))

    async def abort_with_status(self, status: Any) -> NoReturn:
        """End the call."""
        trailing = cast("Metadata", tuple((k, v) for k, v in status.trailing_metadata or ()))
        raise _Aborted(CallEnd(status.code.value[0], status.details, trailing))

    async def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn:
        """End the call with a code."""
        raise _Aborted(CallEnd(code.value[0], details, ()))

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have this called when the call is over."""
        self._callbacks.append(callback)

    def over(self) -> None:
        """Say that the call is over."""
        for callback in self._callbacks:
            callback(self)
