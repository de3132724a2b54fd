"""What models take and give back, as the manager measures, books, shows and reports it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import ModelManager, UnloadError
from greenroom.accounts import LEAKING_LIVES
from greenroom.memory import MIB, Usage
from greenroom.residents import State
from greenroom.statistics import MemoryAccount, ResidentStatistics
from greenroom.testing import Gate, Stage, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


class Meter:
    """A process whose memory is what the steps of the fake engines make of it."""

    def __init__(self) -> None:
        self.anonymous = 500 * MIB
        self.mapped = 50 * MIB

    def usage(self) -> Usage:
        return Usage(self.anonymous, self.mapped)


class Growing(Gate):
    """A step that changes the memory of the process, in MB."""

    def __init__(self, meter: Meter, anonymous: float, mapped: float = 0) -> None:
        super().__init__()
        self._meter = meter
        self.anonymous = anonymous
        self.mapped = mapped

    def go_through(self) -> None:
        super().go_through()
        self._meter.anonymous += int(self.anonymous * MIB)
        self._meter.mapped += int(self.mapped * MIB)


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    made = Meter()
    monkeypatch.setattr("greenroom.memory.usage", made.usage)
    return made


@pytest.fixture
def stage(meter: Meter) -> Stage:
    """Models of which each takes 182 MB and 60 mapped, and gives nearly all back."""
    made = Stage("a", "b", "c")
    for script in made.scripts.values():
        script.measured = True
        script.load = Growing(meter, 180, 60)
        script.warm_up = Growing(meter, 2)
        script.unload = Growing(meter, -181.5, -60)
    return made


@contextlib.asynccontextmanager
async def running(stage: Stage, **given: Any) -> AsyncIterator[ModelManager]:
    settings: dict[str, Any] = {"min_residency_ms": 0, "resident_cap": 8, "ttl_ms": -1}
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", **(settings | given))
    try:
        async with manager:
            yield manager
    finally:
        stage.open_all()


async def bring(manager: ModelManager, model_id: str) -> None:
    await manager.load(model_id)
    await manager.release(model_id)


async def live(manager: ModelManager, model_id: str, times: int = 1) -> None:
    for _ in range(times):
        await bring(manager, model_id)
        await manager.unload(model_id)


async def speak(manager: ModelManager, model_id: str) -> None:
    async with manager.lease(model_id) as lease, lease.synthesize_stream("Hello there.") as stream:
        async for _ in stream:
            pass


def shown(manager: ModelManager, model_id: str) -> ResidentStatistics:
    return next(each for each in manager.list_resident() if each.model_id == model_id)


def account(manager: ModelManager, model_id: str) -> MemoryAccount:
    return next(each for each in manager.statistics().memory if each.model_id == model_id)


def reports(manager: ModelManager, model_id: str) -> list[str]:
    return [e.reason for e in manager.journal.events(model_id) if e.kind == "leaking"]


async def test_anonymous_memory_is_booked_and_mapped_shown_beside_it(stage: Stage) -> None:
    async with running(stage) as manager:
        assert shown(manager, "a").footprint_mb == 182
        assert shown(manager, "a").mapped_mb == 60
        assert manager.statistics().footprint_mb == 182


async def test_mapped_memory_takes_no_room_of_the_budget(meter: Meter) -> None:
    stage = Stage("a", "b")
    for name in "ab":
        stage[name].measured = True
        stage[name].load = Growing(meter, 10, 1_000)
    async with running(stage, memory_budget_mb=25) as manager:
        await bring(manager, "b")
        assert manager.statistics().footprint_mb == 20


async def test_what_the_adapter_states_is_believed_and_the_growth_is_still_accounted(
    stage: Stage,
) -> None:
    stage["b"].measured = False
    stage["b"].footprint, stage["b"].mapped = 7 * MIB, 3 * MIB
    async with running(stage) as manager:
        await bring(manager, "b")
        assert (shown(manager, "b").footprint_mb, shown(manager, "b").mapped_mb) == (7, 3)
        assert account(manager, "b").taken_mb == 182


async def test_files_unmapped_meanwhile_are_no_negative_size(stage: Stage) -> None:
    stage["b"].load.mapped = -40  # type: ignore[attr-defined]
    async with running(stage) as manager:
        await bring(manager, "b")
        assert shown(manager, "b").mapped_mb == 0


async def test_a_voice_that_became_small_is_soon_booked_as_small(
    meter: Meter, stage: Stage
) -> None:
    async with running(stage) as manager:
        await live(manager, "b")
        stage["b"].load, stage["b"].unload = Growing(meter, 3), Growing(meter, -5)
        await live(manager, "b", 2)
        await bring(manager, "b")
        assert shown(manager, "b").footprint_mb == 5


async def test_a_load_beside_another_teaches_nothing(stage: Stage, clock: VirtualTimeLoop) -> None:
    async with running(stage, max_parallel_loads=2) as manager:
        stage["b"].load.hold()
        stage["c"].load.hold()
        both = asyncio.gather(bring(manager, "b"), bring(manager, "c"))
        await clock.settle()
        stage.open_all()
        await both
        assert {shown(manager, name).footprint_mb for name in "bc"} == {0}
        assert account(manager, "b") == MemoryAccount("b", 0, None, None, None, False)
        await manager.unload("b")
        assert account(manager, "b") == MemoryAccount("b", 1, None, 181.5, None, False)
        assert "last time it took what could not be measured and gave back 181.5 MB" in str(
            manager.explain("b")
        )


async def test_a_load_that_hangs_disturbs_every_measurement_until_it_has_ended(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, max_parallel_loads=2, load_timeout_ms=5_000) as manager:
        stage["b"].load.hold()
        hanging = asyncio.create_task(manager.load("b"))
        await clock.advance(5.1)
        await asyncio.wait([hanging])
        assert hanging.exception() is not None
        await bring(manager, "c")
        assert account(manager, "c").taken_mb is None
        stage["b"].load.open()
        await clock.settle()
        await manager.unload("c")
        assert account(manager, "c").returned_mb == 181.5


async def test_every_unload_says_what_came_back(stage: Stage) -> None:
    async with running(stage) as manager:
        await bring(manager, "b")
        assert account(manager, "b") == MemoryAccount("b", 0, 182, None, None, False)
        assert str(manager.explain("b")).splitlines()[1] == "  last time it took 182.0 MB"
        await manager.unload("b")
        assert account(manager, "b") == MemoryAccount("b", 1, 182, 181.5, 0.5, False)
        assert str(manager.explain("b")).splitlines()[1] == (
            "  last time it took 182.0 MB and gave back 181.5 MB"
        )
        assert manager.explain("b").memory == account(manager, "b")
        assert manager.explain("c").memory is None
        assert "took" not in str(manager.explain("c"))


async def test_what_speaking_added_and_unloading_kept_is_not_returned(
    meter: Meter, stage: Stage
) -> None:
    stage["b"].synthesize = Growing(meter, 1)
    async with running(stage) as manager:
        await bring(manager, "b")
        await speak(manager, "b")
        await manager.unload("b")
        assert account(manager, "b") == MemoryAccount("b", 1, 182, 181.5, 5.5, False)


async def test_what_speaking_added_is_booked_the_next_time(meter: Meter, stage: Stage) -> None:
    stage["b"].synthesize = Growing(meter, 4)
    stage["b"].unload = Growing(meter, -202)
    async with running(stage) as manager:
        await bring(manager, "b")
        assert shown(manager, "b").footprint_mb == 182
        await speak(manager, "b")
        await manager.unload("b")
        await bring(manager, "b")
        assert shown(manager, "b").footprint_mb == 202


async def test_an_unload_beside_a_stream_is_not_measured(
    stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage) as manager:
        await bring(manager, "b")
        stage["a"].synthesize.hold()
        speaking = asyncio.create_task(speak(manager, "a"))
        await clock.settle()
        await manager.unload("b")
        assert account(manager, "b") == MemoryAccount("b", 1, 182, None, None, False)
        stage["a"].synthesize.open()
        await speaking


async def test_an_unload_that_raises_is_not_measured(stage: Stage) -> None:
    async with running(stage) as manager:
        await bring(manager, "b")
        stage["b"].unload.error = RuntimeError("busy")
        with pytest.raises(UnloadError):
            await manager.unload("b")
        assert account(manager, "b") == MemoryAccount("b", 1, 182, None, None, False)


async def test_a_model_that_leaves_more_behind_each_time_is_reported_once(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage["b"].unload.anonymous = -180  # type: ignore[attr-defined]
    async with running(stage) as manager:
        await live(manager, "b", LEAKING_LIVES)
        assert reports(manager, "b") == []
        await live(manager, "b", 3)
        told = "it leaves memory behind each time: 8.0 MB in its last 4 lives"
        assert reports(manager, "b") == [told]
        warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert warnings == [f"b leaking: {told}"]
        assert account(manager, "b").leaking
        assert "; it leaves more behind each time" in str(manager.explain("b"))


async def test_one_who_leaks_while_speaking_is_reported_although_all_it_took_came_back(
    meter: Meter, stage: Stage
) -> None:
    stage["b"].synthesize = Growing(meter, 1)
    stage["b"].unload.anonymous = -182  # type: ignore[attr-defined]
    async with running(stage) as manager:
        for _ in range(LEAKING_LIVES + 1):
            await bring(manager, "b")
            await speak(manager, "b")
            await manager.unload("b")
        assert len(reports(manager, "b")) == 1


async def test_nobody_is_accused_of_what_another_left_during_its_life(
    meter: Meter, stage: Stage
) -> None:
    stage["c"].unload.anonymous = -170  # type: ignore[attr-defined]
    async with running(stage) as manager:
        for _ in range(LEAKING_LIVES + 2):
            await bring(manager, "b")
            await live(manager, "c")
            await manager.unload("b")
        assert reports(manager, "b") == []
        assert len(reports(manager, "c")) == 1


async def test_nobody_is_accused_of_what_another_took_to_speak(meter: Meter, stage: Stage) -> None:
    stage["a"].synthesize = Growing(meter, 1)
    async with running(stage) as manager:
        for _ in range(LEAKING_LIVES + 2):
            await bring(manager, "b")
            await speak(manager, "a")
            await manager.unload("b")
        assert reports(manager, "b") == []
        assert account(manager, "b").not_returned_mb == 0.5


async def test_a_failed_load_gives_freed_memory_back_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    trims: list[str] = []
    async with running(stage) as manager:
        monkeypatch.setattr("greenroom.memory.trim", lambda: trims.append("trim"))
        stage["b"].load.error = RuntimeError("broken")
        with pytest.raises(Exception, match="broken"):
            await manager.load("b")
        assert trims == ["trim"]
        assert manager.list_resident()[0].state is State.READY
