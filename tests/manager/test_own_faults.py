"""Faults of our own (logs, journal, tasks, threads) lose no load, no unload, no caller."""

from __future__ import annotations

import asyncio
import logging
import operator
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from greenroom import ModelLoadError, ModelManager
from greenroom.errors import ManagerClosedError
from greenroom.testing import Gate, Stage, VirtualTimeLoop
from tests.manager.running_manager import ids, one, running

pytestmark = pytest.mark.virtual_time


class Broken(logging.Handler):
    """A handler that raises, whatever it is given."""

    raised: ClassVar[int] = 0

    def handle(self, record: logging.LogRecord) -> bool:
        Broken.raised += 1
        raise OSError("no space left on device")


@pytest.fixture
def broken_log() -> Iterator[None]:
    handler, logger = Broken(), logging.getLogger("greenroom")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


async def test_a_log_handler_that_raises_freezes_no_load_and_no_unload(
    manager: ModelManager, stage: Stage, broken_log: None, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.error = RuntimeError("broken")
    with pytest.raises(ModelLoadError, match="broken"):
        await manager.load("b")
    await manager.load("c")
    await manager.release("c")
    stage["c"].unload.error = RuntimeError("broken")
    assert await manager.load("d")
    assert ids(manager) == ["a", "d"]
    assert Broken.raised > 5


async def test_a_journal_that_raises_freezes_no_load_and_no_unload(
    manager: ModelManager, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no journal")

    monkeypatch.setattr(manager.journal, "record", fail)
    await manager.load("b")
    await manager.release("b")
    assert await manager.load("c")
    assert ids(manager) == ["a", "c"]


@pytest.mark.parametrize(
    "what", ["loader._remember_load", "_warming", "ModelHost", "footprints.mapped"]
)
async def test_a_fault_of_ours_amid_a_load_unloads_the_model_and_tells_its_callers(
    manager: ModelManager,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        if what == "ModelHost":
            patch.setattr("greenroom.effects.effects.ModelHost", fail)
        else:
            *path, name = what.split(".")
            patch.setattr(operator.attrgetter(".".join(["_effects", *path]))(manager), name, fail)
        with pytest.raises(ModelLoadError, match="ZeroDivisionError"):
            await manager.load("b")
    assert await manager.load("c")
    assert stage["b"].calls["unload"] == 1
    assert ids(manager) == ["a", "c"]
    caplog.clear()


async def test_a_fault_of_ours_after_a_load_that_nobody_wants_any_more_frees_no_room_too_early(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    clock: VirtualTimeLoop,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    async with running(stage, resident_cap=1) as manager:
        stage["b"].load.hold()
        stage["b"].unload.hold()
        caller = asyncio.create_task(manager.load("b"))
        await clock.settle()
        caller.cancel()
        await clock.settle()
        with monkeypatch.context() as patch:
            patch.setattr(manager._effects.preparations, "consider", fail)
            stage["b"].load.open()
            await clock.settle()
        assert [event.kind for event in manager.journal.events("b")][-1] == "unloading"
        assert one(manager, "b").state == "unloading"
        stage["b"].unload.open()
        await clock.settle()
        assert ids(manager) == ["a"]
        assert stage["b"].calls["unload"] == 1
    broken = [r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL]
    assert [message.partition(":")[0] for message in broken] == ["the load of b broke off"]
    caplog.clear()


@pytest.mark.parametrize("what", ["footprints.mark_stale", "preparations.give_way"])
async def test_a_fault_of_ours_after_a_load_that_hangs_frees_no_room_under_its_thread(
    manager: ModelManager,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    clock: VirtualTimeLoop,
    what: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    stage["b"].load.hold()
    caller = asyncio.create_task(manager.load("b"))
    await clock.settle()
    with monkeypatch.context() as patch:
        owner, name = what.split(".")
        patch.setattr(getattr(manager._effects, owner), name, fail)
        await clock.advance(5.1)
    assert ids(manager) == ["a", "b"]
    stage["b"].load.open()
    with pytest.raises(ModelLoadError):
        await caller
    await clock.settle()
    assert ids(manager) == ["a"]
    assert stage.loaded == 1
    caplog.clear()


async def test_a_fault_of_ours_amid_an_unload_gives_the_room_back(
    manager: ModelManager,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    await manager.load("b")
    await manager.release("b")
    with monkeypatch.context() as patch:
        patch.setattr(manager._effects.loader, "_remember_unload", fail)
        assert await manager.load("c")
    assert stage["b"].calls["unload"] == 1
    assert "the unload of b broke off" in caplog.text
    problem = "unloading: ZeroDivisionError: no reason given"
    assert problem in [event.reason for event in manager.journal.events("b")]
    caplog.clear()


async def test_of_several_decisions_one_that_cannot_be_carried_out_loses_no_other(
    manager: ModelManager,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    clock: VirtualTimeLoop,
) -> None:
    begin, failing = manager._effects.tasks.begin, ["load b", "unload c"]

    def sometimes(coroutine: Any, name: str) -> Any:
        if name in failing:
            coroutine.close()
            failing.remove(name)
            raise RuntimeError("no task")
        return begin(coroutine, name)

    monkeypatch.setattr(manager._effects.tasks, "begin", sometimes)
    with pytest.raises(ModelLoadError, match="no task"):
        await manager.load("b")
    await manager.load("c")
    await manager.release("c")
    waiting = asyncio.create_task(manager.load("d"))
    await clock.advance(1.1)  # the unload is tried again
    assert await waiting
    assert ids(manager) == ["a", "d"]
    assert failing == []
    caplog.clear()


def refuse(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


async def test_a_load_without_a_thread_fails_typed_and_later_loads_work(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch, clock: VirtualTimeLoop
) -> None:
    manager._effects.loader._load_executor._idle.clear()
    with monkeypatch.context() as patch:
        patch.setattr("greenroom.concurrency.threads._Worker.start", refuse)
        with pytest.raises(ModelLoadError, match="no thread can be started"):
            await manager.load("b")
    assert ids(manager) == ["a"]
    await clock.advance(2)
    assert await manager.load("b")


async def test_a_start_without_a_thread_fails_typed_and_leaves_nothing_running(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, clock: VirtualTimeLoop
) -> None:
    made = ModelManager(catalog=stage.catalog, default_model_id="a")
    with monkeypatch.context() as patch:
        patch.setattr("greenroom.concurrency.threads._Worker.start", refuse)
        starting = asyncio.create_task(made.initialize())
        await clock.advance(16)
        with pytest.raises(ModelLoadError, match="'a' cannot be loaded: no thread can be started"):
            await starting
    with pytest.raises(ManagerClosedError):
        await made.load("a")


async def test_a_start_does_not_wait_for_measurements_that_cannot_be_read(
    stage: Stage, clock: VirtualTimeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    made = ModelManager(catalog=stage.catalog, default_model_id="a")
    hangs = Gate()
    hangs.hold()
    made._effects.footprints.read = hangs.go_through  # type: ignore[method-assign]
    starting = asyncio.create_task(made.initialize())
    await clock.advance(6)
    await starting
    assert "reading it hangs" in caplog.text
    assert ids(made) == ["a"]
    hangs.open()
    await made.shutdown()


async def test_an_unload_without_a_thread_is_done_as_soon_as_there_is_one(
    manager: ModelManager, stage: Stage, monkeypatch: pytest.MonkeyPatch, clock: VirtualTimeLoop
) -> None:
    await manager.load("b")
    await manager.release("b")
    manager._effects.loader._unload_executor._idle.clear()
    with monkeypatch.context() as patch:
        patch.setattr("greenroom.concurrency.threads._Worker.start", refuse)
        waiting = asyncio.create_task(manager.load("c"))
        await clock.advance(3)
        assert not waiting.done()
        assert stage["b"].calls["unload"] == 0
    await clock.advance(1)
    assert await waiting
    assert ids(manager) == ["a", "c"]


@pytest.mark.parametrize("broken", [False, True])
async def test_a_fault_of_ours_amid_an_answer_tells_the_caller_and_keeps_no_reference(
    manager: ModelManager,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: bool,
) -> None:
    answer, failing = manager._effects._answer, [True]

    def once(*arguments: Any) -> None:
        if failing:
            failing.clear()
            raise ZeroDivisionError
        answer(*arguments)

    stage["b"].load.error = RuntimeError("broken") if broken else None
    monkeypatch.setattr(manager._effects, "_answer", once)
    with pytest.raises(ModelLoadError, match="'b' cannot be loaded: ZeroDivisionError"):
        await manager.load("b", owner="x")
    assert [r.owners for r in manager.list_resident()] == [()] * (1 if broken else 2)
    assert manager.statistics().waiting == 0
    caplog.clear()


async def test_a_look_at_what_is_due_that_fails_is_made_up_for_by_the_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, clock: VirtualTimeLoop
) -> None:
    def fail(now: float) -> None:
        raise ZeroDivisionError

    raised: list[Any] = []
    clock.set_exception_handler(lambda _, context: raised.append(context["exception"]))
    async with running(stage, ttl_ms=1_000, evict_check_interval_ms=2_000) as manager:
        await manager.load("b")
        await manager.release("b")
        with monkeypatch.context() as patch:
            patch.setattr(manager._ledger, "tick", fail)
            patch.setattr(manager._ledger, "next_due", lambda: float("inf"))
            await clock.advance(2.1)
        assert [type(error) for error in raised] == [ZeroDivisionError] * len(raised)
        assert ids(manager) == ["a", "b"]
        await clock.advance(2)
        assert ids(manager) == ["a"]
