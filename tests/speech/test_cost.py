"""What a model's speech costs, learned step by step."""

from __future__ import annotations

import math

import pytest

from greenroom.speech.cost import SpeechCost, StepTaken
from greenroom.speech.pace import Pace, current_pace, paced


def step(seconds: float, audio_s: float = 1.0, **says: object) -> StepTaken:
    values: dict[str, object] = {
        "processor_s": seconds,
        "helped_s": 0.0,
        "first": False,
        "paced": False,
    }
    return StepTaken(seconds, audio_s=audio_s, **{**values, **says})  # type: ignore[arg-type]


def learned(*steps: StepTaken) -> SpeechCost:
    cost = SpeechCost()
    for each in steps:
        cost.learn_step(each)
    return cost


def test_the_first_step_overrules_what_was_assumed() -> None:
    cost = learned(step(0.4, first=True), step(0.1))
    assert (cost.first_s, cost.step_s) == (0.4, 0.1)


def test_the_warmup_says_what_to_expect_of_the_first_steps_and_is_soon_overruled() -> None:
    cost = SpeechCost(0.3, 0.6)
    assert cost.rate == pytest.approx(0.5)
    assert cost.first_s == pytest.approx(0.3)
    assert SpeechCost(0.0, 0.6).rate == SpeechCost(0.3, 0.0).rate == SpeechCost().rate
    for _ in range(30):
        cost.learn_step(step(0.05))
    assert cost.rate < 0.08


def test_the_rate_is_that_of_what_was_spoken_last_helping_threads_included() -> None:
    cost = learned(*(step(0.1) for _ in range(100)))
    assert cost.rate == pytest.approx(0.1, rel=0.01)
    cost = learned(*(step(0.1, helped_s=0.1) for _ in range(100)))
    assert cost.rate == pytest.approx(0.2, rel=0.01)


def test_a_machine_that_becomes_slower_is_followed_and_one_that_recovers_too() -> None:
    cost = learned(*(step(0.05) for _ in range(60)))
    for _ in range(30):
        cost.learn_step(step(0.5))
    assert 0.4 < cost.rate < 0.5
    assert 0.4 < cost.step_s <= 0.5
    for _ in range(60):
        cost.learn_step(step(0.05))
    assert cost.rate < 0.06
    assert cost.step_s < 0.06


def test_one_slow_step_does_not_turn_everything_over() -> None:
    cost = learned(*(step(0.05) for _ in range(20)), step(50.0))
    assert cost.step_s < 0.1
    assert cost.rate < 3.0


@pytest.mark.parametrize("first", [True, False])
def test_a_first_step_that_hung_is_held_against_the_warmup(first: bool) -> None:
    cost = SpeechCost(0.3, 0.6)
    cost.learn_step(step(30.0, first=first))
    assert max(cost.first_s, cost.step_s) <= 2.0
    assert cost.rate < 1.3
    for _ in range(20):
        cost.learn_step(step(0.1, first=first))
    assert max(cost.first_s, cost.step_s) < 0.5
    assert cost.rate < 0.4


def test_a_first_step_that_makes_much_audio_may_take_long() -> None:
    cost = SpeechCost(0.3, 0.6)
    cost.learn_step(step(8.0, 20.0, first=True))
    assert cost.first_s == 8.0


def test_what_is_learned_while_cores_idle_is_taken_to_cost_more_when_all_compute() -> None:
    idle, busy = (learned(*(step(0.1, full=full) for _ in range(100))) for full in (False, True))
    assert busy.rate == pytest.approx(0.1, rel=0.01)
    assert 1.2 < idle.rate / busy.rate < 1.3
    for _ in range(60):
        idle.learn_step(step(0.12, full=True))
    assert idle.rate == pytest.approx(0.12, rel=0.05), "then it is known"


def test_first_steps_that_vary_are_expected_to_take_what_few_exceed() -> None:
    cost = learned(*(step(0.1 + 0.05 * (number % 2), first=True) for number in range(60)))
    assert 0.15 < cost.first_s < 0.2
    assert learned(*(step(0.1, first=True) for _ in range(9))).first_s == pytest.approx(0.1)


def test_a_crowds_shortest_steps_are_long_and_a_lone_listeners_soon_short_again() -> None:
    crowd = learned(*(step(0.12, 1.5, paced=True, ahead_s=0.1) for _ in range(20)))
    assert crowd.step_within(0.1) == pytest.approx(0.12)
    crowd.learn_step(step(0.01, 0.1, paced=True, ahead_s=1.5, last=True))
    assert crowd.step_within(0.1) == pytest.approx(0.12), "the rest of a sentence says nothing"
    for _ in range(6):
        crowd.learn_step(step(0.012, 0.2, paced=True, ahead_s=0.2))
    assert crowd.step_within(0.0) < 0.05


def test_an_engine_that_asks_for_its_pace_is_expected_to_keep_to_it() -> None:
    fixed = learned(*(step(0.1) for _ in range(20)))
    assert fixed.step_within(0.02) == pytest.approx(0.1)
    adapting = learned(step(0.01, 0.2, paced=True), *(step(0.1, paced=True) for _ in range(20)))
    assert adapting.step_within(0.1) == pytest.approx(0.05)
    assert adapting.step_within(0.0) == pytest.approx(0.01), "short ones take that"
    assert adapting.step_within(9.0) == adapting.step_s, "none takes longer"


def test_steps_that_wait_for_something_elsewhere_do_not_compute() -> None:
    assert learned(step(0.1)).computes
    assert not learned(*(step(0.1, processor_s=0.001) for _ in range(20))).computes
    for short in (0.0001, 0.015):  # the longer one may have waited for the interpreter's lock
        assert learned(*(step(short, processor_s=0.0) for _ in range(20))).computes


def test_audio_for_a_character_is_learned_from_whole_sentences() -> None:
    cost = SpeechCost()
    cost.learn_sentence(3.0, 30)
    assert cost.audio_per_character == pytest.approx(0.1)
    cost.learn_sentence(0.0, 30)
    cost.learn_sentence(1.0, 0)
    assert cost.audio_per_character == pytest.approx(0.1)


def test_the_pace_is_that_of_the_innermost_block_and_it_is_known_who_asked() -> None:
    assert current_pace() == Pace()
    with paced(Pace(1.0), still) as outer:
        with paced(Pace(2.0), still) as inner:
            assert current_pace().ahead_s == 2.0
        assert inner.has_asked
        assert not outer.has_asked
        assert current_pace().ahead_s == 1.0
        assert outer.has_asked
    assert current_pace() == Pace()


def still() -> float:
    """Return the time of a clock that stands."""
    return 7.0


def test_what_an_engine_did_first_took_of_its_listeners_time_and_of_the_others() -> None:
    now = 5.0
    with paced(Pace(1.0, spare_s=0.5), lambda: now):
        now = 5.25
        assert (current_pace().ahead_s, current_pace().spare_s) == (0.75, 0.25)
        now = 6.5
        assert (current_pace().ahead_s, current_pace().spare_s) == (0.0, 0.0)
    with paced(Pace(), lambda: now):
        now = 9.0
        assert (current_pace().ahead_s, current_pace().spare_s) == (None, math.inf)
