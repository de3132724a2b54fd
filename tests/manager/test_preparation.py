"""Models are prepared beside the work and move over while callers have them, who notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenroom import AudioChunk, Catalog, ModelManager, ModelSpec, TTSAdapter
from greenroom.adapter import Preparation
from greenroom.effects import preparation
from greenroom.memory.usage import MIB
from tests.waiting import until

LONG = 30.0
"""Seconds that nothing here takes, and after which a test fails anyway."""

SAY = "import os, sys, time\nfrom pathlib import Path\n"


class PreparableModel:
    """What a fake model and its preparation do, and what was done with it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.mark = folder / f"{name}.prepared"
        self.lines = f"Path({str(self.mark)!r}).touch()"
        self.bytes = 100 * MIB
        self.own, self.better = 60 * MIB, 10 * MIB
        self.upgrades = 0
        self.upgrade = threading.Event()
        self.upgrade.set()
        self.begun = threading.Event()
        self.error: Exception | None = None


class PreparableModels:
    """Fake models by name."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.by_name = {name: PreparableModel(folder, name) for name in names}
        models = self

        class MarkedPreparation(Preparation):
            def is_prepared(self, spec: ModelSpec) -> bool | None:
                return models[spec.options.get("like", spec.model_id)].mark.exists()

            def next_form(self, spec: ModelSpec) -> str:
                return "prepared" if self.is_prepared(spec) else "own file"

            def command(self, spec: ModelSpec) -> Sequence[str]:
                model = models[spec.options.get("like", spec.model_id)]
                return [sys.executable, "-c", SAY + model.lines]

            def memory_bytes(self, spec: ModelSpec) -> int:
                return models[spec.options.get("like", spec.model_id)].bytes

        class Preparable(TTSAdapter):
            preparation = MarkedPreparation()
            concurrency = None
            sample_rate = 16_000

            def __init__(self, spec: ModelSpec) -> None:
                super().__init__(spec)
                self.model = models[spec.options.get("like", spec.model_id)]

            @property
            def form(self) -> str:
                return self._form

            def load(self) -> None:
                self._form = "prepared" if self.model.mark.exists() else "own file"

            def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
                for _ in range(3):
                    yield AudioChunk(np.full(1_600, 0.5, np.float32), 16_000)

            def footprint_bytes(self) -> int:
                return self.model.better if self._form == "prepared" else self.model.own

            def mapped_bytes(self) -> int:
                return 0

            def upgrade(self) -> bool:
                self.model.upgrades += 1
                self.model.begun.set()
                assert self.model.upgrade.wait(LONG)
                if self.model.error is not None:
                    raise self.model.error
                self._form = "prepared"
                return True

            def unload(self) -> None:
                pass

        self.adapter = Preparable
        self.catalog = Catalog([ModelSpec(name, Preparable, footprint_mb=60) for name in names])

    def __getitem__(self, name: str) -> PreparableModel:
        return self.by_name[name]


@pytest.fixture
def models(tmp_path: Path) -> PreparableModels:
    return PreparableModels(tmp_path, "amy", "joe", "kim")


@contextlib.asynccontextmanager
async def running(models: PreparableModels, **given: Any) -> AsyncIterator[ModelManager]:
    settings: dict[str, Any] = {"min_residency_ms": 0, "resident_cap": 8, "ttl_ms": -1}
    settings |= {"memory_budget_mb": 500, "default_model_id": "amy"}
    manager = ModelManager(catalog=models.catalog, **(settings | given))
    try:
        async with manager:
            yield manager
    finally:
        for model in models.by_name.values():
            model.upgrade.set()


def kinds(manager: ModelManager, model_id: str) -> list[str]:
    return [str(event.kind) for event in manager.journal.events(model_id)]


def form(manager: ModelManager, model_id: str = "amy") -> str:
    resident = manager._ledger.get(model_id)
    assert resident is not None
    return str(resident.instance.form)


async def load_and_release(manager: ModelManager, model_id: str) -> None:
    await manager.load(model_id)
    await manager.release(model_id)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def never_ending(model: PreparableModel, more: str = "") -> Path:
    """Have a preparation go on until it is ended; returns the file with its process id."""
    place = model.mark.with_suffix(".pid")
    model.lines = (
        f"{more}\nbeside = {str(place)!r} + '.tmp'\nPath(beside).write_text(str(os.getpid()))\n"
        f"os.rename(beside, {str(place)!r})\ntime.sleep(1000)"
    )
    return place


# The whole way


async def test_a_model_is_prepared_after_its_load_and_moves_over_while_it_is_held(
    models: PreparableModels,
) -> None:
    async with running(models) as manager, manager.lease("amy") as lease:
        adapter = lease.adapter
        await until(lambda: form(manager) == "prepared")
        await until(lambda: "upgraded" in kinds(manager, "amy"))
        assert lease.adapter is adapter
        await until(lambda: manager.list_resident()[0].footprint_mb == 10)
        assert manager.statistics().footprint_mb == 10
        assert kinds(manager, "amy")[-3:] == ["preparing", "prepared", "upgraded"]
        assert "10 MB are booked in the place of 60 MB" in str(manager.explain("amy"))
        frames = [frame async for frame in lease.synthesize_stream("Hello.")]
        assert frames


async def test_a_model_does_not_move_over_in_the_middle_of_its_speech(
    models: PreparableModels,
) -> None:
    async with running(models) as manager, manager.lease("amy") as lease:
        stream = lease.synthesize_stream(
            "One. Two. Three. Four. Five. Six. Seven. Eight. Nine. Ten."
        )
        await anext(stream)
        await until(lambda: "prepared" in kinds(manager, "amy"))
        assert models["amy"].upgrades == 0
        stream.stop()
        await until(lambda: models["amy"].upgrades == 1)


async def test_models_of_one_voice_are_prepared_once_and_all_move_over(
    models: PreparableModels, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    models["amy"].lines += f"; open({str(log)!r}, 'a').write('x')"
    like = ModelSpec("lou", models.adapter, options={"like": "amy"})
    models.adapter.check_options = classmethod(lambda cls, options: None)  # type: ignore[assignment, method-assign]
    models.catalog = Catalog([*models.catalog, like])
    async with running(models, preload_model_ids=["lou"]) as manager:
        await until(lambda: form(manager) == form(manager, "lou") == "prepared")
    assert log.read_text() == "x"


async def test_a_model_that_another_process_prepared_meanwhile_moves_over_at_once(
    models: PreparableModels,
) -> None:
    mark = str(models["amy"].mark)
    models["amy"].lines = f"Path({mark!r}).touch(); sys.exit('the other was first')"
    async with running(models) as manager:
        await until(lambda: "unprepared" in kinds(manager, "amy"))
        assert form(manager) == "own file"
        await manager.unload("amy")
        await load_and_release(manager, "amy")
        assert form(manager) == "prepared"
        assert models["amy"].upgrades == 0


async def test_a_model_that_is_prepared_or_cannot_be_starts_no_process(
    models: PreparableModels,
) -> None:
    models["amy"].mark.touch()
    async with running(models) as manager:
        await until(lambda: not manager._effects.preparations._working)
        assert "preparing" not in kinds(manager, "amy")
        assert models["amy"].upgrades == 0


# Failures


async def test_a_preparation_that_fails_says_why_once_and_is_not_tried_again(
    models: PreparableModels,
) -> None:
    models["amy"].lines = "sys.exit('its graph has branches')"
    async with running(models) as manager:
        await until(lambda: "unprepared" in kinds(manager, "amy"))
        assert "its graph has branches; its own file serves" in str(manager.explain("amy"))
        await manager.unload("amy")
        await load_and_release(manager, "amy")
        await until(lambda: not manager._effects.preparations._working)
        assert kinds(manager, "amy").count("preparing") == 1
        assert manager._ledger.capacity.reserved == 0


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("command", lambda spec: ["/no/such/program"]),
        ("command", lambda spec: []),
        ("command", lambda spec: ["nul\0"]),
        ("command", lambda spec: 7),
        ("memory_bytes", lambda spec: "much"),
        ("is_prepared", lambda spec: 1 / 0),
    ],
)
async def test_an_adapter_that_cannot_say_how_costs_the_next_one_nothing(
    models: PreparableModels, monkeypatch: pytest.MonkeyPatch, name: str, fault: Any
) -> None:
    right = getattr(models.adapter.preparation, name)

    def wrong(spec: ModelSpec) -> Any:
        return fault(spec) if spec.model_id == "amy" else right(spec)

    monkeypatch.setattr(models.adapter.preparation, name, wrong)
    async with running(models, preload_model_ids=["joe"]) as manager:
        await until(lambda: form(manager, "joe") == "prepared")
        assert manager._ledger.capacity.reserved == 0


async def test_an_upgrade_that_fails_leaves_the_model_as_it_was(
    models: PreparableModels, caplog: pytest.LogCaptureFixture
) -> None:
    models["amy"].error = MemoryError("not enough")
    async with running(models) as manager:
        with caplog.at_level(logging.WARNING):
            await until(lambda: "stays in its form" in caplog.text)
        assert form(manager) == "own file"
        assert manager.list_resident()[0].footprint_mb == 60
        await manager.unload("amy")


# Room


async def test_preparing_is_booked_while_it_runs(models: PreparableModels) -> None:
    place = never_ending(models["amy"])
    async with running(models) as manager:
        await until(place.exists)
        assert manager._ledger.capacity.reserved == 100 * MIB


async def test_preparing_waits_until_there_is_room_and_evicts_nobody(
    models: PreparableModels,
) -> None:
    models["joe"].mark.touch()
    models["joe"].better = 60 * MIB
    models["amy"].bytes = 400 * MIB
    settings = {"default_model_id": "joe", "pin_default": False, "memory_budget_mb": 480}
    async with running(models, **settings) as manager:
        await load_and_release(manager, "amy")
        await until(lambda: manager._effects.preparations._working)
        await manager._effects.until(lambda: "preparing" in kinds(manager, "amy"), 0.05)
        assert {r.model_id for r in manager.list_resident()} == {"amy", "joe"}
        assert "preparing" not in kinds(manager, "amy")
        await manager.unload("joe")
        await until(lambda: form(manager) == "prepared")


async def test_what_can_never_be_prepared_is_said_once_and_no_caller_is_refused_for_it(
    models: PreparableModels, caplog: pytest.LogCaptureFixture
) -> None:
    models["amy"].bytes = 441 * MIB
    async with running(models) as manager:
        await until(lambda: "unprepared" in kinds(manager, "amy"))
        await manager.unload("amy")
        await load_and_release(manager, "amy")
        await until(lambda: not manager._effects.preparations._working)
        await load_and_release(manager, "joe")
        assert kinds(manager, "amy").count("unprepared") == 1
        assert "that takes 441 MB, which never are free" in str(manager.explain("amy"))


async def test_a_caller_who_waits_for_the_memory_has_it_and_preparing_is_tried_again(
    models: PreparableModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "_FIRST_PAUSE_S", 0.01)
    models["joe"].mark.touch()
    models["joe"].better = 60 * MIB
    place = never_ending(models["amy"])
    async with running(models, memory_budget_mb=200) as manager:
        await until(place.exists)
        pid = int(place.read_text())
        models["amy"].lines = f"Path({str(models['amy'].mark)!r}).touch()"  # what the next try does
        await asyncio.wait_for(load_and_release(manager, "joe"), LONG)
        assert not alive(pid)
        assert "gave way" in str(manager.explain("amy"))
        await manager.unload("joe")
        await until(lambda: form(manager) == "prepared")


async def test_one_preparation_runs_at_a_time(models: PreparableModels, tmp_path: Path) -> None:
    alone = str(tmp_path / "alone")
    for model in models.by_name.values():
        model.lines = f"os.mkdir({alone!r}); time.sleep(0.02); os.rmdir({alone!r}); {model.lines}"
    async with running(models, preload_model_ids=["joe", "kim"]) as manager:
        await until(lambda: all(form(manager, name) == "prepared" for name in models.by_name))


# Leaving


async def test_a_model_is_not_unloaded_while_it_moves_over(models: PreparableModels) -> None:
    models["amy"].upgrade.clear()
    async with running(models, pin_default=False, ttl_ms=0) as manager:
        await manager.load("amy")
        await until(models["amy"].begun.is_set)
        await manager.release("amy")
        assert await manager.evict_idle() == ()
        leaving = asyncio.create_task(manager.unload("amy"))
        await asyncio.sleep(0)
        assert not leaving.done()
        assert manager._ledger.get("amy").instance is not None  # type: ignore[union-attr]
        models["amy"].upgrade.set()
        await asyncio.wait_for(leaving, LONG)
        assert manager.list_resident() == ()


async def test_the_end_of_the_manager_is_the_end_of_preparing(models: PreparableModels) -> None:
    place = never_ending(models["amy"])
    async with running(models) as manager:
        await until(place.exists)
        pid = int(place.read_text())
        began = asyncio.get_running_loop().time()
    assert not alive(pid)
    assert asyncio.get_running_loop().time() - began < LONG
    assert not manager._effects.preparations._tasks._running


async def test_a_preparation_that_will_not_end_is_killed(
    models: PreparableModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "PATIENCE_S", 0.05)
    deaf = "import signal; signal.signal(signal.SIGTERM, lambda *_: 0)"
    place = never_ending(models["amy"], deaf)
    async with running(models):
        await until(place.exists)
        pid = int(place.read_text())
    assert not alive(pid)


async def test_the_end_of_the_manager_waits_for_a_model_that_moves_over(
    models: PreparableModels,
) -> None:
    models["amy"].upgrade.clear()
    async with running(models) as manager:
        await until(models["amy"].begun.is_set)
        ending = asyncio.create_task(manager.shutdown(drain_timeout_ms=0))
        await asyncio.sleep(0.05)
        assert [r.state for r in manager.list_resident()] == ["ready"]
        models["amy"].upgrade.set()
        await asyncio.wait_for(ending, LONG)
        assert manager.list_resident() == ()


async def test_an_upgrade_that_hangs_does_not_hold_the_end_up(
    models: PreparableModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "_END_LIMIT_S", 0.05)
    monkeypatch.setattr(preparation, "_UPGRADE_LIMIT_S", 0.05)
    monkeypatch.setattr("greenroom.effects.shutdown.STREAMS_LIMIT_S", 0.05)
    models["amy"].upgrade.clear()
    async with running(models):
        await until(models["amy"].begun.is_set)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < LONG / 2
