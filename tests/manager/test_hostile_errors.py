"""Whatever an engine raises becomes a typed error, and the next load goes on."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest

from greenroom import ModelLoadError, ModelManager, WarmupError
from greenroom.testing import Stage, VirtualTimeLoop
from greenroom.untrusted.exceptions import (
    MOST_LINKS,
    describe_error,
    format_traceback,
    linked_errors,
    without_tracebacks,
)
from tests.manager.running_manager import ids

pytestmark = pytest.mark.virtual_time


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
