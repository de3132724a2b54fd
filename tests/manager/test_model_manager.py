"""What callers of the manager rely on, with fake engines and virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import (
    CapacityError,
    Catalog,
    ConfigError,
    LeaseReleasedError,
    LoadTimeoutError,
    ManagerClosedError,
    ModelInUseError,
    ModelLoadError,
    ModelManager,
    ModelNotFoundError,
    ModelNotResidentError,
    ModelSpec,
    UnloadError,
    WarmupError,
)
from greenroom.testing import Stage, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


@contextlib.asynccontextmanager
async def running(stage: Stage, default: str = "a", **settings: Any) -> AsyncIterator[ModelManager]:
    settings.setdefault("min_residency_ms", 0)
    manager = ModelManager(catalog=stage.catalog, default_model_id=default, **settings)
    await manager.initialize()
    try:
        yield manager
    finally:
        stage.open_all()
        await manager.shutdown(drain_timeout_ms=0)


def ids(manager: ModelManager) -> list[str]:
    return [resident.model_id for resident in manager.list_resident()]


def one(manager: ModelManager, model_id: str) -> Any:
    return next(r for r in manager.list_resident() if r.model_id == model_id)


# Start


async def test_initialize_loads_the_default_pinned_and_the_preloads_without_references(
    stage: Stage,
) -> None:
    async with running(stage, preload_model_ids=["b", "c"]) as manager:
        assert ids(manager) == ["a", "b", "c"]
        assert [r.refcount for r in manager.list_resident()] == [0, 0, 0]
        assert [r.pinned for r in manager.list_resident()] == [True, False, False]
        assert all(r.state == "ready" for r in manager.list_resident())


async def test_initialize_loads_the_default_before_any_preload(stage: Stage) -> None:
    stage["a"].load.hold()
    manager = ModelManager(
        catalog=stage.catalog, default_model_id="a", preload_model_ids=["b"], max_parallel_loads=4
    )
    starting = asyncio.create_task(manager.initialize())
    await VirtualTimeLoop.settle(asyncio.get_running_loop())  # type: ignore[arg-type]
    assert stage["b"].calls["construct"] == 0
    stage["a"].load.open()
    await starting
    assert ids(manager) == ["a", "b"]
    await manager.shutdown()


async def test_initialize_fails_and_leaves_nothing_when_the_default_cannot_load(
    stage: Stage,
) -> None:
    stage["a"].load.error = RuntimeError("broken")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", preload_model_ids=["b"])
    with pytest.raises(ModelLoadError, match="broken"):
        await manager.initialize()
    assert manager.list_resident() == ()
    assert stage.loaded == 0
    assert stage["b"].calls["construct"] == 0
    with pytest.raises(ManagerClosedError):
        await manager.load("b")


async def test_a_preload_that_fails_is_reported_and_does_not_stop_the_start(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage["b"].load.error = RuntimeError("broken")
    async with running(stage, preload_model_ids=["b", "c"]) as manager:
        assert ids(manager) == ["a", "c"]
    assert "preload failed: model 'b' cannot be loaded: RuntimeError: broken" in caplog.text


async def test_the_default_may_stand_among_the_preloads_and_is_loaded_once(stage: Stage) -> None:
    async with running(stage, preload_model_ids=["a", "b", "b"]) as manager:
        assert stage["a"].calls["load"] == 1
        assert ids(manager) == ["a", "b"]


async def test_preloads_run_at_most_max_parallel_loads_at_a_time(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    for name in "bcd":
        stage[name].load.hold()
    manager = ModelManager(
        catalog=stage.catalog,
        default_model_id="a",
        preload_model_ids=["b", "c", "d"],
        resident_cap=4,
        max_parallel_loads=2,
    )
    starting = asyncio.create_task(manager.initialize())
    await clock.settle()
    assert sum(stage[name].load.waiting for name in "bcd") == 2
    stage.open_all()
    await starting
    assert ids(manager) == ["a", "b", "c", "d"]
    await manager.shutdown()


async def test_pin_default_can_be_switched_off(stage: Stage) -> None:
    async with running(stage, pin_default=False) as manager:
        assert not one(manager, "a").pinned


async def test_before_initialize_and_after_shutdown_nothing_is_handed_out(stage: Stage) -> None:
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    with pytest.raises(ManagerClosedError, match="initialize"):
        await manager.load("a")
    with pytest.raises(ManagerClosedError):
        manager.pin("a")
    await manager.initialize()
    with pytest.raises(ManagerClosedError, match="before"):
        await manager.initialize()
    await manager.shutdown()
    with pytest.raises(ManagerClosedError):
        await manager.load("a")
    with pytest.raises(ManagerClosedError):
        await manager.release("a")


async def test_shutdown_of_a_manager_that_never_ran_does_nothing(stage: Stage) -> None:
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    await manager.shutdown()
    assert stage["a"].calls["construct"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"default_model_id": "nobody"}, "default_model_id: model 'nobody' is not in the catalog"),
        ({"preload_model_ids": ["nobody"]}, "preload_model_ids: model 'nobody'"),
        ({"resident_cap": 0}, "resident_cap"),
        ({"resident_cap": 2, "preload_model_ids": ["b", "c"]}, "resident_cap 2 is smaller"),
        ({"max_parallel_loads": 0}, "max_parallel_loads"),
        ({"cap_policy": "firm"}, "cap_policy"),
        ({"memory_budget_mb": 0}, "memory_budget_mb"),
        ({"min_residency_ms": -1}, "min_residency_ms"),
        ({"evict_check_interval_ms": 0}, "evict_check_interval_ms"),
        ({"load_timeout_ms": 0}, "load_timeout_ms"),
        ({"synthesis_timeout_ms": 0}, "synthesis_timeout_ms"),
    ],
)
async def test_settings_that_cannot_work_are_refused_before_anything_starts(
    stage: Stage, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelManager(**{"catalog": stage.catalog, "default_model_id": "a", **settings})


async def test_a_manager_without_catalog_and_adapter_is_refused() -> None:
    with pytest.raises(ConfigError, match="catalog"):
        ModelManager(default_model_id="a")


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


# Failures


@pytest.mark.parametrize("step", ["construct", "load", "warm_up"])
async def test_a_load_that_fails_leaves_nothing_behind(stage: Stage, step: str) -> None:
    async with running(stage) as manager:
        getattr(stage["b"], step).error = RuntimeError("broken")
        caught: list[ModelLoadError] = []
        for outcome in await asyncio.gather(
            *(manager.load("b") for _ in range(3)), return_exceptions=True
        ):
            assert isinstance(outcome, ModelLoadError)
            caught.append(outcome)
        assert {type(error) for error in caught} == {ModelLoadError}
        assert len(set(map(id, caught))) == 3
        assert all(error.__cause__ is caught[0].__cause__ for error in caught)
        assert ids(manager) == ["a"]
        assert manager.statistics().failed_loads == 1
        assert [type(x).__name__ for x in stage.living] == ["StagedAdapter"]
        assert stage.loaded == 1
        getattr(stage["b"], step).error = None


async def test_a_failed_load_is_not_kept_alive_by_its_error(stage: Stage) -> None:
    gc.disable()
    try:
        async with running(stage) as manager:
            stage["b"].warm_up.error = RuntimeError("broken")
            with pytest.raises(ModelLoadError) as raised:
                await manager.load("b")
            assert raised.value.__cause__ is not None
            assert {adapter.spec.model_id for adapter in stage.living} == {"a"}
    finally:
        gc.enable()


async def test_an_engine_that_exits_or_stops_iteration_fails_only_its_load(stage: Stage) -> None:
    async with running(stage) as manager:
        for name, error in (
            ("b", SystemExit(3)),
            ("c", KeyboardInterrupt()),
            ("d", StopIteration()),
        ):
            stage[name].load.error = error
            with pytest.raises(ModelLoadError, match=type(error).__name__):
                await manager.load(name)
        assert await manager.load("a")


async def test_a_model_that_failed_is_left_alone_for_twice_as_long_each_time(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        stage["b"].load.error = RuntimeError("broken")
        for wait in (1.0, 2.0, 4.0):
            with pytest.raises(ModelLoadError) as raised:
                await manager.load("b")
            assert raised.value.retry_after == wait
            await clock.advance(wait - 0.25)
            with pytest.raises(ModelLoadError, match="broken") as refused:
                await manager.load("b")
            assert refused.value.retry_after == 0.25
            await clock.advance(0.25)
        assert stage["b"].calls["load"] == 3
        stage["b"].load.error = None
        await manager.load("b")
        await manager.release("b")
        await manager.unload("b")
        stage["b"].load.error = RuntimeError("again")
        with pytest.raises(ModelLoadError) as raised:
            await manager.load("b")
        assert raised.value.retry_after == 1.0


async def test_a_load_that_hangs_fails_its_callers_in_time_and_blocks_nobody(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, load_timeout_ms=5_000, resident_cap=3) as manager:
        stage["b"].load.hold()
        caller = asyncio.create_task(manager.load("b"))
        await clock.advance(4.9)
        assert not caller.done()
        await clock.advance(0.2)
        with pytest.raises(LoadTimeoutError, match="did not load within 5 s"):
            await caller
        assert one(manager, "b").state == "unloading"
        assert manager.explain("b").summary.startswith("a thread hangs in its load")
        assert manager.statistics().resident_cap == 3
        await manager.load("c")
        stage["b"].load.open()
        await clock.settle()
        assert ids(manager) == ["a", "c"]
        assert stage["b"].calls["unload"] == 1
        assert stage.loaded == 2


async def test_a_warmup_that_hangs_keeps_its_room_booked_until_it_ends(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(
        stage, load_timeout_ms=5_000, resident_cap=2, cap_policy="hard", acquire_timeout_ms=1_000
    ) as manager:
        stage["b"].warm_up.hold()
        caller = asyncio.create_task(manager.load("b"))
        await clock.advance(5.1)
        with pytest.raises(LoadTimeoutError, match="did not warm up within 5 s"):
            await caller
        late = asyncio.create_task(manager.load("c"))
        await clock.advance(1.1)
        with pytest.raises(CapacityError):
            await late
        stage["b"].warm_up.open()
        await clock.settle()
        assert await manager.load("c")
        assert stage["b"].calls["unload"] == 1


# References


async def test_release_gives_one_reference_back(stage: Stage) -> None:
    async with running(stage) as manager:
        await manager.load("a", owner="x")
        await manager.load("a", owner="x")
        await manager.load("a", owner="y")
        await manager.release("a", owner="x")
        assert one(manager, "a").refcount == 2
        assert one(manager, "a").owners == ("x", "y")


async def test_more_releases_than_loads_is_an_error_that_changes_nothing(stage: Stage) -> None:
    async with running(stage) as manager:
        await manager.load("a", owner="x")
        for owner in (None, "y"):
            with pytest.raises(LeaseReleasedError, match="holds no reference"):
                await manager.release("a", owner=owner)
        assert one(manager, "a").refcount == 1
        await manager.release("a", owner="x")
        with pytest.raises(LeaseReleasedError):
            await manager.release("a", owner="x")
        assert one(manager, "a").refcount == 0
        with pytest.raises(ModelNotResidentError):
            await manager.release("b")
        with pytest.raises(ModelNotFoundError):
            await manager.release("nobody")


async def test_a_waiter_that_is_cancelled_ends_only_its_own_wait(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        stage["b"].load.hold()
        first, second = (asyncio.create_task(manager.load("b", owner=o)) for o in ("x", "y"))
        await clock.settle()
        first.cancel()
        await clock.settle()
        stage["b"].load.open()
        assert await second
        assert first.cancelled()
        assert one(manager, "b").owners == ("y",)


@pytest.mark.parametrize("step", ["construct", "load", "warm_up"])
async def test_a_load_that_nobody_waits_for_any_more_stays_as_an_idle_resident(
    stage: Stage, clock: VirtualTimeLoop, step: str
) -> None:
    async with running(stage) as manager:
        getattr(stage["b"], step).hold()
        callers = [asyncio.create_task(manager.load("b")) for _ in range(3)]
        await clock.settle()
        for caller in callers:
            caller.cancel()
        await clock.settle()
        getattr(stage["b"], step).open()
        await clock.settle()
        assert stage["b"].calls["construct"] == 1
        assert one(manager, "b").state == "ready"
        assert one(manager, "b").refcount == 0
        assert one(manager, "b").expires_in_s == 600.0


async def test_a_caller_cancelled_in_the_step_that_grants_gives_its_reference_back(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        stage["b"].load.hold()
        caller = asyncio.create_task(manager.load("b"))
        await clock.settle()
        watcher = manager.subscribe()

        async def cancel_when_ready() -> None:
            async for event in watcher:
                if event.kind == "ready":
                    caller.cancel()
                    return

        cancelling = asyncio.create_task(cancel_when_ready())
        await clock.settle()
        stage["b"].load.open()
        await clock.settle()
        await cancelling
        assert caller.cancelled()
        assert one(manager, "b").refcount == 0
        await watcher.aclose()


# Leaving


async def test_an_idle_model_expires_when_its_ttl_is_over_and_not_before(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, ttl_ms=10_000, evict_check_interval_ms=3_000) as manager:
        await manager.load("b")
        await clock.advance(60)
        await manager.release("b")
        assert one(manager, "b").expires_in_s == 10.0
        await clock.advance(9.9)
        assert one(manager, "b").idle_s == pytest.approx(9.9)
        await clock.advance(0.2)
        assert ids(manager) == ["a"]
        assert stage["b"].calls["unload"] == 1
        assert manager.statistics().expirations == 1


async def test_using_a_model_again_starts_its_idle_time_anew(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, ttl_ms=10_000) as manager:
        await manager.load("b")
        await manager.release("b")
        await clock.advance(9)
        await manager.load("b")
        await manager.release("b")
        await clock.advance(9)
        assert ids(manager) == ["a", "b"]
        await clock.advance(1.1)
        assert ids(manager) == ["a"]


async def test_a_model_is_kept_for_its_min_residency_even_if_idle(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, ttl_ms=0, min_residency_ms=20_000) as manager:
        await manager.load("b")
        await manager.release("b")
        await clock.advance(19.9)
        assert ids(manager) == ["a", "b"]
        await clock.advance(0.2)
        assert ids(manager) == ["a"]


async def test_ttl_zero_unloads_on_the_last_release(stage: Stage, clock: VirtualTimeLoop) -> None:
    async with running(stage, ttl_ms=0) as manager:
        await manager.load("b")
        await manager.load("b")
        await manager.release("b")
        await clock.settle()
        assert "b" in ids(manager)
        await manager.release("b")
        await clock.settle()
        assert ids(manager) == ["a"]


async def test_a_negative_ttl_never_expires(stage: Stage, clock: VirtualTimeLoop) -> None:
    async with running(stage, ttl_ms=-1, evict_check_interval_ms=3_600_000) as manager:
        await manager.load("b")
        await manager.release("b")
        await clock.advance(1_000_000)
        assert ids(manager) == ["a", "b"]
        assert one(manager, "b").expires_in_s is None


async def test_a_model_may_have_a_ttl_of_its_own(stage: Stage, clock: VirtualTimeLoop) -> None:
    catalog = Catalog([*stage.catalog, ModelSpec("short", stage.adapter, ttl_ms=500)])
    stage.scripts["short"] = stage["h"]
    manager = ModelManager(catalog=catalog, default_model_id="a", min_residency_ms=0)
    await manager.initialize()
    for name in ("b", "short"):
        await manager.load(name)
        await manager.release(name)
    await clock.advance(1)
    assert ids(manager) == ["a", "b"]
    await manager.shutdown()


async def test_the_pinned_default_stays(stage: Stage, clock: VirtualTimeLoop) -> None:
    async with running(stage, ttl_ms=1_000, resident_cap=1) as manager:
        await clock.advance(100)
        await manager.load("b")
        assert ids(manager) == ["a", "b"]
        manager.unpin("a")
        await clock.settle()
        assert ids(manager) == ["b"]


async def test_the_least_recently_used_makes_room_before_the_load(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, resident_cap=3) as manager:
        for name in "bc":
            await manager.load(name)
            await clock.advance(1)
        await manager.release("c")
        await clock.advance(1)
        await manager.release("b")
        await manager.load("d")
        assert ids(manager) == ["a", "b", "d"]
        assert stage.peak == 3
        assert manager.statistics().evictions == 1


async def test_soft_cap_is_exceeded_only_while_everybody_is_in_use(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, resident_cap=2) as manager:
        for name in "bcd":
            await manager.load(name)
        assert ids(manager) == ["a", "b", "c", "d"]
        await manager.release("c")
        await clock.settle()
        assert ids(manager) == ["a", "b", "d"]
        await manager.release("d")
        await clock.settle()
        assert ids(manager) == ["a", "b"]
        await manager.release("b")
        await clock.settle()
        assert ids(manager) == ["a", "b"]


async def test_hard_cap_is_never_exceeded_and_waiters_are_served_in_order(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, resident_cap=2, cap_policy="hard") as manager:
        await manager.load("b")
        callers = {name: asyncio.create_task(manager.load(name)) for name in "cd"}
        await clock.settle()
        assert manager.statistics().waiting == 2
        await manager.release("b")
        await clock.settle()
        assert callers["c"].done()
        assert not callers["d"].done()
        await manager.release("c")
        await callers["d"]
        assert stage.peak == 2


async def test_waiting_for_room_ends_with_the_time_when_there_can_be_some(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(
        stage, resident_cap=2, cap_policy="hard", acquire_timeout_ms=5_000
    ) as manager:
        await manager.load("b")
        caller = asyncio.create_task(manager.load("c"))
        await clock.advance(4.9)
        assert not caller.done()
        await clock.advance(0.2)
        with pytest.raises(CapacityError, match="no room came free in time") as raised:
            await caller
        assert raised.value.retry_after == 1.0
        assert manager.statistics().refusals == 1


async def test_a_refusal_that_is_certain_comes_at_once(stage: Stage) -> None:
    async with running(
        stage, resident_cap=2, cap_policy="hard", min_residency_ms=60_000
    ) as manager:
        await manager.load("b")
        with pytest.raises(CapacityError, match="min residency") as raised:
            await manager.load("c")
        assert raised.value.retry_after == 60.0
        manager.pin("b")
        with pytest.raises(CapacityError) as never:
            await manager.load("c")
        assert never.value.retry_after is None


async def test_the_memory_budget_decides_by_the_catalogs_footprints(
    clock: VirtualTimeLoop,
) -> None:
    stage = Stage("a", "b", "c", "d", footprint_mb=100)
    async with running(stage, memory_budget_mb=300, resident_cap=8) as manager:
        for name in "bc":
            await manager.load(name)
        assert manager.statistics().footprint_mb == 300
        caller = asyncio.create_task(manager.load("d"))
        await clock.settle()
        assert not caller.done()
        await manager.release("b")
        await caller
        assert ids(manager) == ["a", "c", "d"]


async def test_a_model_larger_than_the_budget_is_refused_at_once() -> None:
    stage = Stage("a", "b", footprint_mb=100)
    stage.catalog = Catalog([*stage.catalog, ModelSpec("huge", stage.adapter, footprint_mb=1_000)])
    async with running(stage, memory_budget_mb=300) as manager:
        with pytest.raises(CapacityError, match="larger than the memory budget"):
            await manager.load("huge")


async def test_a_measured_footprint_replaces_the_catalogs_and_is_remembered() -> None:
    stage = Stage("a", "b", footprint_mb=100)
    stage["b"].footprint = 7 * 1024 * 1024
    async with running(stage) as manager:
        await manager.load("b")
        assert one(manager, "b").footprint_mb == 7
    async with running(stage, memory_budget_mb=110) as manager:
        await manager.load("b")
        assert ids(manager) == ["a", "b"]


async def test_evict_idle_returns_what_is_due_once_it_is_gone(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, ttl_ms=10_000) as manager:
        await manager.load("b")
        await manager.release("b")
        assert await manager.evict_idle() == ()
        clock._now += 10
        assert await manager.evict_idle() == ("b",)
        assert ids(manager) == ["a"]
        assert stage.loaded == 1


async def test_evict_idle_does_not_wait_for_ever_for_an_engine_that_hangs(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, ttl_ms=10_000) as manager:
        await manager.load("b")
        await manager.release("b")
        stage["b"].unload.hold()
        clock._now += 10
        evicting = asyncio.create_task(manager.evict_idle())
        await clock.advance(10.1)
        assert await evicting == ("b",)
        assert one(manager, "b").state == "unloading"


# Unloading by hand


async def test_unload_overrides_min_residency_and_pins(stage: Stage) -> None:
    async with running(stage, min_residency_ms=60_000) as manager:
        await manager.unload("a")
        assert ids(manager) == []
        await manager.load("a")
        assert one(manager, "a").pinned


async def test_unload_refuses_while_leased_and_changes_nothing(stage: Stage) -> None:
    async with running(stage) as manager:
        held = await manager.load("b", owner="caller 7")
        with pytest.raises(ModelInUseError, match="caller 7") as raised:
            await manager.unload("b")
        assert raised.value.owners == ("caller 7",)
        assert await manager.load("b") is held


async def test_unload_of_what_is_not_resident_is_an_error(stage: Stage) -> None:
    async with running(stage) as manager:
        with pytest.raises(ModelNotResidentError):
            await manager.unload("b")
        with pytest.raises(ModelNotFoundError):
            await manager.unload("nobody")


async def test_drain_lets_holders_finish_and_gives_newcomers_a_fresh_instance(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        old = await manager.load("b", owner="x")
        draining = asyncio.create_task(manager.unload("b", drain=True))
        await clock.settle()
        assert one(manager, "b").state == "draining"
        newcomer = asyncio.create_task(manager.load("b", owner="y"))
        await clock.settle()
        assert not newcomer.done()
        await manager.release("b", owner="x")
        await draining
        fresh = await newcomer
        assert fresh is not old
        assert stage["b"].calls == {
            "construct": 2, "load": 2, "warm_up": 2, "unload": 1
        }  # fmt: skip
        assert one(manager, "b").owners == ("y",)


async def test_drain_of_a_model_that_loads_waits_for_the_load(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        stage["b"].load.hold()
        caller = asyncio.create_task(manager.load("b"))
        await clock.settle()
        with pytest.raises(ModelInUseError):
            await manager.unload("b")
        draining = asyncio.create_task(manager.unload("b", drain=True))
        await clock.settle()
        stage["b"].load.open()
        await caller
        await clock.settle()
        assert one(manager, "b").state == "draining"
        await manager.release("b")
        await draining
        assert ids(manager) == ["a"]


@pytest.mark.parametrize("how", ["limit", "cancel"])
async def test_a_drain_that_does_not_come_to_its_end_is_taken_back(
    stage: Stage, clock: VirtualTimeLoop, how: str
) -> None:
    async with running(stage) as manager:
        held = await manager.load("b", owner="x")
        draining = asyncio.create_task(manager.unload("b", drain=True))
        await clock.advance(20)
        newcomer = asyncio.create_task(manager.load("b", owner="y"))
        await clock.advance(9.9)
        assert one(manager, "b").state == "draining"
        if how == "cancel":
            draining.cancel()
            await clock.settle()
            assert draining.cancelled()
        else:
            await clock.advance(0.2)
            with pytest.raises(ModelInUseError, match="x"):
                await draining
        assert await newcomer is held
        assert one(manager, "b").state == "ready"


async def test_an_unload_that_raises_is_reported_and_its_room_is_free(stage: Stage) -> None:
    async with running(stage) as manager:
        await manager.load("b")
        await manager.release("b")
        stage["b"].unload.error = RuntimeError("busy device")
        with pytest.raises(UnloadError, match="RuntimeError: busy device"):
            await manager.unload("b")
        assert ids(manager) == ["a"]
        assert manager.statistics().footprint_mb == 0


async def test_an_unload_that_hangs_is_reported_and_its_room_stays_booked(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, resident_cap=2, cap_policy="hard") as manager:
        await manager.load("b")
        await manager.release("b")
        stage["b"].unload.hold()
        unloading = asyncio.create_task(manager.unload("b"))
        await clock.advance(10.1)
        with pytest.raises(UnloadError, match="takes over 10 s"):
            await unloading
        waiting = asyncio.create_task(manager.load("c"))
        await clock.settle()
        assert not waiting.done()
        assert one(manager, "b").state == "unloading"
        stage["b"].unload.open()
        await waiting
        assert stage.peak == 2


async def test_an_overdue_unload_makes_the_next_victim_leave(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, resident_cap=3) as manager:
        for name in "bc":
            await manager.load(name)
            await manager.release(name)
        stage["b"].unload.hold()
        caller = asyncio.create_task(manager.load("d"))
        await clock.advance(9.9)
        assert not caller.done()
        await clock.advance(0.2)
        assert await caller
        assert ids(manager) == ["a", "b", "d"]


async def test_a_request_during_an_unload_waits_for_it_and_loads_once(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        old = await manager.load("b")
        gone = weakref.ref(old)
        await manager.release("b")
        del old
        stage["b"].unload.hold()
        unloading = asyncio.create_task(manager.unload("b"))
        await clock.settle()
        callers = [asyncio.create_task(manager.load("b")) for _ in range(3)]
        await clock.settle()
        assert stage["b"].calls["construct"] == 1
        stage["b"].unload.open()
        await unloading
        assert len({id(adapter) for adapter in await asyncio.gather(*callers)}) == 1
        assert stage["b"].calls["construct"] == 2
        assert gone() is None


# Looking


async def test_explain_says_why_it_is_or_is_not_in_memory(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, ttl_ms=1_000) as manager:
        assert manager.explain("b").summary == "not in memory; nobody asked for it"
        await manager.load("b", owner="x")
        await clock.advance(3)
        told = manager.explain("b")
        assert told.summary == "ready, in use: 1 references"
        assert told.holders == (("x", 3.0),)
        assert [event.kind for event in told.history] == ["loading", "warming", "ready"]
        await manager.release("b", owner="x")
        assert manager.explain("b").summary == "ready and idle; it expires in 1.0 s"
        await clock.advance(6)
        gone = manager.explain("b")
        assert gone.summary == "not in memory; unloading 5.0 s ago: idle longer than its TTL"
        assert "gone: its memory is given back" in str(gone)
        assert manager.explain("a").summary.startswith("ready and pinned")
        stage["c"].load.error = RuntimeError("broken")
        with pytest.raises(ModelLoadError):
            await manager.load("c")
        assert "it failed 1 times in a row (RuntimeError: broken), next try in 1.0 s" in (
            manager.explain("c").summary
        )
        with pytest.raises(ModelNotFoundError):
            manager.explain("nobody")


async def test_subscribers_see_every_step_in_order_and_end_with_the_manager(stage: Stage) -> None:
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", min_residency_ms=0)
    events = manager.subscribe()
    await manager.initialize()
    await manager.load("b", owner="x")
    await manager.release("b", owner="x")
    await manager.shutdown()
    seen = [(event.model_id, str(event.kind)) async for event in events]
    assert seen[:-2] == [
        ("a", "pinned"),
        ("a", "loading"),
        ("a", "warming"),
        ("a", "ready"),
        ("b", "loading"),
        ("b", "warming"),
        ("b", "ready"),
        ("a", "unloading"),
        ("b", "unloading"),
    ]
    assert sorted(seen[-2:]) == [("a", "gone"), ("b", "gone")]


async def test_statistics_and_repr_tell_the_whole_state(stage: Stage) -> None:
    async with running(stage, preload_model_ids=["b"], memory_budget_mb=512) as manager:
        await manager.load("b")
        await manager.load("b")
        totals = manager.statistics()
        assert (totals.hits, totals.loads, totals.resident_cap) == (2, 2, 3)
        assert totals.budget_mb == {"cpu": 512}
        assert totals.residents == manager.list_resident()
        assert repr(manager) == "<ModelManager 2/3 [a ready x0, b ready x2]>"
        assert [spec.model_id for spec in manager.list_catalog()] == list("abcdefgh")
