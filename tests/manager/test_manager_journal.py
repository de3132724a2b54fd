"""What the manager writes down and what its errors carry: to the letter, because people read it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import (
    CapacityError,
    LoadTimeoutError,
    ManagerClosedError,
    ModelInUseError,
    ModelLoadError,
    ModelManager,
    ModelNotResidentError,
    UnloadError,
)
from greenroom.config.schema import ManagerSettings
from greenroom.errors import first_few
from greenroom.testing import Stage, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def manager(stage: Stage) -> AsyncIterator[ModelManager]:
    made = ModelManager(
        catalog=stage.catalog,
        default_model_id="a",
        min_residency_ms=0,
        resident_cap=2,
        cap_policy="hard",
        acquire_timeout_ms=5_000,
        turn_after_ms=-1,
        load_timeout_ms=7_000,
        ttl_ms=100_000,
    )
    await made.initialize()
    yield made
    stage.open_all()
    await made.shutdown(drain_timeout_ms=0)


def told(manager: ModelManager, model_id: str) -> list[tuple[str, str, str | None]]:
    return [(str(e.kind), e.reason, e.owner) for e in manager.journal.events(model_id)]


LOADED = [
    ("loading", "asked for", None),
    ("warming", "loaded in 0.000 s", None),
    ("ready", "loaded in 0.000 s, warmed up in 0.000 s", None),
]


async def test_a_whole_life_is_written_down(manager: ModelManager, clock: VirtualTimeLoop) -> None:
    await manager.load("b", owner="x")
    await manager.load("b", owner="y")
    draining = asyncio.create_task(manager.unload("b", drain=True))
    await clock.settle()
    await manager.release("b", owner="x")
    await manager.release("b", owner="y")
    await draining
    assert told(manager, "b") == [
        *LOADED,
        ("draining", "waiting for x, y", None),
        ("unloading", "unload was asked for", None),
        ("gone", "its memory is given back", None),
    ]
    assert manager.journal.events("b")[0].at == 1_000.0


async def test_pins_are_written_down(manager: ModelManager) -> None:
    manager.unpin("a")
    assert told(manager, "a") == [
        ("pinned", "exempt from eviction and expiry", None),
        *LOADED,
        ("unpinned", "may be evicted and expire again", None),
    ]


async def test_sharing_waiting_and_refusals_are_written_down_with_who_asked(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    first = asyncio.create_task(manager.load("b", owner="x"))
    second = asyncio.create_task(manager.load("b", owner="y"))
    await clock.settle()
    stage["b"].load.open()
    await asyncio.gather(first, second)
    late = asyncio.create_task(manager.load("c", owner="z"))
    await clock.advance(5.1)
    with pytest.raises(CapacityError) as refused:
        await late
    assert (refused.value.model_id, refused.value.retry_after) == ("c", 1.0)
    assert told(manager, "b") == [LOADED[0], ("joined", "shares the load", "y"), *LOADED[1:]]
    assert told(manager, "c") == [
        ("waiting", "for room", "z"),
        ("refused", "no room came free in time", "z"),
    ]


async def test_a_failure_is_written_down_and_the_next_refusal_says_why(
    manager: ModelManager, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage["b"].load.error = RuntimeError("broken")
    with pytest.raises(ModelLoadError):
        await manager.load("b", owner="x")
    with pytest.raises(ModelLoadError) as again:
        await manager.load("b", owner="x")
    assert again.value.model_id == "b"
    assert again.value.problem == "RuntimeError: broken"
    assert told(manager, "b") == [
        LOADED[0],
        ("failed", "RuntimeError: broken", None),
        ("refused", "its load failed", "x"),
        ("refused", "it failed before and is not tried again yet", "x"),
    ]
    assert ("ERROR", "b failed: RuntimeError: broken") in [
        (r.levelname, r.getMessage()) for r in caplog.records
    ]


async def test_a_hanging_load_is_written_down_until_it_has_ended(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    caller = asyncio.create_task(manager.load("b"))
    await clock.advance(7.1)
    with pytest.raises(LoadTimeoutError) as raised:
        await caller
    assert raised.value.model_id == "b"
    stage["b"].load.open()
    await clock.settle()
    problem = "it did not load within 7 s; raise load_timeout_ms."
    assert told(manager, "b") == [
        LOADED[0],
        ("failed", problem, None),
        ("refused", "its load failed", None),
        ("gone", "the hanging load has ended", None),
    ]


async def test_a_hanging_unload_is_written_down_until_it_has_ended(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await manager.load("b")
    await manager.release("b")
    stage["b"].unload.hold()
    unloading = asyncio.create_task(manager.unload("b"))
    await clock.advance(10.1)
    with pytest.raises(UnloadError) as raised:
        await unloading
    assert (raised.value.model_id, raised.value.problem) == ("b", "it takes over 10 s.")
    stage["b"].unload.error = RuntimeError("stuck")
    stage["b"].unload.open()
    await clock.settle()
    assert told(manager, "b")[3:] == [
        ("unloading", "unload was asked for", None),
        ("overdue", "the engine hangs; its room stays booked", None),
        ("failed", "unloading: RuntimeError: stuck", None),
        ("gone", "its memory is given back", None),
    ]


async def test_errors_carry_the_model_and_who_holds_it(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("b", owner="x")
    stream = adapter.synthesize_stream("Hello there.")
    draining = asyncio.create_task(manager.unload("b", drain=True))
    await clock.advance(30.1)
    with pytest.raises(ModelInUseError) as held:
        await draining
    assert (held.value.model_id, held.value.owners, held.value.streams) == ("b", ("x",), 1)
    stream.stop()
    with pytest.raises(ModelNotResidentError) as absent:
        await manager.unload("c")
    assert absent.value.model_id == "c"


async def test_hundreds_of_holders_make_a_short_line_and_a_short_error_and_are_all_explained(
    manager: ModelManager, clock: VirtualTimeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"session {number}" for number in range(300)]
    for name in names:
        await manager.load("b", owner=name)
    with caplog.at_level(logging.INFO):
        draining = asyncio.create_task(manager.unload("b", drain=True))
        await clock.advance(30.1)
        with pytest.raises(ModelInUseError) as held:
            await draining
    few = "session 0, session 1, session 2, session 3, session 4 and 295 more"
    assert f"waiting for {few}" in [event.reason for event in manager.journal.events()]
    assert f"held by {few};" in str(held.value)
    assert max(len(record.getMessage()) for record in caplog.records) < 200
    assert held.value.owners == tuple(names)
    assert [owner for owner, _ in manager.explain("b").holders] == names
    (resident,) = (found for found in manager.list_resident() if found.model_id == "b")
    assert resident.owners == tuple(names)
    for name in names:
        await manager.release("b", owner=name)


async def test_a_drain_that_waits_for_streams_alone_says_so(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("b")
    stream = adapter.synthesize_stream("Hello there.")
    await manager.release("b")
    draining = asyncio.create_task(manager.unload("b", drain=True))
    await clock.settle()
    assert "waiting for 1 streams" in [event.reason for event in manager.journal.events()]
    stream.stop()
    await draining


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, ""), (1, "a"), (5, "a, b, c, d, e"), (6, "a, b, c, d, e and 1 more")],
)
def test_names_are_shortened_when_they_are_many(count: int, shown: str) -> None:
    assert first_few("abcdefg"[:count]) == shown


async def test_unloading_a_model_whose_load_hangs_says_so(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    caller = asyncio.create_task(manager.load("b"))
    await clock.settle()
    draining = asyncio.create_task(manager.unload("b", drain=True))
    await clock.advance(7.1)
    with pytest.raises(LoadTimeoutError):
        await caller
    with pytest.raises(UnloadError, match="its load hangs") as raised:
        await draining
    assert raised.value.model_id == "b"
    assert raised.value.problem == "its load hangs; its room stays booked until that ends."


async def test_messages_name_the_fix(stage: Stage) -> None:
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    with pytest.raises(ManagerClosedError) as early:
        await manager.load("a")
    assert str(early.value) == (
        "the manager is not running; call `await manager.initialize()`, or use `async with`."
    )
    await manager.initialize()
    with pytest.raises(ManagerClosedError) as twice:
        await manager.initialize()
    assert str(twice.value) == "this manager was initialized before; make another."
    await manager.load("a")
    stopping = asyncio.create_task(manager.shutdown(drain_timeout_ms=1_000))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(ManagerClosedError) as late:
        await manager.load("b")
    assert str(late.value) == "the manager is shutting down; ask another worker."
    await manager.release("a")
    await stopping


async def test_reclaiming_what_is_not_held_changes_nothing(manager: ModelManager) -> None:
    await manager.load("a", owner="x")
    manager.reclaim("a", "nobody")
    manager.reclaim("b", "nobody")
    assert manager.list_resident()[0].refcount == 1
    manager.reclaim("a", "x")
    assert manager.list_resident()[0].refcount == 0


async def test_reclaiming_makes_the_room_that_others_wait_for(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    await manager.load("b", owner="x")
    waiting = asyncio.create_task(manager.load("c"))
    await clock.settle()
    manager.reclaim("b", "x")
    assert await waiting


async def test_every_setting_of_a_configuration_reaches_the_manager(stage: Stage) -> None:
    settings: dict[str, Any] = {
        "default_model_id": "b",
        "preload_model_ids": ("c",),
        "ttl_ms": 1_500,
        "min_residency_ms": 2_500,
        "evict_check_interval_ms": 3_500,
        "resident_cap": 5,
        "max_parallel_loads": 2,
        "cap_policy": "hard",
        "memory_budget_mb": 64.0,
        "pin_default": False,
        "warmup_text": "Hello.",
        "load_timeout_ms": 4_500,
        "acquire_timeout_ms": 5_500,
        "turn_after_ms": 7_500,
        "synthesis_timeout_ms": 6_500,
        "isolation": "model",
        "adapter_isolation": {"StagedAdapter": "none"},
        "process_linger_ms": 8_500,
    }
    assert set(settings) == set(ManagerSettings.model_fields)
    manager = ModelManager.from_settings(ManagerSettings(**settings), stage.catalog)
    assert manager.settings.model_dump() == settings
    policy = manager._ledger.policy
    assert (policy.ttl, policy.min_residency, policy.acquire_timeout) == (1.5, 2.5, 5.5)
    assert (policy.resident_cap, policy.max_parallel_loads, policy.cap_policy) == (5, 2, "hard")
    assert policy.budgets == {"cpu": 64 * 1024 * 1024}
    assert manager._effects.loader.load_limit == 4.5


async def test_without_a_budget_models_may_take_four_fifths_of_the_memory(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.memory.usage.limit_bytes", lambda: 1_000)
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    assert manager._ledger.policy.budgets == {"cpu": 800}


async def test_each_event_is_one_log_line_and_a_hit_is_none(
    manager: ModelManager, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "greenroom"):
        await manager.load("b")
        await manager.load("b")
        await manager.release("b")
    assert [r.getMessage() for r in caplog.records] == [
        "b loading: asked for",
        "b warming: loaded in 0.000 s",
        "b ready: loaded in 0.000 s, warmed up in 0.000 s",
    ]
    assert {vars(r)["greenroom_model_id"] for r in caplog.records} == {"b"}


async def test_a_ttl_given_in_memory_is_written_down_once(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    await manager.load("b")
    await manager.release("b")
    for _ in range(2):
        manager.keep_alive("b", 7.5)
    manager.keep_alive("b", -1)
    kept = [event.reason for event in manager.journal.events("b") if event.kind == "kept"]
    assert kept == ["for 7.5 s after its last use", "until it is unloaded"]
    (resident,) = (r for r in manager.list_resident() if r.model_id == "b")
    assert resident.expires_in_s is None
    manager.keep_alive("b", 0)
    await clock.settle()
    assert "b" not in {r.model_id for r in manager.list_resident()}


async def test_a_drain_that_is_taken_back_is_written_down(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    await manager.load("b", owner="x")
    draining = asyncio.create_task(manager.unload("b", drain=True))
    await clock.settle()
    draining.cancel()
    await clock.settle()
    assert told(manager, "b")[3:] == [
        ("draining", "waiting for x", None),
        ("ready", "the drain was taken back", None),
    ]


async def test_what_a_load_and_its_warmup_took_is_written_down_and_shown(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    stage["b"].warm_up.hold()
    caller = asyncio.create_task(manager.load("b"))
    await clock.advance(1.5)
    stage["b"].load.open()
    await clock.advance(0.25)
    stage["b"].warm_up.open()
    await caller
    took = [(str(event.kind), event.took_s) for event in manager.journal.events("b")]
    assert took == [("loading", None), ("warming", 1.5), ("ready", 0.25)]
    (resident,) = (r for r in manager.list_resident() if r.model_id == "b")
    assert (resident.load_s, resident.warmup_s) == (1.5, 0.25)


@pytest.mark.parametrize(("ttl_s", "told"), [(0, "for 0 s"), (0.5, "for 0.5 s"), (2, "for 2 s")])
async def test_the_shortest_ttls_are_written_down_as_they_are(
    manager: ModelManager, ttl_s: float, told: str
) -> None:
    await manager.load("b")
    manager.keep_alive("b", ttl_s)
    assert manager.journal.events("b")[-1].reason == f"{told} after its last use"
