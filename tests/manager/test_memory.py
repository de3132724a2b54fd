"""What models take and give back, as the manager measures, books, shows and reports it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import CapacityError, ModelManager, ModelSpec, UnloadError
from greenroom.ledger.state import State
from greenroom.memory.footprint_store import FootprintStore
from greenroom.memory.leaks import LEAKING_LIVES
from greenroom.memory.usage import MIB, ProcessMemory, Usage
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
    monkeypatch.setattr("greenroom.memory.usage.usage", made.usage)
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


async def test_what_speaking_added_is_not_what_a_model_needs_to_be_loaded(
    meter: Meter, stage: Stage
) -> None:
    stage["b"].synthesize = Growing(meter, 160)
    stage["b"].unload = Growing(meter, -982)
    async with running(stage, memory_budget_mb=700) as manager:
        await bring(manager, "b")
        assert shown(manager, "b").footprint_mb == 182
        await speak(manager, "b")
        await manager.unload("b")
        await bring(manager, "b")
        assert shown(manager, "b").footprint_mb == 182
    async with running(stage, memory_budget_mb=700) as manager:
        await bring(manager, "b")


async def test_what_the_program_took_beside_a_load_is_not_the_models(
    meter: Meter, stage: Stage
) -> None:
    stage["b"].load = Growing(meter, 900)
    async with running(stage, memory_budget_mb=1_500) as manager:
        await bring(manager, "b")
        assert shown(manager, "b").footprint_mb == 902
        await manager.unload("b")
        stage["b"].load = Growing(meter, 180)
        await bring(manager, "b")
        assert shown(manager, "b").footprint_mb == 181.5


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
        monkeypatch.setattr("greenroom.memory.heap.malloc_trim", lambda: trims.append("trim"))
        stage["b"].load.error = RuntimeError("broken")
        with pytest.raises(Exception, match="broken"):
            await manager.load("b")
        assert trims == ["trim"]
        assert manager.list_resident()[0].state is State.READY


async def test_a_measurement_larger_than_the_budget_refuses_nothing_that_fits_alone(
    meter: Meter, stage: Stage
) -> None:
    stage["b"].load = Growing(meter, 984)
    stage["b"].unload = Growing(meter, -985)
    async with running(stage, memory_budget_mb=2_000) as manager:
        await live(manager, "b")
    stage["b"].load = Growing(meter, 58)
    async with running(stage, memory_budget_mb=700) as manager:
        await bring(manager, "b")
        assert shown(manager, "b").state is State.READY


async def test_a_model_that_took_too_much_alone_again_and_again_is_refused_and_says_so(
    meter: Meter, stage: Stage
) -> None:
    stage["b"].load = Growing(meter, 984)
    stage["b"].unload = Growing(meter, -986)
    async with running(stage, memory_budget_mb=700) as manager:
        await live(manager, "b", 2)
        with pytest.raises(CapacityError, match="larger than the memory budget"):
            await manager.load("b")


async def test_explain_shows_what_is_remembered_of_a_model(meter: Meter, stage: Stage) -> None:
    async with running(stage) as manager:
        await live(manager, "b")
        assert "  remembered: 181.5 MB, the middle of what loads took: 181.5" in (
            str(manager.explain("b")).splitlines()
        )
        assert "remembered" not in str(manager.explain("c"))


async def test_an_overdraft_is_told_and_no_load_begins_until_it_is_over(
    meter: Meter, stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, memory_budget_mb=700) as manager:
        stage["a"].synthesize.hold()
        speaking = asyncio.create_task(speak(manager, "a"))
        await clock.settle()
        meter.anonymous += 1_000 * MIB
        await clock.advance(1.1)
        (told,) = [e for e in manager.journal.events("") if e.kind == "overdrawn"]
        assert told.reason.startswith("the process takes 1,182 MB of cpu for its models, 700 MB")
        assert manager.statistics().overdrawn == ("cpu",)
        assert manager.statistics().taken_mb == {"cpu": 1_182}
        caller = asyncio.create_task(bring(manager, "b"))
        await clock.advance(5)
        assert stage["b"].calls["load"] == 0
        meter.anonymous -= 1_000 * MIB
        await clock.advance(1.1)
        await caller
        assert manager.journal.events("")[-1].kind == "recovered"
        assert manager.statistics().overdrawn == ()
        stage["a"].synthesize.open()
        await speaking


async def test_who_waits_out_an_overdraft_gets_a_typed_refusal(
    meter: Meter, stage: Stage, clock: VirtualTimeLoop
) -> None:
    async with running(stage, memory_budget_mb=700, acquire_timeout_ms=3_000) as manager:
        stage["a"].synthesize.hold()
        speaking = asyncio.create_task(speak(manager, "a"))
        await clock.settle()
        meter.anonymous += 1_000 * MIB
        await clock.advance(1.1)
        caller = asyncio.create_task(manager.load("b"))
        await clock.advance(3.1)
        with pytest.raises(CapacityError, match="more memory than the budget allows") as caught:
            await caller
        assert caught.value.retry_after == 1.0
        stage["a"].synthesize.open()
        await speaking


async def test_a_quiet_manager_does_not_look_at_its_memory(
    stage: Stage, clock: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(stage) as manager:
        await clock.advance(5)
        looks: list[str] = []
        read = ProcessMemory.read

        def counted(self: ProcessMemory) -> dict[str, int]:
            looks.append("look")
            return read(self)

        monkeypatch.setattr(ProcessMemory, "read", counted)
        await clock.advance(100)
        assert looks == []
        await bring(manager, "b")
        await clock.advance(100)
        assert 1 <= len(looks) <= 3


async def test_the_memory_of_a_child_counts_as_the_process(stage: Stage) -> None:
    process = ProcessMemory(["cpu"])
    process.begin()
    assert process.read() == {"cpu": 0}
    process.children.add(os.getpid())
    assert process.read()["cpu"] > 10 * MIB
    process.children = {2**22 + 1}
    assert process.read() == {"cpu": 0}


async def test_only_models_that_are_asked_for_are_looked_at(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    inspect = FootprintStore.inspect

    def noted(self: FootprintStore, spec: ModelSpec) -> None:
        looked.append(spec.model_id)
        inspect(self, spec)

    monkeypatch.setattr(FootprintStore, "inspect", noted)
    async with running(stage) as manager:
        await asyncio.gather(*(bring(manager, "b") for _ in range(9)))
        assert looked == ["a", "b"]
        await manager.unload("b")
        await bring(manager, "b")
        assert looked == ["a", "b", "b"]
