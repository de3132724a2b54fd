"""gRPC's door: messages of any content to every method, bytes that are none, and no gRPC at all."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from fuzz.documents import spoiled
from fuzz.served import ANSWER_S, LONGEST_TEXT, MODELS, ServedDoor, silence_or_end
from fuzz.shorter import one_left_out, parts_left_out
from greenroom.v1 import tts_pb2
from greenroom.worker.grpc.riva_protos import riva_tts_pb2
from greenroom.worker.grpc.triton_messages import CALLS, SERVICE, message

_TTS = "greenroom.v1.TTSService"
_RIVA = riva_tts_pb2.DESCRIPTOR.services_by_name["RivaSpeechSynthesis"]
METHODS: dict[str, type[Message]] = {
    **{
        f"/{_TTS}/{method.name}": getattr(tts_pb2, method.input_type.name)
        for method in tts_pb2.DESCRIPTOR.services_by_name["TTSService"].methods
    },
    **{f"/{SERVICE}/{name}": message(f"{name}Request") for name in CALLS},
    **{
        f"/{_RIVA.full_name}/{method.name}": getattr(riva_tts_pb2, method.input_type.name)
        for method in _RIVA.methods
    },
    "/grpc.health.v1.Health/Check": health_pb2.HealthCheckRequest,
    "/grpc.health.v1.Health/List": health_pb2.HealthListRequest,
    "/grpc.health.v1.Health/Watch": health_pb2.HealthCheckRequest,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": (
        reflection_pb2.ServerReflectionRequest
    ),
}
_SYNTHESIZE = f"/{_TTS}/Synthesize"
_ENDLESS = "/grpc.health.v1.Health/Watch"
_STREAMING = (
    _SYNTHESIZE,
    f"/{_RIVA.full_name}/SynthesizeOnline",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)

_OURS = ("INTERNAL", "UNKNOWN", "DATA_LOSS", "ABORTED", "OUT_OF_RANGE")
"""Codes that no client may be answered for what it has sent."""

_LIBRARY = ("deserializ", "parsing", "message", "unary", "cardinality", "compress", "from core")
"""What gRPC itself says, with some of those codes, before a message is anybody's; the last when
its client writes on after the answer."""

_WORDS = (
    *(
        *MODELS,
        *MODELS,
        "",
        "s1",
        "s2",
        "nobody",
        "speed",
        "frequency",
        "volume",
        "1.0",
        "nan",
        "inf",
    ),
    *("\x00", "\x1b[2J", "\u202e", " ", "../..", "x" * 3_000, "ü", "1e999", "-1", "0x10", "True"),
    *("Hello there.", "Hi. And again! And more?", "\U0001f600", ".", "\n\n", "<speak>", "。" * 50),
)
_NUMBERS = (0, 0, 1, -1, 3, 4, 8_000, 16_000, 48_000, 192_000, 2**31 - 1, -(2**31), 44_101)
_LINES = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    b"\xff" * 1_000,
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call: to which method, with which messages, and whether its client leaves early."""

    method: str
    messages: tuple[bytes, ...]
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    leaves: bool = False


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes on a connection of their own."""

    data: bytes


class RpcDoor(ServedDoor):
    """Whatever is sent, the status is a documented one, and the worker speaks on."""

    name = "grpc"
    about = "messages to every method over gRPC, and bytes that are none"

    async def begin(self) -> None:
        """Connect."""
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.insecure_channel(str(self.worker.address), options=options)

    async def finish(self) -> None:
        """Disconnect."""
        await self._channel.close()

    async def speak(self, text: str) -> int:
        """Return the bytes of all frames."""
        said = tts_pb2.TextChunk(text=text, is_final=True).SerializeToString()
        frames = await self._answers(Call(_SYNTHESIZE, (said,)))
        return sum(len(tts_pb2.AudioFrame.FromString(frame).audio_data) for frame in frames)

    def one(self, dice: random.Random) -> Call | Bytes:
        """Return a call; one in thirty is none."""
        if dice.random() < 0.03:
            return Bytes(spoiled(dice, dice.choice(_LINES) + dice.randbytes(dice.choice((9, 300)))))
        name = dice.choice((*METHODS, _SYNTHESIZE, _SYNTHESIZE, f"/{_TTS}/StartSession"))
        count = dice.choice((0, 1, 1, 2, 5)) if name in _STREAMING else 1
        kinds = [METHODS[name] if dice.random() < 0.95 else tts_pb2.TextChunk for _ in range(count)]
        messages = tuple(_bytes(dice, kind) for kind in kinds)
        if dice.random() < 0.02:
            name = dice.choice((f"/{_TTS}/Nothing", "/x", f"/{SERVICE}/ModelInfer"))
        metadata = (_pair(dice),) if dice.random() < 0.1 else ()
        return Call(name, messages, metadata, leaves=name == _ENDLESS or dice.random() < 0.1)

    def simpler_one(self, request: Call | Bytes) -> Iterator[Call | Bytes]:
        """Yield the call with fewer and shorter messages."""
        if isinstance(request, Bytes):
            for data in parts_left_out(request.data):
                yield Bytes(data)
            return
        if request.metadata:
            yield replace(request, metadata=())
        for messages in one_left_out(request.messages):
            yield replace(request, messages=messages)
        for number, data in enumerate(request.messages):
            for less in parts_left_out(data):
                changed = (*request.messages[:number], less, *request.messages[number + 1 :])
                yield replace(request, messages=changed)

    async def send(self, request: Call | Bytes) -> list[str]:
        """Send it, and look at the status that comes back."""
        if isinstance(request, Bytes):
            await self.in_time("bytes", self._send_bytes(request.data))
            return []
        try:
            await self.in_time(request.method, self._answers(request))
        except grpc.aio.AioRpcError as error:
            return _judged(request, error)
        return []

    async def _answers(self, call: Call) -> list[bytes]:
        """Return the answers as they are; to a client that leaves, at most one."""
        open_call: Any = self._channel.stream_stream(call.method)(
            cast(Any, _each(call.messages)), timeout=2 * ANSWER_S, metadata=call.metadata
        )
        found: list[bytes] = []
        try:
            async for answer in open_call:
                found.append(answer)
                if call.leaves:
                    break
        finally:
            open_call.cancel()
        return found

    async def _send_bytes(self, data: bytes) -> None:
        host, _, port = str(self.worker.address).rpartition(":")
        with contextlib.suppress(ConnectionError):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(data)
                await silence_or_end(reader, 0.1)
            finally:
                writer.transport.abort()


def _judged(request: Call, error: grpc.aio.AioRpcError) -> list[str]:
    code, details = error.code().name, error.details() or ""
    if code not in _OURS or any(word in details.lower() for word in _LIBRARY):
        return []
    return [f"{code} from {request.method}: {details[:200]}"]


async def _each(messages: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for one in messages:
        yield one


def _bytes(dice: random.Random, kind: type[Message]) -> bytes:
    data = _filled(dice, kind).SerializeToString()
    if dice.random() < 0.15:
        data = spoiled(dice, data)
    return data if dice.random() < 0.97 else dice.randbytes(dice.choice((1, 10, 5_000)))


def _filled(dice: random.Random, kind: type[Message]) -> Message:
    made = kind()
    for field in made.DESCRIPTOR.fields:
        if dice.random() < 0.7:
            _fill(dice, made, field)
    return made


def _fill(dice: random.Random, made: Message, field: Any) -> None:
    value: Any = None
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            for _ in range(dice.choice((0, 1, 1, 3))):
                getattr(made, field.name)[dice.choice(_WORDS)] = dice.choice(_WORDS)
        return
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_STRING:
            value = dice.choice(_WORDS)
            if field.name == "text":
                value = (value * dice.choice((1, 1, 20)))[: LONGEST_TEXT + dice.choice((0, 0, 1))]
        case FieldDescriptor.CPPTYPE_STRING:
            value = dice.randbytes(4)
        case FieldDescriptor.CPPTYPE_BOOL:
            value = dice.random() < 0.5
        case FieldDescriptor.CPPTYPE_ENUM:
            value = dice.choice((0, 1, 2, 3, 4, -1, 2**31 - 1))
        case FieldDescriptor.CPPTYPE_INT32 | FieldDescriptor.CPPTYPE_INT64:
            value = dice.choice(_NUMBERS)
    if value is None:
        return
    if field.is_repeated:
        getattr(made, field.name).append(value)
    else:
        setattr(made, field.name, value)


def _pair(dice: random.Random) -> tuple[str, str | bytes]:
    """Return metadata that a client can send."""
    return dice.choice(
        (
            ("authorization", "Bearer x"),
            ("authorization", ""),
            ("x-request-id", "a b"),
            ("grpc-accept-encoding", "gzip"),
            ("x-bin", dice.randbytes(5)),
            ("x" * 1_000, "y" * 3_000),
        )
    )
