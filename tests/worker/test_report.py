"""What a worker reports of itself to those who decide where requests go."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from greenroom import Catalog, InvalidInputError, ModelManager
from greenroom.ledger.state import State
from greenroom.testing import Stage
from greenroom.worker.client import Client
from greenroom.worker.report import (
    UNKNOWN_LOAD_S,
    LoadTimes,
    WorkerReport,
    catalog_digest,
    read_report,
    written_report,
)
from tests.cluster.replicas import loading, ready, report
from tests.waiting import until
from tests.worker.http.http_client import running_http_worker
from tests.worker.worker_client import WorkerClient, running_worker


async def reported(served: WorkerClient) -> WorkerReport:
    async with Client(str(served.worker.address)) as client:
        return await client.report()


async def test_a_report_has_residents_room_and_load_times() -> None:
    stage = Stage("a", "b", "c")
    manager = ModelManager(
        catalog=stage.catalog,
        default_model_id="a",
        resident_cap=3,
        min_residency_ms=0,
        cap_policy="hard",
    )
    async with running_worker(manager) as served:
        first = await reported(served)
        assert (first.ready, first.draining, first.default_model_id) == (True, False, "a")
        assert (first.places, first.free_places, first.evictable_places) == (3, 2, 0)
        async with manager.lease("b"):
            held = await reported(served)
            assert {each.model_id: each.references for each in held.residents} == {"a": 0, "b": 1}
            assert held.evictable_places == 0, "the default is pinned, b is held"
        after = await reported(served)
        assert [each.model_id for each in after.residents if each.can_leave] == ["b"]
        assert (after.evictable_places, after.room_in_s) == (1, 0.0)
        assert set(after.load_s) == {"a", "b"}
        assert after.boot_id == first.boot_id
        assert first.sequence < held.sequence < after.sequence


async def test_a_model_on_its_way_says_how_long_it_will_take() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        stage["b"].load.hold()
        await manager.prefetch("b")
        await until(lambda: stage["b"].load.waiting == 1)
        served.worker.synthesis.reporter._loads.learn("b", 1_000.0)
        found = await reported(served)
        on_its_way = next(each for each in found.residents if each.model_id == "b")
        assert on_its_way.state is State.LOADING
        assert 900.0 < on_its_way.left_s <= 1_000.0
        stage.open_all()


async def test_where_all_is_pinned_there_will_be_no_room() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(
        catalog=stage.catalog, default_model_id="a", resident_cap=1, cap_policy="hard"
    )
    async with running_worker(manager) as served:
        assert (await reported(served)).room_in_s is None
        manager.unpin("a")
        room = (await reported(served)).room_in_s
        assert room is not None
        assert 0.0 < room <= 120.0, "until its min residency is over, or a speech"


async def test_a_worker_that_ends_says_so() -> None:
    stage = Stage("a")
    async with running_worker(ModelManager(catalog=stage.catalog, default_model_id="a")) as served:
        await served.worker.synthesis.drain(0.0)
        found = await reported(served)
        assert (found.ready, found.draining) == (False, True)


async def test_http_answers_the_same_report() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        over_http = read_report(await web.get("/api/report"))
        over_grpc = await reported(web.served)
        assert over_grpc.sequence == over_http.sequence + 1
        for found in (over_http, over_grpc):
            assert [each.model_id for each in found.residents] == ["a"]
        assert dataclasses.replace(over_http, sequence=0, residents=()) == dataclasses.replace(
            over_grpc, sequence=0, residents=()
        )


async def test_metrics_have_what_schedulers_of_inference_read() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", resident_cap=2)
    async with running_http_worker(manager) as web:
        await manager.load("b")
        figures = await web.figures()
        labels = 'max_lora="2",running_lora_adapters="a,b",waiting_lora_adapters=""'
        assert figures[f"models{{{labels}}}"] > 1e9
        assert (figures["requests_waiting"], figures["requests_running"]) == (0, 0)
        assert 0 <= figures["memory_used_ratio"] <= 1


def test_a_report_survives_the_way_through_json() -> None:
    said = report(ready("joe", 3.0, footprint=7), loading("amy", 0.5), room_in_s=None)
    assert read_report(json.loads(json.dumps(written_report(said)))) == said


def test_fields_of_later_versions_are_ignored() -> None:
    assert read_report(written_report(report()) | {"moon": "full"}) == report()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sequence": -1}, "sequence"),
        ({"boot_id": ""}, "boot_id"),
        ({"capacity_used": float("nan")}, "capacity_used"),
        ({"room_in_s": float("inf")}, "room_in_s"),
        ({"places": "many"}, "places"),
        ({"residents": [{"model_id": "joe", "state": "flying"}]}, "state"),
        ({"load_s": {"joe": -1}}, "load_s"),
        ({"free_places": 4}, "4 of 3 places"),
        ({"evictable_places": 1}, "may leave"),
        ({"draining": True}, "about to end"),
        ({"residents": 2 * [{"model_id": "joe", "state": "ready"}]}, "twice"),
        (
            {"residents": [{"model_id": "joe", "state": "ready", "left_s": 1.0}]},
            "ready only later",
        ),
        (
            {
                "residents": [
                    {"model_id": "joe", "state": "ready", "references": 1, "can_leave": True}
                ],
                "evictable_places": 1,
            },
            "in use",
        ),
    ],
)
def test_a_report_that_cannot_be_true_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        read_report(written_report(report()) | changed)


@pytest.mark.parametrize("given", [None, [], "report", {}])
def test_what_is_no_report_is_refused(given: object) -> None:
    with pytest.raises(InvalidInputError, match="report"):
        read_report(given)


def test_a_load_time_is_the_median_of_the_last_and_few_models_are_kept() -> None:
    times = LoadTimes()
    assert times.median("joe") == UNKNOWN_LOAD_S
    for seconds in (9.0, 1.0, 1.2, 1.1):
        times.learn("joe", seconds)
    assert times.median("joe") == pytest.approx(1.15)
    for n in range(1_000):
        times.learn(f"voice-{n}", 0.25)
    assert times.median("joe") == 0.25, "as the one that was loaded last"
    assert len(times.medians(["voice-1"])) == 101


def test_catalogs_are_told_apart_by_what_they_load() -> None:
    one, same, other = Stage("a", "b"), Stage("b", "a"), Stage("a")
    assert catalog_digest(one.catalog) == catalog_digest(same.catalog)
    assert catalog_digest(one.catalog) != catalog_digest(other.catalog)


async def test_a_report_tells_another_catalog_once_a_voice_has_come() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        before, again = await reported(served), await reported(served)
        fewer = Catalog(spec for spec in stage.catalog if spec.model_id == "a")
        manager.catalog.adopt(fewer)
        after = await reported(served)
    assert before.catalog == again.catalog
    assert after.catalog == catalog_digest(fewer) != before.catalog
