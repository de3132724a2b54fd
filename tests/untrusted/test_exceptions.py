"""Errors of others become ours, and keep none of the frames that they went through."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from greenroom.errors import SynthesisError
from greenroom.untrusted.exceptions import Translated


class Engine:
    def fail(self) -> None:
        raise ValueError("of the engine")


def translate(error: BaseException) -> BaseException:
    return SynthesisError(f"{type(error).__name__} in {threading.current_thread().name}.")


def same(error: BaseException) -> BaseException:
    return error


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Have nothing freed but what no reference leads to, not even from itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_block_without_an_error_is_left_alone() -> None:
    with Translated(translate):
        done = True
    assert done


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), StopIteration()]
)
def test_every_error_comes_out_translated_and_without_context(error: BaseException) -> None:
    said = f"{type(error).__name__} in MainThread"
    with pytest.raises(SynthesisError, match=said) as raised, Translated(translate):
        raise error
    assert raised.value.__context__ is None
    assert raised.value.__cause__ is None


def test_an_error_that_is_ours_already_comes_out_as_it_is() -> None:
    ours = SynthesisError("as it was.")
    with pytest.raises(SynthesisError) as raised, Translated(lambda error: error):
        raise ours
    assert raised.value is ours
    assert ours.__context__ is None


def test_a_cause_that_is_linked_stays() -> None:
    def linked(error: BaseException) -> BaseException:
        problem = SynthesisError("failed.")
        problem.__cause__ = error
        return problem

    with pytest.raises(SynthesisError) as raised, Translated(linked):
        Engine().fail()
    assert isinstance(raised.value.__cause__, ValueError)


async def test_an_error_of_what_is_awaited_is_translated() -> None:
    async def fail() -> None:
        raise ValueError

    with pytest.raises(SynthesisError), Translated(translate):
        await fail()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("translation", [translate, same])
def test_a_translated_error_keeps_no_engine_alive(
    translation: Callable[[BaseException], BaseException],
) -> None:
    def speak(engine: Engine) -> None:
        with Translated(translation):
            engine.fail()

    engine = Engine()
    with contextlib.suppress(SynthesisError, ValueError):
        speak(engine)
    dead = weakref.ref(engine)
    del engine
    assert dead() is None


@pytest.mark.usefixtures("no_collector")
def test_a_translated_error_that_is_kept_does_not_keep_the_frames_below_the_block() -> None:
    def step() -> weakref.ref[Engine]:
        engine = Engine()
        dead.append(weakref.ref(engine))
        engine.fail()
        return dead[0]

    dead: list[weakref.ref[Engine]] = []
    kept: list[BaseException] = []
    try:
        with Translated(translate):
            step()
    except SynthesisError as error:
        kept.append(error)
    assert kept
    assert dead[0]() is None
