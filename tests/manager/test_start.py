"""Starting a manager: the default model, preloads, settings that cannot work."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from greenroom import (
    ConfigError,
    ManagerClosedError,
    ModelLoadError,
    ModelManager,
)
from greenroom.config.schema import ManagerSettings
from greenroom.testing import Stage, VirtualTimeLoop
from tests.manager.running_manager import ids, one, running

pytestmark = pytest.mark.virtual_time


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
    with pytest.raises(ConfigError) as raised:
        ModelManager(default_model_id="a")
    assert str(raised.value) == (
        "give the manager a `catalog`, or an `adapter_class` to discover with."
    )


async def test_settings_that_are_left_out_are_those_of_an_empty_configuration(
    stage: Stage,
) -> None:
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    assert manager.settings == ManagerSettings(default_model_id="a")


async def test_a_start_that_is_given_up_waits_for_no_holder(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", preload_model_ids=["b"])
    starting = asyncio.create_task(manager.initialize())
    await clock.settle()
    await manager.load("a")
    stage["b"].load.error = RuntimeError("too late")
    starting.cancel()
    await clock.settle()
    stage["b"].load.open()
    await clock.settle()
    assert starting.cancelled()
    assert stage.loaded == 0
