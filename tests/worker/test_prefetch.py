"""Saying over gRPC or HTTP that a model will be spoken with soon."""

from __future__ import annotations

import grpc
import pytest

from greenroom import ModelManager
from greenroom.testing import Stage
from greenroom.v1 import tts_pb2
from tests.waiting import until
from tests.worker.http.http_client import running_http_worker
from tests.worker.worker_client import refused, running_worker


def made() -> tuple[Stage, ModelManager]:
    stage = Stage("a", "b")
    return stage, ModelManager(catalog=stage.catalog, default_model_id="a")


async def test_a_prefetch_over_grpc_loads_and_does_not_wait() -> None:
    stage, manager = made()
    stage["b"].load.hold()
    async with running_worker(manager) as served:
        await served.stub.Prefetch(tts_pb2.PrefetchRequest(model_id="b", within_s=5.0))
        await until(lambda: stage["b"].load.waiting == 1)
        stage.open_all()
        await until(lambda: served.refcount("b") == 0)
        await served.start("s", "b")
        assert (served.refcount("b"), stage["b"].calls["load"]) == (1, 1)


async def test_a_prefetch_over_http_loads_and_does_not_wait() -> None:
    stage, manager = made()
    stage["b"].load.hold()
    async with running_http_worker(manager) as web:
        told = await web.done("/api/prefetch", {"model": "b", "within_s": 5})
        assert told["model"] == "b"
        await until(lambda: stage["b"].load.waiting == 1)
        stage.open_all()


@pytest.mark.parametrize("within", [-1.0, float("nan"), 3_600.0])
async def test_a_time_that_is_none_or_too_long_is_refused(within: float) -> None:
    _, manager = made()
    async with running_worker(manager, session_idle_ms=60_000) as served:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "within_s"):
            await served.stub.Prefetch(tts_pb2.PrefetchRequest(model_id="b", within_s=within))
        with refused(grpc.StatusCode.NOT_FOUND, "nobody"):
            await served.stub.Prefetch(tts_pb2.PrefetchRequest(model_id="nobody"))


async def test_a_time_that_is_none_is_refused_over_http() -> None:
    _, manager = made()
    async with running_http_worker(manager) as web:
        for within in (-1, "soon", 1e9):
            answer = await web.post("/api/prefetch", {"model": "b", "within_s": within})
            assert answer.status_code == 400
