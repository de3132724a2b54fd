"""Loading and warming up, with fake engines and virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from greenroom import (
    Catalog,
    ModelLoadError,
    ModelManager,
    ModelNotFoundError,
    ModelNotResidentError,
    ModelSpec,
    WarmupError,
)
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.testing import Stage, VirtualTimeLoop
from tests.manager.running_manager import ids, one, running

pytestmark = pytest.mark.virtual_time


# Loading


async def test_load_returns_one_object_for_one_model(stage: Stage) -> None:
    async with running(stage) as manager:
        first = await manager.load("b")
        assert await manager.load("b") is first
        assert one(manager, "b").refcount == 2


async def test_a_ready_model_is_handed_over_without_awaiting(stage: Stage) -> None:
    async with running(stage) as manager:
        loading = manager.load("a")
        with pytest.raises(StopIteration) as done:
            loading.send(None)
        assert isinstance(done.value.value, stage.adapter)


async def test_an_unknown_id_is_an_error_that_names_near_matches(stage: Stage) -> None:
    catalog = Catalog([ModelSpec("amy-medium", stage.adapter), *stage.catalog])
    manager = ModelManager(catalog=catalog, default_model_id="a")
    await manager.initialize()
    with pytest.raises(ModelNotFoundError, match="did you mean amy-medium") as raised:
        await manager.load("amy-medum")
    assert raised.value.near == ("amy-medium",)
    for strange in ("piper-../../etc/passwd", "", "a" * 100_000, "../a"):
        with pytest.raises(ModelNotFoundError):
            await manager.load(strange)
    assert ids(manager) == ["a"]
    await manager.shutdown()


async def test_an_alias_finds_the_model_for_every_call(stage: Stage) -> None:
    catalog = Catalog([ModelSpec("a", stage.adapter, aliases=("ay",))])
    manager = ModelManager(catalog=catalog, default_model_id="ay")
    await manager.initialize()
    await manager.load("ay", owner="me")
    assert one(manager, "a").owners == ("me",)
    await manager.release("ay", owner="me")
    assert one(manager, "a").refcount == 0
    assert manager.explain("ay").model_id == "a"
    manager.unpin("ay")
    await manager.unload("ay")
    with pytest.raises(ModelNotResidentError):
        await manager.release("ay")
    await manager.shutdown()


async def test_a_model_asked_for_by_an_alias_is_held_since_then(clock: VirtualTimeLoop) -> None:
    stage = Stage("a", aliases=("alias",))
    async with running(stage) as manager:
        await manager.load("alias", owner="ann")
        await clock.advance(7)
        assert manager.explain("a").holders == (("ann", 7.0),)


async def test_without_a_catalog_the_models_of_the_given_adapter_are_all_there_are() -> None:
    manager = ModelManager(adapter_class=ToneTTSAdapter, default_model_id="tone-440")
    models = [spec.model_id for spec in manager.catalog]
    assert len(models) == 8
    assert all(model_id.startswith("tone-") for model_id in models)


async def test_concurrent_first_loads_share_one_load_and_count_one_reference_each(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        stage["b"].warm_up.hold()
        callers = [asyncio.create_task(manager.load("b", owner=f"c{i}")) for i in range(5)]
        await clock.settle()
        assert one(manager, "b").state == "warming"
        stage["b"].warm_up.open()
        adapters = await asyncio.gather(*callers)
        assert len(set(map(id, adapters))) == 1
        assert stage["b"].calls["construct"] == stage["b"].calls["load"] == 1
        assert one(manager, "b").refcount == 5
        assert one(manager, "b").owners == ("c0", "c1", "c2", "c3", "c4")


async def test_at_most_max_parallel_loads_run_at_once(stage: Stage, clock: VirtualTimeLoop) -> None:
    async with running(stage, max_parallel_loads=2, resident_cap=8) as manager:
        for name in "bcde":
            stage[name].load.hold()
        callers = [asyncio.create_task(manager.load(name)) for name in "bcde"]
        await clock.settle()
        assert [stage[name].load.waiting for name in "bcde"] == [1, 1, 0, 0]
        stage["b"].load.open()
        await clock.settle()
        assert [stage[name].load.waiting for name in "bcde"] == [0, 1, 1, 0]
        stage.open_all()
        await asyncio.gather(*callers)


async def test_a_hit_does_not_wait_for_loads_unloads_or_warmups_that_hang(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, max_parallel_loads=2, resident_cap=8) as manager:
        await manager.load("d")
        await manager.release("d")
        stage["b"].load.hold()
        stage["c"].warm_up.hold()
        stage["d"].unload.hold()
        others: list[asyncio.Task[Any]] = [asyncio.create_task(manager.load(n)) for n in "bc"]
        others.append(asyncio.create_task(manager.unload("d")))
        await clock.settle()
        assert [stage["b"].load.waiting, stage["c"].warm_up.waiting] == [1, 1]
        assert stage["d"].unload.waiting == 1
        with pytest.raises(StopIteration):
            manager.load("a").send(None)
        stage.open_all()
        await asyncio.gather(*others)


async def test_nothing_of_the_engine_runs_on_the_event_loop(stage: Stage) -> None:
    import threading

    seen: set[str] = set()

    class Watched(stage.adapter):  # type: ignore[name-defined,misc]
        def __init__(self, spec: ModelSpec) -> None:
            super().__init__(spec)
            seen.add(threading.current_thread().name)

        def load(self) -> None:
            super().load()
            seen.add(threading.current_thread().name)

        def unload(self) -> None:
            super().unload()
            seen.add(threading.current_thread().name)

    manager = ModelManager(catalog=Catalog([ModelSpec("a", Watched)]), default_model_id="a")
    await manager.initialize()
    adapter = await manager.load("a")
    assert [frame.samples async for frame in adapter.synthesize_stream("Hi.")]
    await manager.release("a")
    await manager.shutdown()
    assert threading.current_thread().name not in seen
    assert all(name.startswith("greenroom-") for name in seen)


# Warmup


async def test_a_model_speaks_its_warmup_text_before_anyone_has_it(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, warmup_text="Hello.") as manager:
        stage["b"].warm_up.hold()
        caller = asyncio.create_task(manager.load("b"))
        await clock.settle()
        assert not caller.done()
        await clock.advance(1.5)
        stage["b"].warm_up.open()
        await caller
        assert stage["b"].calls["warm_up"] == 1
        assert one(manager, "b").warmup_s == 1.5


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"amplitude": 0.0}, "silent"),
        ({"amplitude": float("nan")}, "not numbers"),
        ({"chunks": 0}, "no samples"),
        ({"spoken_rate": 8_000}, "8000 Hz, but says 16000 Hz"),
    ],
)
async def test_a_warmup_that_is_no_speech_fails_the_load(
    stage: Stage, fault: dict[str, Any], message: str
) -> None:
    async with running(stage) as manager:
        for key, value in fault.items():
            setattr(stage["b"], key, value)
        with pytest.raises(WarmupError, match=message) as raised:
            await manager.load("b")
        assert raised.value.model_id == "b"
        assert raised.value.retry_after == 1.0
        assert ids(manager) == ["a"]
        assert stage["b"].calls["unload"] == 1


async def test_a_warmup_that_raises_fails_the_load_with_its_cause(stage: Stage) -> None:
    async with running(stage) as manager:
        stage["b"].warm_up.error = OSError("no espeak")
        with pytest.raises(ModelLoadError, match="OSError: no espeak") as raised:
            await manager.load("b")
        assert isinstance(raised.value.__cause__, OSError)


async def test_an_empty_warmup_text_skips_the_warmup(stage: Stage) -> None:
    async with running(stage, warmup_text=""):
        assert stage["a"].calls["warm_up"] == 0


async def test_a_ready_model_is_handed_over_without_awaiting_though_its_file_has_changed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(stage) as manager:
        monkeypatch.setattr(manager._effects.footprints, "is_current", lambda _: False)
        with pytest.raises(StopIteration):
            manager.load("a").send(None)
