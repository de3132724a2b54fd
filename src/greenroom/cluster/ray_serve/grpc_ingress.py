"""The way into a cluster over gRPC: `greenroom.v1.TTSService`, called by Ray's proxy.

Each call goes to one replica: that of its session, else that of its voice. Text that comes in
pieces is pushed to it as it comes. Ray's proxy takes a status and what goes with it from the
context that travels with a message, so an error is preceded by an empty one.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from typing import Any

import grpc
from grpc_status import rpc_status

from greenroom.cluster.grpc_calls import CallEnd, Metadata
from greenroom.cluster.ray_serve.speech_calls import GONE, Answer, SpeechCalls, lost
from greenroom.cluster.requested_voice import RequestedVoice, session_key
from greenroom.errors import ModelManagerError, StalledError
from greenroom.untrusted.logs import safe_logger
from greenroom.v1 import tts_pb2
from greenroom.worker.auth import Keys
from greenroom.worker.grpc.errors import status_of
from greenroom.worker.grpc.tts_service import SERVICE_NAME

logger = safe_logger(__name__)

_ABOUT_A_MODEL = {"StartSession", "Synthesize", "LoadModel", "Prefetch", "UnloadModel"}
"""Calls that mean the default model when they name none."""

_FIRST_TEXT_S = 30.0
"""How long a call of `Synthesize` may be open without text."""

_GATHERED = 32
"""Messages that travel together at most, when they come faster than they are taken."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcIngress:
    """Passes calls on; Ray looks its methods up by their names."""

    def __init__(self, calls: SpeechCalls, voices: RequestedVoice, keys: Keys) -> None:
        self._calls = calls
        self._voices = voices
        self._keys = keys

    async def StartSession(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Begin a session, by whose id its replica is found again: one is chosen if need be."""
        if not request.session_id:
            request.session_id = uuid.uuid4().hex
        return await self._one("StartSession", request, grpc_context)

    async def Control(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Pause, resume, stop, reload."""
        return await self._one("Control", request, grpc_context)

    async def EndSession(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """End a session."""
        return await self._one("EndSession", request, grpc_context)

    async def ListModels(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Tell the catalog, and what one replica has in memory."""
        return await self._one("ListModels", request, grpc_context)

    async def LoadModel(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Load a model in the replica that has it, or would have it soonest."""
        return await self._one("LoadModel", request, grpc_context)

    async def Prefetch(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Load a model where it will be spoken with."""
        return await self._one("Prefetch", request, grpc_context)

    async def UnloadModel(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Unload a model in one replica that has it."""
        return await self._one("UnloadModel", request, grpc_context)

    async def GetReport(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Tell what one replica has."""
        return await self._one("GetReport", request, grpc_context)

    async def GetFigures(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Tell how one replica is doing."""
        return await self._one("GetFigures", request, grpc_context)

    async def GetCapabilities(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Tell what a replica can do."""
        return await self._one("GetCapabilities", request, grpc_context)

    async def _one(self, method: str, request: Any, context: Any) -> Any:
        """Return the message that answers one message."""
        status = _Status(context)
        with status.of_errors():
            voice, session = self._of(method, request, context)
            message = (request.SerializeToString(),)
            (first, *_), answer = await self._calls.first(
                lambda: self._begin(method, context, message, voice, session), voice
            )
            answer.cancel()
            return status.shown(first)
        return _NOTHING

    async def Synthesize(  # noqa: N802
        self, requests: AsyncIterator[Any], grpc_context: Any
    ) -> AsyncGenerator[Any, None]:
        """Speak text as it comes; frames leave as they are made."""
        status = _Status(grpc_context)
        with status.of_errors():
            first = await _first(requests)
            begun = self._begun(first, requests, grpc_context)
            async with contextlib.aclosing(begun) as parts:
                async for messages in parts:
                    for message in messages:
                        yield status.shown(message)
            return
        yield _NOTHING

    async def _begun(
        self, first: Any, requests: AsyncIterator[Any], context: Any
    ) -> AsyncGenerator[Any, None]:
        """Yield the messages of the answer to a text whose first piece is there, as they come.

        While that is all that was sent, a replica that ends has it sent to another.
        """
        voice, session = self._of("Synthesize", first or tts_pb2.TextChunk(), context)
        texts = () if first is None else (first.SerializeToString(),)
        call_id = "" if first is None or first.is_final else uuid.uuid4().hex
        key = session or call_id
        messages, answer = await self._calls.first(
            lambda: self._begin("Synthesize", context, texts, voice, key, call_id), voice
        )
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(answer.cancel)
            if call_id:  # the first part says that it was begun
                pushing = self._push(requests, key, call_id)
                await stack.enter_async_context(_beside(pushing))
            else:
                yield messages
            try:
                async for messages in answer:
                    yield messages
            except GONE:
                raise lost(voice) from None

    def _begin(
        self,
        method: str,
        context: Any,
        messages: tuple[bytes, ...],
        voice: str,
        session: str,
        call_id: str = "",
    ) -> Answer:
        path = f"/{SERVICE_NAME}/{method}"
        peer, metadata = context.peer(), tuple(context.invocation_metadata())
        return self._calls.begin(
            "grpc", path, metadata, peer, messages, call_id, voice=voice, session=session
        )

    def _of(self, method: str, request: Any, context: Any) -> tuple[str, str]:
        """Return the model and the session that a call is about; empty: any, none."""
        metadata = context.invocation_metadata()
        caller = self._keys.recognise([str(v) for k, v in metadata if k == "authorization"])
        session_id = getattr(request, "session_id", "")
        session = session_key(caller.name, session_id) if session_id else ""
        named = getattr(request, "model_id", "")
        is_about_one = method in _ABOUT_A_MODEL and (not session or method == "StartSession")
        voice = self._voices.of_name(named) if named or is_about_one else ""
        return voice, session

    async def _push(self, requests: AsyncIterator[Any], key: str, call_id: str) -> None:
        """Send the text that follows, as it comes; what came meanwhile goes together."""
        come: asyncio.Queue[bytes | None] = asyncio.Queue(_GATHERED)
        async with _beside(_read(requests, come)):
            wanted = True
            while wanted:
                messages = [await come.get()]
                while not come.empty():
                    messages.append(come.get_nowait())
                last = messages[-1] is None
                sent = [message for message in messages if message is not None]
                wanted = await self._calls.push(key, call_id, sent, last=last)


async def _first(requests: AsyncIterator[Any]) -> Any:
    """Return the first piece of text; `None` when there is none. Raises `StalledError`."""
    try:
        async with asyncio.timeout(_FIRST_TEXT_S):
            return await anext(requests, None)
    except TimeoutError:
        raise StalledError("no text came in time; send the first TextChunk at once.") from None


async def _read(requests: AsyncIterator[Any], come: asyncio.Queue[bytes | None]) -> None:
    """Put the messages of a call into a queue, and `None` after the last."""
    async for chunk in requests:
        await come.put(chunk.SerializeToString())
        if chunk.is_final:
            break
    await come.put(None)


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` beside the block, at the longest to its end; how it ends is the block's to say."""
    running = asyncio.create_task(work, name="greenroom text")
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])
        error = None if running.cancelled() else running.exception()
        if error is not None:
            logger.debug("text was not sent on: %s", error)


class _Serialized:
    """A message as bytes, which Ray asks to make them."""

    def __init__(self, message: bytes) -> None:
        self._message = message

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return the bytes."""
        return self._message


_NOTHING = _Serialized(b"")


class _Status:
    """The status of one call, set on the context that Ray sends along with each message."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def shown(self, part: bytes | CallEnd) -> _Serialized:
        """Return a part of the answer as a message; an end sets the status, and has none."""
        if isinstance(part, CallEnd):
            self._set(_CODES[part.code], part.details, part.trailing)
            return _NOTHING
        return _Serialized(part)

    @contextlib.contextmanager
    def of_errors(self) -> Iterator[None]:
        """Turn an error of the tree into the status; send `_NOTHING` after the block then."""
        try:
            yield
        except ModelManagerError as error:
            status = rpc_status.to_status(status_of(error))
            self._set(status.code, status.details, tuple(status.trailing_metadata))

    def _set(self, code: grpc.StatusCode, details: str, trailing: Metadata) -> None:
        self._context.set_code(code)
        self._context.set_details(details)
        self._context.set_trailing_metadata(list(trailing))
