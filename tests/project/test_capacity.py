"""Callers who play at real time: what they hear, and what is counted of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import pytest

from benchmarks import talkers
from benchmarks.capacity_probe import described, line
from benchmarks.ladder import Ladder, Step, climb
from benchmarks.playback import Gap, Piece, Played, play
from benchmarks.talkers import RefusedError, Run, Spoken


def test_audio_that_comes_in_time_is_heard_without_a_gap() -> None:
    played = play([Piece(0.3, 1.0), Piece(0.4, 1.0), Piece(2.3, 0.5)])
    assert played == Played(0.3, 2.5, ())
    assert played.end == pytest.approx(2.8)
    assert not played.stutters


def test_a_gap_lasts_from_when_all_was_heard_to_when_more_came_and_shifts_the_rest() -> None:
    played = play([Piece(1.0, 0.5), Piece(1.75, 0.5), Piece(2.25, 0.25), Piece(3.0, 0.5)])
    assert played.gaps == (Gap(0.5, 0.25), Gap(1.25, 0.5))
    assert played.late == 0.75
    assert played.end == 3.5
    assert played.stutters


def test_short_silences_are_heard_once_they_are_more_than_a_frame_together() -> None:
    one = [Piece(0.0, 0.1), Piece(0.115, 0.1)]
    assert not play(one).stutters
    assert play([*one, Piece(0.225, 0.1)]).stutters


def test_a_piece_without_audio_begins_nothing_and_a_speech_without_audio_is_an_error() -> None:
    assert play([Piece(0.1, 0.0), Piece(0.2, 1.0)]).first == 0.2
    with pytest.raises(ValueError, match="no audio"):
        play([Piece(0.1, 0.0)])


async def test_callers_play_before_they_ask_again_and_hear_their_last_speech() -> None:
    asked: list[float] = []
    began = asyncio.get_running_loop().time()

    async def say(text: str, voice: str) -> Sequence[Piece]:
        asked.append(asyncio.get_running_loop().time() - began)
        return [Piece(0.0, 0.1)]

    run = await talkers.talk(say, "Hello.", ["one"], 1, 0.25, pid=os.getpid())
    assert len(run.speeches) == len(asked) == 3
    assert asked[1] - asked[0] >= 0.099


def test_callers_come_at_one_instant_or_at_random_and_every_time_alike() -> None:
    assert talkers.arrivals(3, 0.0) == [0.0, 0.0, 0.0]
    spread = talkers.arrivals(100, 5.0)
    assert spread == talkers.arrivals(100, 5.0)
    assert min(spread) == 0.0
    assert 4.0 < max(spread) <= 5.0
    assert 20 < sum(each < 2.0 for each in spread) < 60


async def test_callers_are_spread_over_the_voices() -> None:
    async def say(text: str, voice: str) -> Sequence[Piece]:
        return [Piece(0.0, 9.0)]

    run = await talkers.talk(say, "Hello.", ["one", "two"], 3, 0.02, pid=os.getpid())
    voices = {spoken.caller: spoken.voice for spoken in run.speeches}
    assert voices == {0: "one", 1: "two", 2: "one"}


async def test_a_refused_caller_asks_again_and_its_wait_counts_until_the_first_audio() -> None:
    refusals = [RefusedError("503 busy", 0.05)]

    async def say(text: str, voice: str) -> Sequence[Piece]:
        if refusals:
            raise refusals.pop()
        return [Piece(0.01, 1.0)]

    run = await talkers.talk(say, "Hello.", ["one"], 1, 0.2, pid=os.getpid())
    assert run.refusals == {"503 busy": 1}
    assert run.speeches[0].played.first >= 0.06


async def test_a_caller_that_is_always_refused_gives_up_at_the_end() -> None:
    async def say(text: str, voice: str) -> Sequence[Piece]:
        raise RefusedError("503 busy", 0.04)

    run = await talkers.talk(say, "Hello.", ["one"], 2, 0.1, pid=os.getpid())
    assert run.refusals.total() > 2
    assert not run.speeches
    assert not run.errors


async def test_a_speech_that_fails_is_counted_by_its_words_and_ends_its_caller() -> None:
    async def say(text: str, voice: str) -> Sequence[Piece]:
        raise ConnectionError("the answer was cut off")

    run = await talkers.work(say, "Hello.", ["one"], 2, 10, pid=os.getpid())
    assert run.errors == {"the answer was cut off": 2}


def run_of(*speeches: Sequence[Piece], callers: int = 2) -> Run:
    """Return a run in which these were asked for at its begin."""
    spoken = [
        Spoken(number, "one", 0.0, tuple(pieces), play(pieces))
        for number, pieces in enumerate(speeches)
    ]
    return Run(callers, spoken, seconds=2.0, processor=1.0, all_there=(1.0, 3.0))


def test_the_rate_is_what_is_heard_and_what_is_delivered_what_came_meanwhile() -> None:
    run = run_of([Piece(0.5, 1.0), Piece(1.2, 3.0)])
    assert run.rate == 1.0
    assert run.delivered == 1.5
    run.all_there = None
    assert run.rate == 2.0


def test_a_step_is_held_only_if_all_are_served_soon_and_unbroken() -> None:
    whole, broken = [Piece(0.1, 1.0)], [Piece(0.1, 1.0), Piece(2.0, 1.0)]
    assert Step.of(run_of(*[whole] * 100)).held(0.1)
    assert Step.of(run_of(*[whole] * 99, broken)).held(0.1)
    assert not Step.of(run_of(*[whole] * 98, broken, broken)).held(0.1)
    assert not Step.of(run_of(whole)).held(0.09)
    assert not Step.of(run_of()).held(9.0)
    failed = run_of(whole)
    failed.errors["cut off"] += 1
    assert not Step.of(failed).held(0.1)


async def test_a_ladder_ends_where_it_is_hopeless_and_holds_what_all_below_hold() -> None:
    async def talk(callers: int) -> Run:
        return run_of([Piece(callers / 10, 1.0)], callers=callers)

    ladder = await climb("one", talk, (1, 2, 4, 8), hopeless_s=0.3)
    assert [step.callers for step in ladder.steps] == [1, 2, 4]
    assert ladder.held(0.2) == 2
    assert ladder.held(0.05) == 0
    late_first = Ladder("two", (ladder.steps[2], ladder.steps[0]))
    assert late_first.held(0.2) == 0


def test_a_line_and_a_speech_tell_of_gaps() -> None:
    run = run_of([Piece(0.1, 1.0), Piece(1.35, 1.0)])
    assert line(run).split()[:4] == ["2", "1", "1", "0.25"]
    assert "silent 250 ms at 1.00 s" in described(run.speeches[0])
