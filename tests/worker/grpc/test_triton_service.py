"""`inference.GRPCInferenceService`; Triton's own client is run by `make conformance`."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from greenroom.worker.grpc.triton_messages import SERVICE, message
from tests.waiting import until
from tests.worker.worker_client import LIMIT_S, WorkerClient, refused


async def call(served: WorkerClient, name: str, /, **fields: Any) -> Any:
    """Call as a client does that knows nothing but the protocol."""
    answer = message(f"{name}Response")
    method = served.channel.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=message(f"{name}Request").SerializeToString,
        response_deserializer=answer.FromString,
    )
    return await method(message(f"{name}Request")(**fields), timeout=LIMIT_S)


async def test_live_ready_and_metadata_are_told(tones: WorkerClient) -> None:
    assert (await call(tones, "ServerLive")).live
    assert (await call(tones, "ServerReady")).ready
    assert (await call(tones, "ServerMetadata")).extensions == ["model_repository"]
    model = await call(tones, "ModelMetadata", name="tone-440")
    assert (model.name, model.versions, model.platform) == ("tone-440", ["1"], "tone")


async def test_models_are_loaded_and_unloaded_and_the_index_follows(tones: WorkerClient) -> None:
    assert not (await call(tones, "ModelReady", name="tone-220")).ready
    await call(tones, "RepositoryModelLoad", model_name="tone-220")
    assert (await call(tones, "ModelReady", name="tone-220", version="1")).ready
    assert tones.refcount("tone-220") == 0
    models = {m.name: m.state for m in (await call(tones, "RepositoryIndex")).models}
    assert (len(models), models["tone-220"], models["tone-247"]) == (8, "READY", "UNAVAILABLE")
    ready = (await call(tones, "RepositoryIndex", ready=True)).models
    assert {m.name for m in ready} == {"tone-440", "tone-220"}
    await call(tones, "RepositoryModelUnload", model_name="tone-220", parameters=[b"any"])
    await until(lambda: "tone-220" not in tones.states)
    await call(tones, "RepositoryModelUnload", model_name="tone-220")


async def test_what_cannot_be_is_refused_with_a_status(tones: WorkerClient) -> None:
    with refused(grpc.StatusCode.NOT_FOUND, "tone-220"):
        await call(tones, "RepositoryModelLoad", model_name="tone-221")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "without parameters"):
        await call(tones, "RepositoryModelLoad", model_name="tone-220", parameters=[b"config"])
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "version 1 only"):
        await call(tones, "ModelReady", name="tone-220", version="2")
    infer: Any = tones.channel.unary_unary(f"/{SERVICE}/ModelInfer")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await infer(b"", timeout=LIMIT_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
