"""Reflection tells every service that is served, whatever pool its messages are in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.worker.worker_client import LIMIT_S, WorkerClient

SERVICES = {
    "greenroom.v1.TTSService": "Synthesize",
    "nvidia.riva.tts.RivaSpeechSynthesis": "SynthesizeOnline",
    "inference.GRPCInferenceService": "RepositoryModelLoad",
    "grpc.health.v1.Health": "Watch",
    "grpc.reflection.v1alpha.ServerReflection": "ServerReflectionInfo",
}


async def ask(served: WorkerClient, **question: Any) -> Any:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(served.channel)
    asked = reflection_pb2.ServerReflectionRequest(**question)
    (answer,) = [each async for each in stub.ServerReflectionInfo(iter([asked]), timeout=LIMIT_S)]
    return answer


def pool_of(files: Sequence[bytes]) -> Any:
    """Return a pool of files that come in any order."""
    pool: Any = DescriptorPool()
    left = list(files)
    while left:
        file = left.pop(0)
        try:
            pool.AddSerializedFile(file)
        except TypeError:  # what it needs comes later
            left.append(file)
    return pool


async def test_every_service_is_listed(tones: WorkerClient) -> None:
    answer = await ask(tones, list_services="")
    assert {each.name for each in answer.list_services_response.service} == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_comes_with_all_that_its_methods_take_and_every_method_is_served(
    tones: WorkerClient, name: str
) -> None:
    answer = await ask(tones, file_containing_symbol=name)
    files = answer.file_descriptor_response.file_descriptor_proto
    service = pool_of(files).FindServiceByName(name)
    assert SERVICES[name] in service.methods_by_name
    for method in service.methods:
        assert method.input_type.full_name
        connect: Any = tones.channel.stream_stream
        call = connect(f"/{name}/{method.name}")(iter([b""]))
        code = grpc.StatusCode.OK
        try:
            await call.read()
        except grpc.aio.AioRpcError as error:
            code = error.code()
        finally:
            call.cancel()
        assert code is not grpc.StatusCode.UNIMPLEMENTED, method.full_name
