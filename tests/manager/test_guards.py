"""Whatever is unexpected in a load or an unload is reported, and the next load goes on."""

from __future__ import annotations

import asyncio
import gc
import logging
import operator
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

from greenroom import ModelLoadError, ModelManager, WarmupError
from greenroom.errors import InvalidInputError, LeaseReleasedError, ManagerClosedError
from greenroom.testing import Gate, Stage, VirtualTimeLoop
from greenroom.untrusted.exceptions import (
    MOST_LINKS,
    describe_error,
    format_traceback,
    linked_errors,
    without_tracebacks,
)

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def manager(stage: Stage) -> AsyncIterator[ModelManager]:
    made = ModelManager(
        catalog=stage.catalog,
        default_model_id="a",
        min_residency_ms=0,
        resident_cap=2,
        cap_policy="hard",
        load_timeout_ms=5_000,
    )
    await made.initialize()
    yield made
    stage.open_all()
    await made.shutdown(drain_timeout_ms=0)


def ids(manager: ModelManager) -> list[str]:
    return [resident.model_id for resident in manager.list_resident()]


# Errors that others raise


def chain(length: int) -> Exception:
    error = Exception("first")
    for number in range(length):
        further = Exception(str(number))
        further.__cause__, error = error, further
    return error


def circle() -> Exception:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__context__, two.__cause__ = two, one, one
    return one


def itself() -> Exception:
    error = ValueError("it")
    error.__cause__ = error
    return error


class MuteError(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class OddError(ModelLoadError):
    """Of another signature than the class it is derived from."""

    def __init__(self) -> None:
        Exception.__init__(self, "no licence")


class LinkingError(Exception):
    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise RuntimeError


HOSTILE = [
    circle(),
    itself(),
    chain(5_000),
    ExceptionGroup("many", [ValueError(str(n)) for n in range(5_000)]),
    ExceptionGroup("one", [circle(), ExceptionGroup("two", [itself()])]),
    MuteError(),
    OddError(),
    LinkingError(),
    ValueError("x" * 1_000_000),
    ValueError("\x1b[2J\nhalf \ud800"),
    StopIteration(),
    BaseExceptionGroup("exits", [SystemExit(1)]),
]


@pytest.mark.parametrize("error", HOSTILE, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("step", ["construct", "load", "warm_up"])
async def test_whatever_a_load_raises_is_a_typed_error_and_the_next_load_works(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop, step: str, error: BaseException
) -> None:
    logging.getLogger("greenroom").setLevel(logging.DEBUG)
    try:
        getattr(stage["b"], step).error = error
        with pytest.raises(ModelLoadError) as raised:
            await manager.load("b")
    finally:
        logging.getLogger("greenroom").setLevel(logging.NOTSET)
    assert len(str(raised.value)) < 3_000
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)
    assert ids(manager) == ["a"]
    await manager.load("c")
    getattr(stage["b"], step).error = None
    await manager.release("c")
    await clock.advance(2)
    assert await manager.load("b")


@pytest.mark.parametrize("error", HOSTILE, ids=lambda e: type(e).__name__)
async def test_whatever_an_unload_raises_the_room_comes_back(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop, error: BaseException
) -> None:
    await manager.load("b")
    await manager.release("b")
    stage["b"].unload.error = error
    assert await manager.load("c")
    assert ids(manager) == ["a", "c"]


def test_every_walk_over_linked_errors_ends() -> None:
    for error in HOSTILE:
        found, _ = linked_errors(error)
        assert 0 < len(found) <= MOST_LINKS
        assert len(set(map(id, found))) == len(found)
        assert len(format_traceback(error)) < 100_000
    assert linked_errors(circle())[1]
    assert len(linked_errors(circle())[0]) == 2
    assert not linked_errors(chain(5_000))[1]


def test_members_causes_and_contexts_are_all_walked_and_lose_their_tracebacks() -> None:
    def raised(error: Exception) -> Exception:
        try:
            raise error
        except Exception as caught:  # noqa: BLE001
            return caught

    cause, context, member = (raised(ValueError(name)) for name in ("cause", "context", "member"))
    group = ExceptionGroup("group", [member])
    top = raised(RuntimeError("top"))
    top.__cause__, top.__context__ = cause, group
    cause.__context__ = context
    assert without_tracebacks(top) is top
    assert {str(each) for each in linked_errors(top)[0]} >= {"top", "cause", "context", "member"}
    assert all(each.__traceback__ is None for each in (top, cause, context, member))
    assert without_tracebacks(chain(5_000)) is None


def test_an_error_is_told_whatever_it_does() -> None:
    class Strange(str):
        __slots__ = ()

        def split(self, *_: Any) -> Any:
            raise SystemExit

    class StrangeError(Exception):
        def __str__(self) -> str:
            return Strange("strange")

    assert describe_error(StrangeError()) == "StrangeError: strange"
    assert describe_error(MuteError()) == "MuteError: its text cannot be told"
    assert describe_error(ValueError()) == "ValueError: no reason given"
    assert describe_error(ValueError("a\n b\x07")) == r"ValueError: a b\x07"


async def test_an_own_kind_of_load_error_is_the_cause_of_what_callers_get(
    manager: ModelManager, stage: Stage
) -> None:
    class OddWarmupError(WarmupError):
        def __init__(self) -> None:
            Exception.__init__(self, "odd")

    stage["b"].warm_up.error = OddWarmupError
    callers = [manager.load("b") for _ in range(3)]
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {WarmupError}
    assert all(isinstance(o.__cause__, OddWarmupError) for o in outcomes)  # type: ignore[union-attr]


async def test_a_failed_load_with_a_hostile_error_leaves_no_live_object(
    manager: ModelManager, stage: Stage
) -> None:
    gc.collect()
    gc.disable()
    try:
        for error in (circle(), chain(5_000)):
            stage["b"].load.error = error
            with pytest.raises(ModelLoadError):
                await manager._effects.request(manager.catalog.get("b"), None)
            manager._ledger.backoff.forget("b")
        stage["b"].load.error = None
        assert {adapter.spec.model_id for adapter in stage.living} == {"a"}
    finally:
        gc.enable()


# What an adapter states

NONSENSE = [-1, 0.5, float("nan"), float("inf"), "8", True, [], 10**400]


@pytest.mark.parametrize("value", [*NONSENSE, 0])
async def test_a_concurrency_that_is_no_number_of_threads_fails_the_load(
    manager: ModelManager, stage: Stage, value: Any
) -> None:
    stage.adapter.concurrency = value
    with pytest.raises(ModelLoadError, match="concurrency"):
        await manager.load("b")
    stage.adapter.concurrency = None
    assert await manager.load("c")


@pytest.mark.parametrize("method", ["footprint_bytes", "mapped_bytes"])
@pytest.mark.parametrize("value", [*NONSENSE, b"1"])
async def test_a_footprint_that_is_no_size_fails_the_load_and_says_so(
    manager: ModelManager,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    value: Any,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stage.adapter, method, lambda _: value)
        with pytest.raises(ModelLoadError, match=method):
            await manager.load("b")
    assert await manager.load("c")


async def test_numbers_of_numpy_are_numbers(manager: ModelManager, stage: Stage) -> None:
    stage["b"].footprint = np.int64(64 << 20)  # type: ignore[assignment]
    stage["b"].mapped = np.float32(1 << 20)  # type: ignore[assignment]
    stage.adapter.concurrency = np.int32(2)  # type: ignore[assignment]
    stage.adapter.sample_rate = np.int64(16_000)  # type: ignore[assignment]
    async with manager.lease("b") as lease:
        frames = [frame async for frame in lease.synthesize_stream("Hello there.")]
    assert len(frames) == 25
    (found,) = (r for r in manager.list_resident() if r.model_id == "b")
    assert (found.footprint_mb, type(found.footprint_mb)) == (64, float)
    stage.adapter.sample_rate = 16_000


@pytest.mark.parametrize("name", ["concurrency", "sample_rate", "footprint_bytes", "form"])
async def test_properties_that_raise_end_only_their_own_load(
    manager: ModelManager, stage: Stage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def lie(self: object) -> Any:
        raise SystemExit(2) if name != "form" else RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(stage.adapter, name, property(lie))
        if name == "form":
            assert await manager.load("b")
            await manager.release("b")
        else:
            with pytest.raises(ModelLoadError, match="SystemExit"):
                await manager.load("b")
    assert await manager.load("c")
    assert ids(manager) == ["a", "c"]


async def test_a_form_is_asked_for_in_a_thread_as_that_may_take_its_time(
    manager: ModelManager, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[threading.Thread] = []

    def form(self: object) -> str:
        asked.append(threading.current_thread())
        return "small"

    monkeypatch.setattr(stage.adapter, "form", property(form))
    await manager.load("b")
    await manager.release("b")
    await manager.unload("b")
    assert asked
    assert threading.main_thread() not in asked


async def test_an_adapter_that_minds_what_is_set_on_it_speaks_like_others(
    manager: ModelManager, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mind(self: object, name: str, value: object) -> None:
        if name == "_host":
            raise SystemExit
        object.__setattr__(self, name, value)

    monkeypatch.setattr(stage.adapter, "__setattr__", mind)
    async with manager.lease("b") as lease:
        assert [frame async for frame in lease.synthesize_stream("One.")]


# Our own surroundings: logs, journal, tasks, threads


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
            patch.setattr("greenroom.effects.ModelHost", fail)
        else:
            *path, name = what.split(".")
            patch.setattr(operator.attrgetter(".".join(["_effects", *path]))(manager), name, fail)
        with pytest.raises(ModelLoadError, match="ZeroDivisionError"):
            await manager.load("b")
    assert await manager.load("c")
    assert stage["b"].calls["unload"] == 1
    assert ids(manager) == ["a", "c"]
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
        with pytest.raises(ModelLoadError, match="no thread can be started"):
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


# Owners


class OddOwner:
    """Cannot be told, and cannot be compared."""

    def __str__(self) -> str:
        raise SystemExit

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        raise RuntimeError


@pytest.mark.parametrize("owner", [[], {}, {1, 2}, np.zeros(2)])
async def test_an_owner_that_is_not_hashable_is_refused_before_anything_starts(
    manager: ModelManager, stage: Stage, owner: Any
) -> None:
    for model_id in "ab":
        with pytest.raises(InvalidInputError, match="hashable"):
            await manager.load(model_id, owner=owner)
        with pytest.raises(InvalidInputError, match="hashable"):
            await manager.release(model_id, owner=owner)
    assert stage["b"].calls["construct"] == 0
    assert manager.list_resident()[0].refcount == 0


async def test_owners_that_cannot_be_told_or_compared_hold_and_give_back_like_others(
    manager: ModelManager, stage: Stage
) -> None:
    one, two = OddOwner(), OddOwner()
    await asyncio.gather(manager.load("b", owner=one), manager.load("b", owner=two))
    await manager.load("b", owner=one)
    (found,) = (r for r in manager.list_resident() if r.model_id == "b")
    assert found.owners == ("an owner of type OddOwner",) * 2
    assert "an owner of type OddOwner" in str(manager.explain("b"))
    await manager.release("b", owner=two)
    with pytest.raises(LeaseReleasedError, match="OddOwner"):
        await manager.release("b", owner=two)
    await manager.release("b", owner=one)
    await manager.release("b", owner=one)
    async with manager.lease("b", owner=one):  # type: ignore[arg-type]
        pass
    await manager.load("c", owner=two)
    assert ids(manager) == ["a", "c"]


async def test_a_huge_or_hostile_name_is_shown_short_and_on_one_line(manager: ModelManager) -> None:
    await manager.load("a", owner="x" * 1_000_000)
    await manager.load("a", owner="\x1b[2J\nnext line")
    long, hostile = manager.list_resident()[0].owners
    assert len(long) == 200
    assert hostile == r"\x1b[2J next line"
    await manager.release("a", owner="x" * 1_000_000)
    await manager.release("a", owner="\x1b[2J\nnext line")


@pytest.mark.parametrize("ttl", [float("nan"), float("inf"), -float("inf"), "5", True, None])
async def test_a_ttl_that_is_no_number_is_refused_before_anything_changes(
    manager: ModelManager, ttl: Any
) -> None:
    with pytest.raises(InvalidInputError, match="ttl_s"):
        manager.keep_alive("a", ttl)
    assert not [event for event in manager.journal.events("a") if event.kind == "kept"]


async def test_a_subscription_that_is_dropped_is_fed_no_more(manager: ModelManager) -> None:
    async def look() -> None:
        async for _ in manager.subscribe():
            break

    looking = asyncio.create_task(look())
    await asyncio.sleep(0)
    assert len(manager.journal._subscriptions) == 1
    manager.pin("a")
    await looking
    gc.collect()
    assert not manager.journal._subscriptions


async def test_explain_names_the_model_that_an_evicted_one_made_room_for(
    manager: ModelManager,
) -> None:
    await manager.load("b")
    await manager.release("b")
    await manager.load("c")
    assert "its room was needed for c" in manager.explain("b").summary
