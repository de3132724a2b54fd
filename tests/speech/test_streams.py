"""Streams: one caller's frames, counted, stoppable, and never somebody else's business."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import numpy as np
import pytest

from greenroom import (
    InvalidInputError,
    ModelInUseError,
    ModelManager,
    ModelNotResidentError,
    SynthesisError,
)
from greenroom.speech.sentence import SILENCE_S
from greenroom.testing import Stage, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time

TWO = "One sentence here. Another one there."


@pytest.fixture
async def manager(stage: Stage) -> AsyncIterator[ModelManager]:
    made = ModelManager(
        catalog=stage.catalog,
        default_model_id="a",
        min_residency_ms=0,
        load_timeout_ms=5_000,
        synthesis_timeout_ms=5_000,
    )
    await made.initialize()
    yield made
    stage.open_all()
    await made.shutdown(drain_timeout_ms=0)


def streams(manager: ModelManager, model_id: str = "a") -> int:
    return next(r.streams for r in manager.list_resident() if r.model_id == model_id)


async def test_frames_are_twenty_milliseconds_at_48_khz_unless_asked_otherwise(
    manager: ModelManager,
) -> None:
    adapter = await manager.load("a")
    frames = [frame async for frame in adapter.synthesize_stream(TWO)]
    assert {(f.sample_rate, f.samples, len(f.pcm)) for f in frames} == {(48_000, 960, 1920)}
    assert len(frames) == 50
    frames = [frame async for frame in adapter.synthesize_stream(TWO, sample_rate=24_000)]
    assert {(f.sample_rate, f.samples) for f in frames} == {(24_000, 480)}


async def test_the_options_of_the_model_are_overridden_by_the_callers(stage: Stage) -> None:
    stage = Stage("a", options={"speed": 1.5, "volume": 0.5})
    async with ModelManager(catalog=stage.catalog, default_model_id="a") as manager:
        async with manager.lease("a") as lease:
            async for _ in lease.synthesize_stream("Hi.", speed=2.0):
                pass
        assert stage["a"].options == [{"speed": 2.0, "volume": 0.5}]


async def test_each_sentence_is_spoken_as_soon_as_it_is_whole(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    more = asyncio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "First sen"
        yield "tence. Sec"
        await more.wait()
        yield "ond one. "

    adapter = await manager.load("a")
    stream = adapter.synthesize_stream(pieces())
    await stream.__anext__()
    await clock.settle()
    assert stage["a"].said == ["First sentence."]
    more.set()
    async for _ in stream:
        pass
    assert stage["a"].said == ["First sentence.", "Second one."]


async def test_a_running_stream_keeps_its_model_after_the_caller_released(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("b")
    stream = adapter.synthesize_stream(TWO)
    await manager.release("b")
    assert streams(manager, "b") == 1
    with pytest.raises(ModelInUseError, match="speaking"):
        await manager.unload("b")
    await clock.advance(1_000)
    assert len([frame async for frame in stream]) == 50
    await clock.settle()
    assert streams(manager, "b") == 0
    await clock.advance(600)
    assert [r.model_id for r in manager.list_resident()] == ["a"]


async def test_a_model_that_has_left_starts_no_stream(manager: ModelManager) -> None:
    adapter = await manager.load("b")
    await manager.release("b")
    await manager.unload("b")
    with pytest.raises(ModelNotResidentError, match="'b'"):
        adapter.synthesize_stream(TWO)


async def test_pause_holds_frames_back_and_resume_loses_none(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("a")
    whole = [frame.pcm async for frame in adapter.synthesize_stream(TWO)]
    stream = adapter.synthesize_stream(TWO)
    heard = [(await stream.__anext__()).pcm]
    stream.pause()
    waiting = asyncio.create_task(stream.__anext__())
    await clock.advance(1)
    assert not waiting.done()
    stream.resume()
    heard.append((await waiting).pcm)
    heard += [frame.pcm async for frame in stream]
    assert heard == whole


async def test_frames_that_are_there_can_be_taken_at_once_in_order_but_not_while_paused(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("a")
    whole = [frame async for frame in adapter.synthesize_stream(TWO)]
    stream = adapter.synthesize_stream(TWO)
    assert stream.take_ready() == []
    taken = [await anext(stream)]
    await clock.settle()
    stream.pause()
    assert stream.take_ready() == []
    stream.resume()
    taken += stream.take_ready()
    assert stream.take_ready() == []
    taken += [frame async for frame in stream]
    assert taken == whole
    assert stream.take_ready() == []


async def test_taking_what_is_there_makes_room_for_more(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["a"].chunks = 100
    adapter = await manager.load("a")
    stream = adapter.synthesize_stream("One sentence.")
    taken = [await anext(stream)]
    for _ in range(20):
        await clock.settle()
        taken += stream.take_ready()
    assert len(taken) == 500


async def test_synthesis_rests_while_enough_frames_wait(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    stage["a"].chunks = 100
    adapter = await manager.load("a")
    stream = adapter.synthesize_stream("One. Two. Three. Four.")
    await stream.__anext__()
    stream.pause()
    await clock.advance(1)
    assert 100 <= len(stream._speaker._frames) <= 106
    stream.stop()


async def test_stop_of_one_stream_touches_no_other_and_no_later_one(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("a")
    first, second = adapter.synthesize_stream(TWO), adapter.synthesize_stream(TWO)
    await first.__anext__()
    await second.__anext__()
    first.stop()
    with pytest.raises(StopAsyncIteration):
        await first.__anext__()
    assert len([frame async for frame in second]) == 49
    assert len([frame async for frame in adapter.synthesize_stream(TWO)]) == 50
    await clock.settle()
    assert streams(manager) == 0


async def test_stop_takes_effect_at_once_though_the_engine_is_inside_a_chunk(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("a")
    stage["a"].synthesize.hold()
    stream = adapter.synthesize_stream(TWO)
    waiting = asyncio.create_task(stream.__anext__())
    await clock.settle()
    stream.stop()
    await clock.settle()
    assert isinstance(waiting.exception(), StopAsyncIteration)
    assert streams(manager) == 1
    stage["a"].synthesize.open()
    await clock.settle()
    assert streams(manager) == 0
    assert stage["a"].said == ["One sentence here."]


async def test_aclose_returns_when_no_thread_is_inside_the_model(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("a")
    stage["a"].synthesize.hold()
    async with adapter.synthesize_stream(TWO) as stream:
        waiting = asyncio.create_task(stream.__anext__())
        await clock.settle()
        closing = asyncio.create_task(stream.aclose())
        await clock.settle()
        assert not closing.done()
        stage["a"].synthesize.open()
        await closing
        assert streams(manager) == 0
        assert isinstance(waiting.exception(), StopAsyncIteration)


async def test_cancelling_the_consumer_stops_synthesis_at_the_next_chunk(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("a")
    stage["a"].synthesize.hold()

    async def consume() -> None:
        async for _ in adapter.synthesize_stream(TWO):
            pass

    consumer = asyncio.create_task(consume())
    await clock.settle()
    consumer.cancel()
    await clock.settle()
    assert consumer.cancelled()
    stage["a"].synthesize.open()
    await clock.settle()
    assert streams(manager) == 0
    assert stage["a"].said == ["One sentence here."]


@pytest.mark.parametrize("started", [True, False])
async def test_a_stream_that_is_dropped_frees_its_model(
    manager: ModelManager, clock: VirtualTimeLoop, started: bool
) -> None:
    adapter = await manager.load("a")
    stream = adapter.synthesize_stream(TWO)
    if started:
        await stream.__anext__()
    assert streams(manager) == 1
    del stream
    await clock.settle()
    assert streams(manager) == 0


async def test_leaving_the_loop_early_frees_the_model(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("a")
    async for _ in adapter.synthesize_stream(TWO):
        break
    await clock.settle()
    assert streams(manager) == 0


async def test_an_unloaded_model_is_kept_alive_by_no_stream_error_or_thread(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    gc.disable()
    try:
        adapter = await manager.load("b")
        async for _ in adapter.synthesize_stream(TWO):
            pass
        stopped = adapter.synthesize_stream(TWO)
        await stopped.__anext__()
        stopped.stop()
        stage["b"].synthesize.error = RuntimeError
        with pytest.raises(SynthesisError):
            await adapter.synthesize_stream(TWO).__anext__()
        del adapter, stopped
        await manager.release("b")
        await manager.unload("b", drain=True)
        assert {living.spec.model_id for living in stage.living} == {"a"}
    finally:
        gc.enable()


async def test_an_engine_that_raises_ends_only_its_stream_after_what_was_made(
    manager: ModelManager, stage: Stage
) -> None:
    adapter = await manager.load("a")
    stage["a"].synthesize.error = RuntimeError("no phonemes")
    with pytest.raises(SynthesisError, match="RuntimeError: no phonemes") as raised:
        await adapter.synthesize_stream(TWO).__anext__()
    assert isinstance(raised.value.__cause__, RuntimeError)
    stage["a"].synthesize.error = None
    assert len([frame async for frame in adapter.synthesize_stream(TWO)]) == 50
    assert streams(manager) == 0


async def test_an_engine_that_hangs_fails_its_stream_and_is_in_use_until_it_ends(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("a")
    stage["a"].synthesize.hold()
    stream = adapter.synthesize_stream(TWO)
    waiting = asyncio.create_task(stream.__anext__())
    await clock.advance(5.1)
    with pytest.raises(SynthesisError, match="no audio within 5 s"):
        await waiting
    await clock.advance(100)
    assert streams(manager) == 1
    stage["a"].synthesize.open()
    await clock.settle()
    assert streams(manager) == 0


async def test_hanging_engines_do_not_exhaust_the_threads(
    manager: ModelManager, stage: Stage, clock: VirtualTimeLoop
) -> None:
    adapter = await manager.load("a")
    other = await manager.load("b")
    stage["a"].synthesize.hold()
    hanging = [adapter.synthesize_stream(TWO) for _ in range(12)]
    tasks = [asyncio.create_task(stream.__anext__()) for stream in hanging]
    await clock.advance(5.1)
    assert len([frame async for frame in other.synthesize_stream(TWO)]) == 50
    await clock.advance(20)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {SynthesisError}


async def test_an_engine_for_one_thread_is_entered_by_one_at_a_time(
    clock: VirtualTimeLoop,
) -> None:
    stage = Stage("a", concurrency=1)
    async with ModelManager(catalog=stage.catalog, default_model_id="a") as manager:
        adapter = await manager.load("a")
        stage["a"].synthesize.hold()
        speaking = [adapter.synthesize_stream(TWO) for _ in range(3)]
        tasks = [asyncio.create_task(stream.__anext__()) for stream in speaking]
        await clock.settle()
        assert stage["a"].synthesize.waiting == 1
        stage["a"].synthesize.open()
        assert len(await asyncio.gather(*tasks)) == 3
        for stream in speaking:
            await stream.aclose()
        await manager.release("a")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"spoken_rate": 8_000}, "8000 Hz, but the model speaks at 16000 Hz"),
        ({"amplitude": float("nan")}, "not numbers"),
        ({"chunks": 0}, "no audio"),
    ],
)
async def test_audio_that_is_none_is_a_synthesis_error(
    manager: ModelManager, stage: Stage, fault: dict[str, float], message: str
) -> None:
    adapter = await manager.load("a")
    for key, value in fault.items():
        setattr(stage["a"], key, value)
    with pytest.raises(SynthesisError, match=message):
        async for _ in adapter.synthesize_stream(TWO):
            pass


async def test_silence_in_a_text_is_not_an_error(manager: ModelManager, stage: Stage) -> None:
    adapter = await manager.load("a")
    stage["a"].amplitude = 0.0
    frames = [frame async for frame in adapter.synthesize_stream("Hush.")]
    assert not np.frombuffer(b"".join(f.pcm for f in frames), "<i2").any()


@pytest.mark.parametrize(
    "text", ["...", ".", "!?", "\u2014 \u201c\u201d", "(. . .)", "😀", "👍🏽 ❤️", "👨‍👩‍👧!"]
)
async def test_text_in_which_there_is_nothing_to_say_is_a_short_silence(
    manager: ModelManager, stage: Stage, text: str
) -> None:
    adapter = await manager.load("a")
    before = stage["a"].calls["synthesize"]
    frames = [frame async for frame in adapter.synthesize_stream(text)]
    assert len(frames) * 0.02 == pytest.approx(SILENCE_S, abs=0.021)
    assert not np.frombuffer(b"".join(f.pcm for f in frames), "<i2").any()
    assert stage["a"].calls["synthesize"] == before


async def test_what_has_nothing_to_say_is_silent_between_what_has(
    manager: ModelManager, stage: Stage
) -> None:
    adapter = await manager.load("a")
    before = stage["a"].calls["synthesize"]
    async for _ in adapter.synthesize_stream("Well.\n\n!?\n\nGone."):
        pass
    assert stage["a"].calls["synthesize"] == before + 2


async def test_an_engine_may_have_no_name_for_a_sign_but_not_for_a_word(
    manager: ModelManager, stage: Stage
) -> None:
    adapter = await manager.load("a")
    stage["a"].chunks = 0
    frames = [frame async for frame in adapter.synthesize_stream("% | &")]
    assert frames
    assert not np.frombuffer(b"".join(f.pcm for f in frames), "<i2").any()
    with pytest.raises(SynthesisError, match="no audio"):
        async for _ in adapter.synthesize_stream("% 1"):
            pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("x" * 1_000_000, "1000000 characters"),
        ("bell \x07", r"U\+0007 at position 5"),
        ("half \ud800", r"U\+D800"),
        (b"bytes", "async"),
        (7, "async"),
    ],
)
async def test_text_that_cannot_be_spoken_is_refused_before_anything_starts(
    manager: ModelManager, stage: Stage, text: str, message: str
) -> None:
    adapter = await manager.load("a")
    with pytest.raises(InvalidInputError, match=message):
        adapter.synthesize_stream(text)
    assert streams(manager) == 0
    assert stage["a"].said == []


@pytest.mark.parametrize("rate", [0, -1, 7_999, 48_001, 400_000, 24_000.0, True, "48000"])
async def test_a_rate_that_cannot_be_framed_is_refused_before_anything_starts(
    manager: ModelManager, rate: int
) -> None:
    adapter = await manager.load("a")
    with pytest.raises(InvalidInputError, match="sample_rate"):
        adapter.synthesize_stream("Hello.", sample_rate=rate)
    assert streams(manager) == 0


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([], "empty"),
        (["", "  "], "empty"),
        (["fine. ", "bell \x07"], r"U\+0007"),
        (["x" * 15_000, "y" * 15_000], "add up to more than 20000"),
        ([3], "must be a string"),
    ],
)
async def test_pieces_that_cannot_be_spoken_end_the_stream_with_an_error(
    manager: ModelManager, pieces: list[str], message: str
) -> None:
    async def text() -> AsyncIterator[str]:
        for piece in pieces:
            yield piece

    adapter = await manager.load("a")
    with pytest.raises(InvalidInputError, match=message):
        async for _ in adapter.synthesize_stream(text()):
            pass
    assert streams(manager) == 0


async def test_a_source_of_text_that_raises_ends_the_stream_and_is_closed(
    manager: ModelManager,
) -> None:
    closed = []

    async def text() -> AsyncIterator[str]:
        try:
            yield "Fine so far. And"
            raise ConnectionError("the language model is gone")
        finally:
            closed.append(True)

    adapter = await manager.load("a")
    with pytest.raises(SynthesisError, match="the language model is gone"):
        async for _ in adapter.synthesize_stream(text()):
            pass
    assert closed == [True]


async def test_stopping_closes_the_source_of_text(
    manager: ModelManager, clock: VirtualTimeLoop
) -> None:
    closed = []

    async def text() -> AsyncIterator[str]:
        try:
            yield "Fine so far. And"
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    adapter = await manager.load("a")
    stream = adapter.synthesize_stream(text())
    await stream.__anext__()
    stream.stop()
    await clock.settle()
    assert closed == [True]
    assert streams(manager) == 0


async def test_an_adapter_without_a_manager_speaks_all_the_same(stage: Stage) -> None:
    (spec, *_) = stage.catalog
    adapter = stage.adapter(spec)
    adapter.load()
    list(adapter.synthesize("warm", {}))
    assert len([frame async for frame in adapter.synthesize_stream(TWO)]) == 50
    async for _ in adapter.synthesize_stream(TWO):
        break
