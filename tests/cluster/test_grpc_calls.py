"""gRPC calls of a worker's services without a connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2

from greenroom import Catalog, ModelManager
from greenroom.cluster.grpc_calls import CallEnd, GrpcMethods
from greenroom.config.schema import Config
from greenroom.v1 import tts_pb2
from greenroom.worker.app import Worker
from tests.cluster.one_by_one import one_by_one
from tests.cluster.slow_speech import slow_speech
from tests.waiting import until
from tests.worker.worker_client import Meter

SERVICE = "/greenroom.v1.TTSService/"


async def sent(messages: Sequence[Any]) -> AsyncIterator[bytes]:
    """Send messages."""
    for message in messages:
        yield message.SerializeToString()


class Methods:
    """The methods of one worker, called."""

    def __init__(self, worker: Worker) -> None:
        self._methods = GrpcMethods(worker.interceptor)
        worker.add_services(self._methods)

    def call(self, method: str, *messages: Any, metadata: Any = ()) -> Any:
        """Begin a call."""
        name = method if "/" in method else SERVICE + method
        call = self._methods.call(name, metadata, "ipv4:127.0.0.1:5", sent(messages))
        return contextlib.aclosing(one_by_one(call))

    async def parts(self, method: str, *messages: Any, metadata: Any = ()) -> list[Any]:
        """Return all that a call answers."""
        async with self.call(method, *messages, metadata=metadata) as answers:
            return [part async for part in answers]


@pytest.fixture
def methods(worker: Worker) -> Methods:
    return Methods(worker)


def frames(parts: Sequence[bytes]) -> list[tts_pb2.AudioFrame]:
    """Return the frames of an answer."""
    return [tts_pb2.AudioFrame.FromString(part) for part in parts]


async def test_a_text_in_pieces_is_spoken_as_it_comes(
    methods: Methods, meters: dict[str, Meter]
) -> None:
    meters["b"].free.set()
    first = tts_pb2.TextChunk(text="Hello. ", model_id="b")
    found = frames(await methods.parts("Synthesize", first, tts_pb2.TextChunk(text="There.")))
    assert found[-1].is_final
    assert sum(len(each.audio_data) for each in found) == 2 * 100 * 4_800 * 2


async def test_one_message_answers_one(methods: Methods) -> None:
    request = tts_pb2.StartSessionRequest(session_id="s", model_id="c")
    (answer,) = await methods.parts("StartSession", request)
    assert tts_pb2.StartSessionResponse.FromString(answer).model_id == "c"
    assert len(await methods.parts("EndSession", tts_pb2.EndSessionRequest(session_id="s"))) == 1


async def test_an_error_is_the_call_s_end_with_its_whole_status(methods: Methods) -> None:
    request = tts_pb2.StartSessionRequest(model_id="nobody")
    (end,) = await methods.parts("StartSession", request)
    assert isinstance(end, CallEnd)
    assert end.code == grpc.StatusCode.NOT_FOUND.value[0]
    status = status_pb2.Status.FromString(dict(end.trailing)["grpc-status-details-bin"])
    assert status.message == end.details
    assert "nobody" in end.details


async def test_an_unknown_method_is_not_served(methods: Methods) -> None:
    (end,) = await methods.parts("/nothing.Here/Call")
    assert end.code == grpc.StatusCode.UNIMPLEMENTED.value[0]


async def test_who_leaves_ends_the_speech(
    methods: Methods, worker: Worker, meters: dict[str, Meter]
) -> None:
    chunk = tts_pb2.TextChunk(text="Hello.", model_id="b", is_final=True)
    async with slow_speech(meters["b"]):
        async with methods.call("Synthesize", chunk) as answers:
            await anext(answers)
        await until(lambda: not any(each.streams for each in worker.manager.list_resident()))
    assert worker.synthesis.report().in_flight == 0
    assert meters["b"].made < 100


async def test_keys_are_asked_for_as_by_a_server(metered_catalog: Catalog) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a", resident_cap=4)
    settings = {"api_keys": [{"key": "secret-1", "name": "x", "role": "speak"}]}
    config = Config.model_validate({"worker": settings})
    worker = await asyncio.to_thread(Worker, config, manager)
    methods = Methods(worker)
    (end,) = await methods.parts("ListModels", tts_pb2.ListModelsRequest())
    assert end.code == grpc.StatusCode.UNAUTHENTICATED.value[0]
    bearer = (("authorization", "Bearer secret-1"),)
    (found,) = await methods.parts("ListModels", tts_pb2.ListModelsRequest(), metadata=bearer)
    assert len(tts_pb2.ListModelsResponse.FromString(found).models) == 4
    (end,) = await methods.parts("LoadModel", tts_pb2.LoadModelRequest(), metadata=bearer)
    assert end.code == grpc.StatusCode.PERMISSION_DENIED.value[0]


async def test_a_slot_comes_back_with_the_end_of_its_call(methods: Methods, worker: Worker) -> None:
    for _ in range(worker.admission.calls.administrators.shares.peer + 1):
        (answer,) = await methods.parts("GetCapabilities", tts_pb2.GetCapabilitiesRequest())
        assert isinstance(answer, bytes)
