"""Shutting down: in every state, in bounded time, leaving nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from greenroom import (
    InvalidInputError,
    ManagerClosedError,
    ModelLoadError,
    ModelManager,
    UnloadError,
)
from greenroom.concurrency.threads import running_calls
from greenroom.testing import Gate, Stage, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def manager(stage: Stage) -> ModelManager:
    made = ModelManager(
        catalog=stage.catalog, default_model_id="a", min_residency_ms=60_000, max_parallel_loads=2
    )
    await made.initialize()
    return made


async def ended(task: asyncio.Task[None], clock: VirtualTimeLoop) -> float:
    """Advance until the shutdown is over; return the virtual seconds it took."""
    began = clock.time()
    while not task.done():
        await clock.advance(0.5)
        assert clock.time() - began < 60
    await task
    return clock.time() - began


async def test_it_unloads_everything_whatever_its_min_residency(
    manager: ModelManager, stage: Stage
) -> None:
    await manager.load("b")
    await manager.release("b")
    await manager.shutdown()
    assert manager.list_resident() == ()
    assert stage.loaded == 0
    assert not stage.living


async def test_it_refuses_new_loads_and_waiters_at_once_and_waits_for_holders(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await manager.load("b")
    stage["c"].load.hold()
    waiting = asyncio.create_task(manager.load("c"))
    await clock.settle()
    stopping = asyncio.create_task(manager.shutdown(drain_timeout_ms=5_000))
    await clock.settle()
    for model_id in ("a", "b", "d"):
        with pytest.raises(ManagerClosedError):
            await manager.load(model_id)
    with pytest.raises(ManagerClosedError):
        await waiting
    assert stage["b"].calls["unload"] == 0
    await clock.advance(4)
    assert not stopping.done()
    await manager.release("b")
    stage["c"].load.open()
    await ended(stopping, clock)
    assert stage["b"].calls["unload"] == 1


async def test_it_stops_waiting_for_holders_after_the_drain_time_out(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await manager.load("b")
    stopping = asyncio.create_task(manager.shutdown(drain_timeout_ms=5_000))
    await clock.advance(4.9)
    assert not stopping.done()
    await clock.advance(0.2)
    await stopping
    assert stage.loaded == 0


async def test_it_lets_streams_finish_and_then_stops_them(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("b")
    stage["b"].chunks = 30
    short, long = (adapter.synthesize_stream("Hello there.") for _ in range(2))
    await manager.release("b")
    await short.__anext__()
    await long.__anext__()
    long.pause()
    stopping = asyncio.create_task(manager.shutdown(drain_timeout_ms=5_000))
    await clock.settle()
    assert len([frame async for frame in short]) == 149
    assert not stopping.done()
    await clock.advance(5.1)
    with pytest.raises(StopAsyncIteration):
        await long.__anext__()
    await stopping
    assert stage["b"].calls["unload"] == 1


async def test_a_thread_inside_a_model_is_never_pulled_away_from_under(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = await manager.load("b")
    stage["b"].synthesize.hold()
    stream = adapter.synthesize_stream("Hello there.")
    waiting = asyncio.create_task(stream.__anext__())
    await clock.settle()
    stopping = asyncio.create_task(manager.shutdown(drain_timeout_ms=1_000))
    await ended(stopping, clock)
    assert stage["b"].calls["unload"] == 0
    assert "model b is left behind" in caplog.text
    assert isinstance(waiting.exception(), StopAsyncIteration)
    stage["b"].synthesize.open()


async def test_a_load_in_flight_cannot_land_afterwards(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    stage["c"].warm_up.hold()
    tasks = [asyncio.create_task(manager.load(name)) for name in "bc"]
    await clock.settle()
    stopping = asyncio.create_task(manager.shutdown(drain_timeout_ms=1_000))
    await clock.settle()
    stage["c"].warm_up.open()
    took = await ended(stopping, clock)
    assert took <= 22
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, ManagerClosedError)
    assert stage["c"].calls["unload"] == 1
    stage["b"].load.open()
    deadline = time.monotonic() + 30
    while stage["b"].calls["unload"] == 0 and time.monotonic() < deadline:
        await clock.settle()
    assert stage["b"].calls["unload"] == 1
    assert stage.loaded == 0
    assert "b" not in [r.model_id for r in manager.list_resident() if r.state == "ready"]


async def test_a_load_that_ends_as_the_shutdown_begins_is_undone(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].warm_up.hold()
    waiting = asyncio.create_task(manager.load("b"))
    await clock.settle()
    inside = running_calls()
    stage["b"].warm_up.open()
    while running_calls() == inside:  # until its thread has looked for the last time
        pass
    stopping = asyncio.create_task(manager.shutdown(drain_timeout_ms=0))
    assert await ended(stopping, clock) < 1
    with pytest.raises(ManagerClosedError):
        await waiting
    assert stage["b"].calls["unload"] == 1
    assert manager.list_resident() == ()


async def test_it_ends_in_bounded_time_though_an_unload_hangs(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    stage["a"].unload.hold()
    stopping = asyncio.create_task(manager.shutdown())
    assert await ended(stopping, clock) <= 11
    assert "model a did not leave" in caplog.text
    stage["a"].unload.open()


async def test_a_second_shutdown_waits_for_the_first(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await manager.load("a")
    tasks = [asyncio.create_task(manager.shutdown(drain_timeout_ms=1_000)) for _ in range(2)]
    await clock.advance(0.5)
    assert not any(task.done() for task in tasks)
    await clock.advance(0.6)
    await asyncio.gather(*tasks)
    await manager.shutdown()
    assert stage["a"].calls["unload"] == 1


async def test_a_cancelled_shutdown_goes_on_to_its_end(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await manager.load("a")
    stopping = asyncio.create_task(manager.shutdown(drain_timeout_ms=1_000))
    await clock.settle()
    stopping.cancel()
    await clock.advance(1.1)
    assert stage.loaded == 0


async def test_leaving_async_with_shuts_down_also_after_an_error(stage: Stage) -> None:
    with pytest.raises(RuntimeError, match="mine"):
        async with ModelManager(catalog=stage.catalog, default_model_id="a"):
            raise RuntimeError("mine")
    assert stage.loaded == 0


async def test_an_initialize_that_fails_shuts_down(stage: Stage) -> None:
    stage["a"].load.error = RuntimeError("broken")
    with pytest.raises(ModelLoadError):
        async with ModelManager(catalog=stage.catalog, default_model_id="a"):
            raise AssertionError("never entered")
    assert stage.loaded == 0


async def test_with_hung_streams_it_ends_within_the_drain_and_fifteen_seconds_whatever_the_limits(
    stage: Stage, clock: VirtualTimeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    manager = ModelManager(
        catalog=stage.catalog,
        default_model_id="a",
        load_timeout_ms=600_000,
        synthesis_timeout_ms=600_000,
        resident_cap=4,
    )
    await manager.initialize()
    for name in "bc":
        adapter = await manager.load(name)
        stage[name].synthesize.hold()
        hung = [adapter.synthesize_stream("Hello there.") for _ in range(20)]
        tasks = [asyncio.create_task(stream.__anext__()) for stream in hung]
    stage["a"].unload.hold()
    stage["d"].load.hold()
    loading = asyncio.create_task(manager.load("d"))
    await clock.settle()
    stopping = asyncio.create_task(manager.shutdown(drain_timeout_ms=100))
    assert await ended(stopping, clock) < 15
    assert "model b is left behind" in caplog.text
    assert "model a did not leave" in caplog.text
    assert "model d did not leave" in caplog.text
    assert isinstance(
        (await asyncio.gather(loading, return_exceptions=True))[0], ManagerClosedError
    )
    assert all(task.done() for task in tasks)
    await clock.settle()
    left = {task.get_name() for task in asyncio.all_tasks()} - {asyncio.current_task().get_name()}  # type: ignore[union-attr]
    assert not any(name.startswith("greenroom") for name in left)


async def test_it_ends_though_what_was_measured_cannot_be_written_down(
    manager: ModelManager,
    clock: VirtualTimeLoop,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate()
    gate.hold()
    monkeypatch.setattr(manager._effects.footprints, "write", gate.go_through)
    stopping = asyncio.create_task(manager.shutdown(drain_timeout_ms=0))
    assert await ended(stopping, clock) < 3
    assert "writing it down hangs" in caplog.text
    gate.open()
    await clock.settle()


@pytest.mark.parametrize("drain", [float("nan"), -1, float("inf"), True, "10", None, 10**400])
async def test_a_time_out_that_is_none_is_refused_before_anything_ends(
    manager: ModelManager, drain: Any
) -> None:
    with pytest.raises(InvalidInputError, match=r"^drain_timeout_ms must"):
        await manager.shutdown(drain_timeout_ms=drain)
    assert await manager.load("a")
    await manager.shutdown(drain_timeout_ms=0)


async def test_it_waits_ten_seconds_for_holders_unless_asked_otherwise(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await manager.load("a")
    stopping = asyncio.create_task(manager.shutdown())
    await clock.advance(9.9921875)
    assert stage.loaded == 1
    await clock.advance(0.0078125)
    await stopping
    assert stage.loaded == 0


async def test_a_caller_that_waits_for_an_unload_that_the_end_overtakes_is_told(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await manager.load("b")
    await manager.release("b")
    stage["b"].unload.hold()
    unloading = asyncio.create_task(manager.unload("b"))
    await clock.settle()
    stopping = asyncio.create_task(manager.shutdown(drain_timeout_ms=0))
    await ended(stopping, clock)
    with pytest.raises(UnloadError) as raised:
        await unloading
    assert raised.value.problem == "the manager shut down."
    stage["b"].unload.open()


async def test_a_task_that_does_not_end_is_left_behind_after_a_second(
    manager: ModelManager, clock: VirtualTimeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    over = asyncio.Event()

    async def stubborn() -> None:
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over.wait()

    manager._effects.tasks.begin(stubborn(), "stubborn")
    stopping = asyncio.create_task(manager.shutdown(drain_timeout_ms=0))
    await clock.settle()
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert {"greenroom stubborn", "greenroom-shutdown"} <= names
    assert await ended(stopping, clock) == 1
    assert "greenroom stubborn is left behind: it does not end" in caplog.text
    over.set()
    await clock.settle()
