"""The metrics of a manager and of a worker's speech, as a Prometheus server would read them."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import exposition, generate_latest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families

from greenroom import CapacityError, ModelLoadError, ModelManager, SynthesisError
from greenroom.config.schema import WorkerSettings
from greenroom.errors import OverloadedError, WorkerBusyError
from greenroom.journal import Kind
from greenroom.memory.usage import MIB
from greenroom.testing import Stage, VirtualTimeLoop
from greenroom.worker import prometheus as worker_metrics
from greenroom.worker.speech import Speech
from greenroom.worker.synthesis import Synthesis
from tests.overload import cost_as_much_as_there_is, endless

pytestmark = pytest.mark.virtual_time

DASHBOARD = Path(__file__).parents[2] / "dashboards" / "greenroom.json"


class MeteredSynthesis:
    """A worker's synthesis over a stage, and what it tells Prometheus."""

    def __init__(self, stage: Stage, **settings: Any) -> None:
        settings = {"ttl_ms": -1, "min_residency_ms": 0, "resident_cap": 2} | settings
        self.manager = ModelManager(catalog=stage.catalog, default_model_id="a", **settings)
        self.synthesis = Synthesis(self.manager, WorkerSettings(max_streams=2))

    async def text(self) -> str:
        return (await self.synthesis.metrics.exposition())[0].decode()

    async def __call__(self, *wanted: str) -> Any:
        """Return one sample, or several, by name and labels as they stand in the text."""
        found = {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in (await self.text()).splitlines()
            if not line.startswith("#")
        }
        values = [found[f"greenroom_{name}"] for name in wanted]
        return values[0] if len(values) == 1 else values

    async def speak(self, model_id: str, limit: int | None = None, *, stop: bool = False) -> None:
        voice = self.synthesis.voices.choose(model_id)
        async with self.synthesis.once(
            voice, self.synthesis.text("Hello."), owner="test"
        ) as speech:
            heard = 0
            async for _ in speech:
                heard += 1
                if heard == limit:
                    if not stop:
                        break
                    speech.stop()


@pytest.fixture
async def metered(stage: Stage) -> AsyncIterator[MeteredSynthesis]:
    made = await asyncio.to_thread(MeteredSynthesis, stage)
    following = asyncio.create_task(made.synthesis.metrics.manager.follow())
    await made.manager.initialize()
    yield made
    stage.open_all()
    await made.synthesis.drain(0)
    await made.manager.shutdown(drain_timeout_ms=0)
    await following


async def test_residents_are_told_by_state_with_their_references_and_sizes(
    metered: MeteredSynthesis, stage: Stage
) -> None:
    stage["b"].footprint = 5 * MIB
    stage["b"].mapped = 60 * MIB
    await metered.manager.load("b", owner="x")
    await metered.manager.load("b", owner="y")
    assert await metered('residents{state="ready"}') == 2
    assert await metered('residents{state="unloading"}') == 0
    assert await metered('model_references{model="b"}') == 2
    assert await metered('model_footprint_bytes{device="cpu",model="b"}') == 5 * MIB
    assert await metered('model_mapped_bytes{device="cpu",model="b"}') == 60 * MIB
    assert await metered('footprint_bytes{device="cpu"}') == 5 * MIB
    assert await metered('budget_bytes{device="cpu"}') > 5 * MIB
    for kind in ("anonymous", "mapped", "proportional"):
        assert await metered(f'process_memory_bytes{{kind="{kind}"}}') > 5 * MIB
    assert (await metered('model_pinned{model="a"}'), await metered('model_pinned{model="b"}')) == (
        1,
        0,
    )
    assert await metered("resident_cap") == 2


async def test_loads_and_warmups_are_timed_by_model(
    metered: MeteredSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    loading = asyncio.create_task(metered.manager.load("b"))
    await clock.advance(3)
    stage["b"].load.open()
    await loading
    await clock.settle()
    assert await metered('load_seconds_count{model="b"}') == 1
    assert await metered('load_seconds_sum{model="b"}') == 3
    assert await metered('load_seconds_bucket{le="2.0",model="b"}') == 0
    assert await metered('warmup_seconds_count{model="b"}') == 1
    assert await metered('loads_total{outcome="ready"}') == 2


async def test_hits_failures_departures_and_refusals_are_counted_by_reason(
    metered: MeteredSynthesis, stage: Stage
) -> None:
    await metered.manager.load("a")
    stage["b"].load.error = ValueError("broken")
    for _ in range(2):
        with pytest.raises(ModelLoadError):
            await metered.manager.load("b")
    await metered.manager.load("c")
    await metered.manager.release("c")
    await metered.manager.load("d")  # c makes room
    assert await metered("hits_total") == 1
    assert await metered('loads_total{outcome="failed"}') == 1
    assert await metered('refusals_total{reason="load_failed"}') == 1
    assert await metered('refusals_total{reason="backing_off"}') == 1
    assert await metered('refusals_total{reason="timed_out"}') == 0
    assert await metered('departures_total{reason="evicted"}') == 1
    assert await metered('departures_total{reason="expired"}') == 0


async def test_the_oldest_waiter_and_the_oldest_load_are_told_with_their_age(
    metered: MeteredSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    assert await metered("oldest_wait_seconds") == await metered("oldest_load_seconds") == 0
    stage["b"].load.hold()
    first = asyncio.create_task(metered.manager.load("b"))
    await clock.advance(2)
    second = asyncio.create_task(metered.manager.load("c"))
    await clock.advance(3)
    assert await metered("oldest_wait_seconds") == 5  # who waits for a load waits too
    assert await metered("oldest_load_seconds") == 5
    assert await metered("waiting_callers") == 1
    stage["b"].load.open()
    await asyncio.gather(first, second)
    assert await metered("oldest_wait_seconds") == await metered("oldest_load_seconds") == 0


async def test_a_load_that_hangs_shows_until_its_thread_has_left(
    metered: MeteredSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    loading = asyncio.create_task(metered.manager.load("b"))
    await clock.advance(61)
    with pytest.raises(ModelLoadError):
        await loading
    assert await metered("hanging_models") == 1
    assert await metered("oldest_load_seconds") == 0
    stage["b"].load.open()
    await clock.settle()
    assert await metered("hanging_models") == 0


async def test_synthesis_that_hangs_shows_until_its_thread_has_left(
    metered: MeteredSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["a"].synthesize.hold()
    speaking = asyncio.create_task(metered.speak("a"))
    await clock.advance(61)
    with pytest.raises(SynthesisError):
        await speaking
    assert await metered("hanging_models") == 1
    assert await metered('streams_ended_total{outcome="failed"}') == 1
    stage["a"].synthesize.open()
    await clock.settle()
    assert await metered("hanging_models") == 0


async def test_speech_is_timed_and_counted_by_how_it_ended(metered: MeteredSynthesis) -> None:
    await metered.speak("a")
    assert await metered('first_audio_seconds_count{model="a"}') == 1
    assert await metered('audio_seconds_total{model="a"}') == pytest.approx(0.5)
    assert await metered('real_time_factor_count{model="a"}') == 1
    assert await metered('real_time_factor_sum{model="a"}') > 0
    assert await metered('streams_ended_total{outcome="finished"}') == 1
    await metered.speak("a", limit=2, stop=True)
    assert await metered('streams_ended_total{outcome="stopped"}') == 1
    await metered.speak("a", limit=2)
    assert await metered('streams_ended_total{outcome="cancelled"}') == 1
    assert await metered('real_time_factor_count{model="a"}') == 1  # of whole speech only
    assert await metered("streams") == 0


async def test_a_running_stream_and_a_refused_one_are_seen(
    metered: MeteredSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["a"].synthesize.hold()
    running = [asyncio.create_task(metered.speak("a")) for _ in range(2)]
    await clock.settle()
    assert await metered("streams") == await metered('model_streams{model="a"}') == 2
    with pytest.raises(WorkerBusyError):
        await metered.speak("a")
    assert await metered('busy_total{reason="streams"}') == 1
    running[0].cancel()
    stage.open_all()
    await asyncio.wait(running)
    assert await metered('streams_ended_total{outcome="cancelled"}') == 1
    assert await metered('streams_ended_total{outcome="finished"}') == 1
    assert await metered("streams") == 0


async def test_a_silence_in_speech_is_counted_by_model(
    metered: MeteredSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    gaps, late = 'speech_gaps_total{model="a"}', 'speech_late_seconds_total{model="a"}'
    await metered.speak("a")
    assert await metered(gaps, late) == [0, 0]
    text = metered.synthesis.text("A sentence. And another.")
    voice = metered.synthesis.voices.choose("a")
    async with metered.synthesis.once(voice, text, owner="test") as speech:
        for _ in range(4):  # of 25 frames in its first sentence
            await anext(speech)
        stage["a"].synthesize.hold()
        rest = asyncio.create_task(_count(speech))
        await clock.advance(3.0)
        stage["a"].synthesize.open()
        assert await rest == 46
    assert await metered(gaps) == 1
    assert 2.0 < await metered(late) < 3.0


async def test_one_more_stream_than_can_be_kept_up_shows_and_is_counted_when_it_is_refused(
    metered: MeteredSynthesis, clock: VirtualTimeLoop
) -> None:
    cost_as_much_as_there_is(await metered.manager.load("a"))
    voice = metered.synthesis.voices.choose("a")
    text = metered.synthesis.text(endless())
    async with metered.synthesis.once(voice, text, owner="test") as speech:
        first = asyncio.create_task(anext(speech))
        await clock.advance(0.1)
        await first
        waiting = asyncio.create_task(metered.speak("a"))
        await clock.advance(1.0)
        assert 0.8 < await metered("capacity_used_ratio") < 1.0
        assert await metered("waiting_streams", 'busy_total{reason="overload"}') == [1, 0]
        await clock.advance(30.0)
        with pytest.raises(OverloadedError):
            await waiting
    used, waits = await metered("capacity_used_ratio", "waiting_streams")
    assert (used, waits) == (0, 0)
    assert await metered('busy_total{reason="overload"}') == 1
    assert await metered('streams_ended_total{outcome="failed"}') == 1


async def _count(speech: Speech) -> int:
    return len([frame async for frame in speech])


async def test_waits_for_a_model_are_told_apart_by_whether_they_were_worth_it(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    metered = await asyncio.to_thread(
        MeteredSynthesis, stage, resident_cap=1, cap_policy="hard", acquire_timeout_ms=500
    )
    await metered.manager.initialize()
    await metered.speak("a")
    with pytest.raises(CapacityError):
        await metered.speak("b")
    assert await metered('wait_seconds_count{outcome="served"}') == 1
    assert await metered('wait_seconds_count{outcome="refused"}') == 1
    await metered.manager.shutdown(drain_timeout_ms=0)


async def test_memory_that_was_not_returned_is_told_after_a_life(
    metered: MeteredSynthesis, stage: Stage
) -> None:
    stage["b"].measured = True
    await metered.manager.load("b")
    await metered.manager.release("b")
    await metered.manager.unload("b")
    assert await metered('model_leaking{model="b"}') == 0
    assert 'greenroom_memory_not_returned_bytes{model="b"}' in await metered.text()


async def test_two_workers_of_one_process_count_apart(
    metered: MeteredSynthesis, stage: Stage
) -> None:
    other = await asyncio.to_thread(MeteredSynthesis, stage)
    await metered.speak("a")
    assert await other('streams_ended_total{outcome="finished"}') == 0


async def test_what_models_share_is_told_once(metered: MeteredSynthesis, stage: Stage) -> None:
    for name in ("b", "c"):
        stage[name].footprint, stage[name].shared = 5 * MIB, ("graph", 60 * MIB)
        await metered.manager.load(name)
    assert await metered('shared_memory_bytes{device="cpu",name="graph"}') == 60 * MIB
    assert await metered('footprint_bytes{device="cpu"}') == 70 * MIB


async def test_both_text_formats_are_read_by_the_official_parsers(
    metered: MeteredSynthesis,
) -> None:
    await metered.speak("a")
    text, kind = await metered.synthesis.metrics.exposition()
    assert kind.startswith("text/plain")
    names = {family.name for family in text_string_to_metric_families(text.decode())}
    text, kind = await metered.synthesis.metrics.exposition(
        "application/openmetrics-text; version=1.0.0"
    )
    assert kind.startswith("application/openmetrics-text")
    families = list(open_metrics(text.decode()))
    assert {family.name for family in families} <= names | {"process"}
    for family in families:
        assert family.documentation, family.name


async def test_the_dashboard_asks_only_for_metrics_that_are_exported(
    metered: MeteredSynthesis,
) -> None:
    await metered.speak("a")
    await metered.manager.load("b")
    await metered.manager.release("b")
    await metered.manager.unload("b")
    exported = {
        re.split(r"[ {]", line)[0] for line in (await metered.text()).splitlines() if line[0] != "#"
    } | {
        "greenroom_memory_not_returned_bytes",
        "greenroom_engine_process_memory_bytes",
        "greenroom_engine_crashes_total",
        "greenroom_shared_memory_bytes",
    }
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    asked: set[str] = set()
    for panel in panels:
        for target in panel["targets"]:
            found = re.findall(r"\b(?:greenroom|process)_\w+", target["expr"])
            assert found, target
            asked.update(found)
    assert asked <= exported
    ours = {name for name in exported if name.startswith("greenroom_")}
    unseen = {name for name in ours - asked if not re.search(r"_(sum|count|created)$", name)}
    assert unseen == {
        "greenroom_model_streams",
        "greenroom_model_pinned",
        "greenroom_model_idle_seconds",
        "greenroom_model_leaking",
        "greenroom_overdrawn",
        # What schedulers of requests read: the page shows the same by its own metrics.
        "greenroom_models",
        "greenroom_requests_waiting",
        "greenroom_requests_running",
        "greenroom_memory_used_ratio",
    }
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


async def test_encoding_is_done_in_a_thread_one_scrape_at_a_time_and_shared(
    metered: MeteredSynthesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops_thread, threads, inside = threading.get_ident(), [], []
    real = exposition.choose_encoder

    def choose_encoder(accept: str) -> Any:
        encode, kind = real(accept)

        def watched(registry: Any) -> bytes:
            threads.append(threading.get_ident())
            inside.append(kind)
            assert len(inside) == 1
            text: bytes = encode(registry)
            inside.pop()
            return text

        return watched, kind

    monkeypatch.setattr(worker_metrics, "choose_encoder", choose_encoder)
    expose = metered.synthesis.metrics.exposition
    asked = ["", "application/openmetrics-text; version=1.0.0"] * 10
    answers = await asyncio.gather(*map(expose, asked))
    assert len(threads) == 2
    assert loops_thread not in threads
    assert len({text for text, _ in answers}) == 2
    await expose()
    assert len(threads) == 3  # what is over is not told again


async def test_a_scrape_that_is_given_up_leaves_the_others_their_answer(
    metered: MeteredSynthesis,
) -> None:
    first, second = (asyncio.create_task(metered.text()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert "greenroom_residents" in await second
    assert "greenroom_residents" in await metered.text()


async def test_series_are_those_of_residents_and_of_the_models_used_last(
    metered: MeteredSynthesis,
) -> None:
    metrics = metered.synthesis.metrics
    for number in range(300):
        speech = Speech(1.0)
        speech.timing.audio_s = 1.0
        with metrics.speaking(f"m{number}", speech):
            pass
        if number % 100 == 0:
            await metered.speak("a")
    text = await metered.text()
    models = set(re.findall(r'audio_seconds_total\{model="(\w+)"', text))
    assert models == {f"m{number}" for number in range(200, 300)} | {"a"}
    assert await metered('streams_ended_total{outcome="cancelled"}') == 300


async def test_a_manager_has_as_few_series_however_many_models_it_loaded(
    metered: MeteredSynthesis, clock: VirtualTimeLoop
) -> None:
    for number in range(250):
        metered.manager.journal.record(Kind.WARMING, f"m{number}", "test", 0.0, took_s=1.0)
        metered.manager.journal.record(Kind.READY, f"m{number}", "test", 0.0, took_s=1.0)
    await clock.settle()
    text = await metered.text()
    for name in ("load", "warmup"):
        models = re.findall(rf'{name}_seconds_count\{{model="(\w+)"', text)
        assert sorted(models) == sorted([f"m{n}" for n in range(150, 250)] + ["a"])


async def test_a_snapshot_is_collected_in_any_thread(metered: MeteredSynthesis) -> None:
    await metered.manager.load("b")
    snapshot = metered.synthesis.metrics.manager.snapshot()
    text = await asyncio.to_thread(generate_latest, snapshot)
    assert b'greenroom_model_references{model="b"} 1.0' in text
