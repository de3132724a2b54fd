"""Sessions and speech without a protocol, in virtual time: exact limits, and nothing left over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from greenroom import ManagerClosedError, ModelInUseError, ModelManager
from greenroom.config.schema import WorkerSettings
from greenroom.errors import SessionNotFoundError, StalledError, WorkerBusyError
from greenroom.testing import Stage, VirtualTimeLoop
from greenroom.worker.synthesis import Command, Synthesis

pytestmark = pytest.mark.virtual_time

IDLE_S = 10.0
TEXT = "Hello."


class OpenSynthesis:
    """A synthesis with its manager."""

    def __init__(self, stage: Stage) -> None:
        self.manager = ModelManager(
            catalog=stage.catalog, default_model_id="a", ttl_ms=-1, resident_cap=8
        )
        settings = WorkerSettings(session_idle_ms=int(IDLE_S * 1000), max_sessions=3, max_streams=2)
        self.synthesis = Synthesis(self.manager, settings)

    def refcount(self, model_id: str) -> int:
        return sum(r.refcount for r in self.manager.list_resident() if r.model_id == model_id)

    async def speak(self, session_id: str) -> int:
        count = 0
        async with self.synthesis.in_session(session_id, self.synthesis.text(TEXT)) as speech:
            async for _ in speech:
                count += 1
        return count


@pytest.fixture
async def opened(stage: Stage) -> AsyncIterator[OpenSynthesis]:
    made = await asyncio.to_thread(OpenSynthesis, stage)
    await made.manager.initialize()
    yield made
    stage.open_all()
    await made.synthesis.drain(0)
    await made.manager.shutdown(drain_timeout_ms=0)
    assert stage.loaded == 0


async def test_a_session_is_reaped_the_moment_it_was_idle_for_the_limit(
    opened: OpenSynthesis, clock: VirtualTimeLoop
) -> None:
    await opened.synthesis.start_session("s")
    await clock.advance(IDLE_S - 0.01)
    assert opened.refcount("a") == 1
    await clock.advance(0.01)
    assert opened.refcount("a") == 0
    with pytest.raises(SessionNotFoundError):
        opened.synthesis.session("s")


@pytest.mark.parametrize("use", ["start", "control", "speak"])
async def test_every_use_begins_the_idle_time_anew(
    opened: OpenSynthesis, clock: VirtualTimeLoop, use: str
) -> None:
    await opened.synthesis.start_session("s")
    await clock.advance(IDLE_S - 1)
    if use == "start":
        await opened.synthesis.start_session("s")
    elif use == "control":
        await opened.synthesis.control("s", Command.STOP)
    else:
        assert await opened.speak("s") == 25
    await clock.advance(IDLE_S - 1)
    assert opened.refcount("a") == 1
    await clock.advance(1)
    assert opened.refcount("a") == 0


async def test_looking_at_a_session_does_not_keep_it(
    opened: OpenSynthesis, clock: VirtualTimeLoop
) -> None:
    await opened.synthesis.start_session("s")
    await clock.advance(IDLE_S - 1)
    opened.synthesis.session("s")
    await clock.advance(1)
    assert opened.refcount("a") == 0


async def test_a_session_that_speaks_is_not_idle_however_long_it_takes(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await opened.synthesis.start_session("s")
    stage["a"].synthesize.hold()
    speaking = asyncio.create_task(opened.speak("s"))
    await clock.advance(3 * IDLE_S)
    assert opened.refcount("a") == 1
    stage.open_all()
    assert await speaking == 25
    await clock.advance(IDLE_S - 0.01)
    assert opened.refcount("a") == 1
    await clock.advance(0.01)
    assert opened.refcount("a") == 0


async def test_a_session_whose_model_is_loading_is_not_idle(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    starting = asyncio.create_task(opened.synthesis.start_session("s", "b"))
    await clock.advance(2 * IDLE_S)
    stage.open_all()
    await starting
    await clock.advance(IDLE_S - 0.01)
    assert opened.refcount("b") == 1


async def test_a_refused_session_is_told_when_the_next_one_is_reaped(
    opened: OpenSynthesis, clock: VirtualTimeLoop
) -> None:
    for name in "xyz":
        await opened.synthesis.start_session(name)
        await clock.advance(1)
    with pytest.raises(WorkerBusyError) as caught:
        await opened.synthesis.start_session("w")
    assert caught.value.retry_after == pytest.approx(IDLE_S - 3)
    await clock.advance(IDLE_S - 3)
    await opened.synthesis.start_session("w")
    assert opened.refcount("a") == 3


async def test_no_time_is_told_while_every_session_speaks(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["a"].synthesize.hold()
    opened.synthesis.settings = opened.synthesis.settings.model_copy(update={"max_streams": 9})
    for name in "xyz":
        await opened.synthesis.start_session(name)
    speaking = [asyncio.create_task(opened.speak(name)) for name in "xyz"]
    await clock.settle()
    with pytest.raises(WorkerBusyError) as caught:
        await opened.synthesis.start_session("w")
    assert caught.value.retry_after is None
    stage.open_all()
    await asyncio.gather(*speaking)


async def test_a_load_given_up_by_one_of_two_goes_on_for_the_other(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    first, second = (
        asyncio.create_task(opened.synthesis.start_session("s", "b")) for _ in range(2)
    )
    await clock.settle()
    first.cancel()
    await clock.settle()
    stage.open_all()
    assert (await second).session_id == "s"
    assert opened.refcount("b") == 1


async def test_a_load_given_up_by_all_leaves_no_session_and_the_id_is_free(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    starts = [asyncio.create_task(opened.synthesis.start_session("s", "b")) for _ in range(2)]
    await clock.settle()
    for start in starts:
        start.cancel()
    await clock.settle()
    await opened.synthesis.start_session("s", "a")
    stage.open_all()
    await clock.settle()
    assert (opened.refcount("a"), opened.refcount("b")) == (1, 0)


async def test_an_end_lets_running_speech_finish(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await opened.synthesis.start_session("s", "b")
    stage["b"].synthesize.hold()
    speaking = asyncio.create_task(opened.speak("s"))
    await clock.settle()
    await opened.synthesis.end_session("s")
    assert opened.refcount("b") == 0
    await opened.synthesis.start_session("s", "a")
    assert await opened.synthesis.control("s", Command.STOP) == 0
    stage.open_all()
    assert await speaking == 25


async def test_a_reload_that_others_hold_up_is_taken_back_and_the_session_keeps_its_lease(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await opened.synthesis.start_session("s", "b")
    async with opened.manager.lease("b", owner="somebody"):
        reloading = asyncio.create_task(opened.synthesis.control("s", Command.RELOAD))
        await clock.advance(29.9)
        assert not reloading.done()
        waiting = asyncio.create_task(opened.speak("s"))
        await clock.advance(0.2)
        with pytest.raises(ModelInUseError, match="somebody"):
            await reloading
        assert await waiting == 25
        assert opened.refcount("b") == 2
    assert stage["b"].calls["load"] == 1


async def test_a_reload_whose_caller_goes_away_is_carried_out_all_the_same(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await opened.synthesis.start_session("s", "b")
    stage["b"].load.hold()
    reloading = asyncio.create_task(opened.synthesis.control("s", Command.RELOAD))
    await clock.settle()
    reloading.cancel()
    await clock.settle()
    stage.open_all()
    await clock.settle()
    assert stage["b"].calls["load"] == 2
    assert opened.refcount("b") == 1
    assert await opened.speak("s") == 25


async def test_an_end_during_a_reload_leaves_nothing_held(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await opened.synthesis.start_session("s", "b")
    stage["b"].load.hold()
    reloading = asyncio.create_task(opened.synthesis.control("s", Command.RELOAD))
    await clock.settle()
    await opened.synthesis.end_session("s")
    with pytest.raises(SessionNotFoundError):
        await reloading
    stage.open_all()
    await clock.settle()
    assert opened.refcount("b") == 0


async def test_two_reloads_at_once_both_end_with_one_lease(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await opened.synthesis.start_session("s", "b")
    reloads = [asyncio.create_task(opened.synthesis.control("s", Command.RELOAD)) for _ in range(2)]
    await asyncio.gather(*reloads)
    assert opened.refcount("b") == 1
    assert await opened.speak("s") == 25


async def test_a_pause_ends_with_patience_and_not_before(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await opened.synthesis.start_session("s")
    stage["a"].synthesize.hold()
    speaking = asyncio.create_task(opened.speak("s"))
    await clock.settle()
    for _ in range(3):
        await opened.synthesis.control("s", Command.PAUSE)
        await clock.advance(IDLE_S - 0.01)
        await opened.synthesis.control("s", Command.RESUME)
    await opened.synthesis.control("s", Command.PAUSE)
    stage.open_all()
    await clock.advance(IDLE_S - 0.01)
    assert not speaking.done()
    await clock.advance(0.01)
    with pytest.raises(StalledError, match="paused"):
        await speaking


async def test_what_is_said_before_there_is_a_model_is_not_lost(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await opened.synthesis.start_session("s", "b")
    stage["b"].load.hold()
    reloading = asyncio.create_task(opened.synthesis.control("s", Command.RELOAD))
    await clock.settle()
    stopped = asyncio.create_task(opened.speak("s"))
    await clock.settle()
    assert await opened.synthesis.control("s", Command.STOP) == 1
    paused = asyncio.create_task(opened.speak("s"))
    await clock.settle()
    assert await opened.synthesis.control("s", Command.PAUSE) == 2
    stage.open_all()
    await reloading
    await clock.settle()
    assert await stopped == 0
    assert not paused.done()
    await opened.synthesis.control("s", Command.RESUME)
    assert await paused == 25


async def test_text_that_does_not_come_ends_the_speech_with_patience(
    opened: OpenSynthesis, clock: VirtualTimeLoop
) -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "One. "
        await asyncio.sleep(IDLE_S - 1)
        yield "Two. "
        await asyncio.sleep(2 * IDLE_S)

    async def speak() -> None:
        voice = opened.synthesis.voices.choose()
        async with opened.synthesis.once(
            voice, opened.synthesis.text(pieces()), owner="somebody"
        ) as speech:
            async for _ in speech:
                pass

    speaking = asyncio.create_task(speak())
    await clock.advance(2 * IDLE_S - 1.01)
    assert not speaking.done()
    await clock.advance(0.02)
    with pytest.raises(StalledError, match="no text came"):
        await speaking
    assert opened.refcount("a") == 0


async def test_a_drain_waits_for_speech_exactly_as_long_as_it_may(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await opened.synthesis.start_session("busy")
    await opened.synthesis.start_session("idle", "b")
    stage["a"].synthesize.hold()
    speaking = asyncio.create_task(opened.speak("busy"))
    await clock.settle()
    draining = asyncio.create_task(opened.synthesis.drain(5))
    await clock.advance(4.99)
    assert opened.refcount("b") == 0
    assert not speaking.done()
    with pytest.raises(ManagerClosedError, match="another worker"):
        await opened.synthesis.start_session("new")
    with pytest.raises(ManagerClosedError, match="another worker"):
        await opened.speak("busy")
    await clock.advance(0.01)
    stage.open_all()
    with pytest.raises(ManagerClosedError):
        await speaking
    await draining
    assert opened.refcount("a") == 0


async def test_a_drain_ends_as_soon_as_nothing_speaks(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    await opened.synthesis.start_session("s")
    stage["a"].synthesize.hold()
    speaking = asyncio.create_task(opened.speak("s"))
    await clock.settle()
    draining = asyncio.create_task(opened.synthesis.drain(600))
    await clock.advance(1)
    stage.open_all()
    assert await speaking == 25
    await clock.settle()
    assert draining.done()


async def test_a_cut_reaches_those_who_still_wait_for_a_model(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    voice = opened.synthesis.voices.choose("b")

    async def speak() -> None:
        async with opened.synthesis.once(voice, opened.synthesis.text(TEXT), owner="somebody"):
            pytest.fail("it was cut off before there was a model")

    speaking = asyncio.create_task(speak())
    await clock.settle()
    opened.synthesis.cut()
    await clock.settle()
    with pytest.raises(ManagerClosedError):
        await speaking
    stage.open_all()


async def test_a_place_is_booked_before_the_model_is_there(
    opened: OpenSynthesis, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["b"].load.hold()
    voice = opened.synthesis.voices.choose("b")

    async def speak() -> None:
        async with opened.synthesis.once(
            voice, opened.synthesis.text(TEXT), owner="somebody"
        ) as speech:
            async for _ in speech:
                pass

    speaking = [asyncio.create_task(speak()) for _ in range(2)]
    await clock.settle()
    with pytest.raises(WorkerBusyError):
        await speak()
    stage.open_all()
    await asyncio.gather(*speaking)
    await speak()
    assert repr(opened.synthesis) == "<Synthesis open, 0 sessions, 0 streams>"
