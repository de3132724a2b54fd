"""How a worker is doing: what people who look at it see, over gRPC and over HTTP."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from typing import Any

import grpc
import pytest

from greenroom import Catalog, InvalidInputError, ModelManager
from greenroom.testing import Stage
from greenroom.worker.client import Client
from greenroom.worker.figures import (
    MemoryFigures,
    ProcessFigures,
    SharedFigures,
    WorkerFigures,
    read_figures,
    written_figures,
)
from greenroom.worker.grpc.conversions import figures_in, figures_message
from greenroom.worker.speech_log import SpeechFigures
from tests.waiting import until
from tests.worker.answered_figures import figures
from tests.worker.http.http_client import running_http_worker
from tests.worker.worker_client import Meter, WorkerClient, running_worker


async def looked_at(served: WorkerClient) -> WorkerFigures:
    async with Client(str(served.worker.address)) as client:
        return (await client.figures())[0]


async def test_what_was_spoken_is_told_of_in_all_and_of_each_model(tones: WorkerClient) -> None:
    before = await looked_at(tones)
    assert (before.recent, before.models, before.ended) == (SpeechFigures(), {}, {})
    await tones.speak("Hello there.")
    await tones.speak("Hello again.", model_id="tone-220")
    after = await looked_at(tones)
    assert after.ended == {"finished": 2}
    assert set(after.models) == {"tone-440", "tone-220"}
    assert after.models["tone-220"].ended == 1
    assert after.recent.ended == 2
    assert after.recent.first_audio_p50_s is not None
    assert after.recent.first_audio_p95_s is not None
    assert 0.0 < after.recent.first_audio_p50_s <= after.recent.first_audio_p95_s
    assert after.recent.real_time_factor is not None
    assert after.recent.audio_s == after.audio_s > 0.5
    assert after.boot_id == before.boot_id
    assert after.residents == 2
    assert 0.0 < after.window_s <= after.up_s + 0.001
    assert after.memory is not None
    assert min(after.memory.anonymous, after.memory.mapped) > 10_000_000


async def test_what_runs_and_what_is_held_shows(
    metered_worker: WorkerClient, meters: dict[str, Meter]
) -> None:
    await metered_worker.start("kitchen", "b")
    call = metered_worker.call("Hello.", model_id="a")
    await until(lambda: metered_worker.streams("a") == 1)
    async with Client(str(metered_worker.worker.address)) as client:
        found, models = await client.figures()
    assert (found.streams, found.in_flight, found.sessions) == (1, 1, 1)
    assert {each.model_id: list(each.resident.owners) for each in models}["b"] == [
        "session kitchen"
    ]
    meters["a"].free.set()
    assert [frame async for frame in call]
    await until(lambda: not metered_worker.in_use("a"))
    assert (await looked_at(metered_worker)).streams == 0


async def test_refusals_are_told_by_reason(stage: Stage) -> None:
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager, max_sessions=1) as served:
        await served.start("one")
        with pytest.raises(grpc.aio.AioRpcError):
            await served.start("two")
        stage["b"].load.error = RuntimeError("broken")
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError):
                await served.speak("x", model_id="b")
        found = await looked_at(served)
        assert found.refused["sessions"] == 1
        assert sum(found.refused.values()) > 1, "what the ledger refuses counts too"
        assert served.worker.synthesis.metrics.log.ended == {}


async def test_crashes_are_told_by_adapter(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        crashes = {("piper", "killed"): 2, ("piper", "crashed"): 1, ("tone", "killed"): 1}
        found = dataclasses.replace(manager.statistics(), crashes=crashes)
        with monkeypatch.context() as patch:
            patch.setattr(ModelManager, "statistics", lambda _: found)
            told = await looked_at(served)
    assert told.crashes == {"piper": 3, "tone": 1}


async def test_http_answers_the_same(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager) as web:
        await web.served.speak("Hello there.")
        over_http = read_figures(await web.get("/api/figures"))
        over_grpc = await looked_at(web.served)
        passing: dict[str, Any] = {"up_s": 0.0, "window_s": 0.0, "memory": None}
        assert dataclasses.replace(over_http, **passing) == dataclasses.replace(
            over_grpc, **passing
        )
        assert over_http.ended == {"finished": 1}


def test_figures_survive_the_way_through_json_and_messages() -> None:
    said = figures(
        recent=SpeechFigures(ended=2, first_audio_p50_s=0.1, real_time_factor=0.5),
        models={"a": SpeechFigures(ended=1, gaps=2, late_s=0.5), "b": SpeechFigures()},
        ended={"finished": 2**40},
        refused={"no_room": 3},
        footprint=2**45,
        crashes={"piper": 2},
        memory=MemoryFigures(anonymous=2**31, mapped=2**30, proportional=2**32),
        shared=(SharedFigures("graph 77", 2**26, "cpu", ("a", "b")),),
        processes=(
            ProcessFigures("piper", os.getpid(), 3.0, 2**33, 1),
            ProcessFigures("kokoro", 1, 0.0, idle=True),
        ),
    )
    assert read_figures(json.loads(json.dumps(written_figures(said)))) == said
    assert figures_in(figures_message(said, ()).figures) == said
    assert read_figures(written_figures(said) | {"moon": "full"}) == said
    less = dataclasses.replace(said, memory=MemoryFigures(anonymous=1, mapped=0))
    assert figures_in(figures_message(less, ()).figures) == less, "not every system tells all"
    assert figures_in(figures_message(figures(), ()).figures) == figures(), "not ready yet"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("up_s", math.nan),
        ("capacity_used", -1.0),
        ("streams", -1),
        ("memory", {"anonymous": -1, "mapped": 0}),
        ("shared", [{"name": "graph", "size": 1, "device": "cpu", "models": []}]),
        ("boot_id", ""),
        ("models", {"a": {"first_audio_p50_s": math.inf}}),
        ("ended", {"finished": -1}),
        ("version", "x" * 10_000),
    ],
)
def test_what_cannot_be_true_is_refused_with_its_place(field: str, value: object) -> None:
    with pytest.raises(InvalidInputError, match=f"a worker's figures: .*{field}"):
        read_figures(written_figures(figures()) | {field: value})
