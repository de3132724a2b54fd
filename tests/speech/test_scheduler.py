"""Who computes next, who may be heard, who may begin: by tables, properties and simulation."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.speech.demand import Debt, Demand
from greenroom.speech.scheduler import TARGET_S, USABLE, Scheduler, StreamState
from tests.speech.simulation import KnownCost, Speech, Step, cost_of, simulate

CHEAP = KnownCost(rate=0.05, step_s=0.03, first_s=0.05)
LONG = KnownCost(rate=0.3, step_s=2.0, first_s=2.0)


def heard(due: float, cost: KnownCost = CHEAP, **state: Any) -> StreamState:
    return StreamState(cost, 0.0, heard=True, due=due, begins=False, **state)


def unheard(arrived: float, cost: KnownCost = CHEAP) -> StreamState:
    return StreamState(cost, arrived)


def chosen(streams: Sequence[StreamState], cores: int, now: float) -> int | None:
    scheduler = Scheduler()
    for stream in streams:
        scheduler.enter(stream)
    found = scheduler.next([s for s in streams if s.running_since is None], cores, now)
    return None if found is None else streams.index(found)


# Who is next


def test_nobody_is_next_of_none() -> None:
    assert chosen([], 2, 0.0) is None


def test_next_is_the_one_whose_listener_would_fall_silent_first() -> None:
    assert chosen([heard(9.0), heard(5.0), heard(7.0)], 2, 4.0) == 1


def test_a_step_that_takes_longer_is_begun_so_much_sooner() -> None:
    long = heard(5.2, KnownCost(rate=0.05, step_s=0.3, first_s=0.3))
    assert chosen([heard(5.1), long], 2, 4.0) == 1
    assert chosen([heard(4.8), long], 2, 4.0) == 0


def test_of_those_that_nobody_hears_the_first_that_came_is_first() -> None:
    assert chosen([unheard(3.0), unheard(2.0), unheard(2.5)], 2, 4.0) == 1


def test_one_that_nobody_hears_goes_before_a_listener_with_seconds_left() -> None:
    assert chosen([heard(7.0), unheard(4.0)], 2, 4.0) == 1


def test_but_not_before_one_who_falls_silent_before_its_own_target() -> None:
    assert chosen([heard(4.0 + TARGET_S / 2), unheard(4.0)], 2, 4.0) == 0


def test_and_not_while_those_who_hear_something_need_every_core() -> None:
    listeners = [heard(4.3) for _ in range(30)]
    assert chosen([*listeners, unheard(4.0)], 2, 4.0) != 30
    assert chosen([*listeners[:3], unheard(4.0)], 2, 4.0) == 3


def test_a_listener_who_has_been_silent_for_long_is_not_always_first() -> None:
    hopeless = heard(1.0, served=4.0)
    assert chosen([hopeless, heard(4.1)], 2, 4.0) == 1
    assert chosen([hopeless, heard(9.0)], 2, 4.0) == 0, "it still gets what others can spare"


def test_but_one_who_has_just_fallen_silent_is() -> None:
    assert chosen([heard(3.9), heard(4.1)], 2, 4.0) == 0


def test_those_nobody_hears_get_one_step_in_two_seconds_whoever_falls_silent() -> None:
    scheduler = Scheduler()
    streams = [unheard(0.0), *(heard(0.1 * number) for number in range(1, 40))]
    for stream in streams:
        scheduler.enter(stream)
    picked = []
    for tick in range(100):
        now = 0.1 * tick
        for stream in streams[1:]:
            stream.due = now + 0.05
        picked.append(scheduler.next(streams, 2, now) is streams[0])
    assert 4 <= sum(picked) <= 5


def test_one_that_holds_a_turn_is_as_urgent_as_those_who_wait_for_it() -> None:
    holder = heard(60.0)
    assert chosen([holder, heard(7.0)], 2, 4.0) == 1
    urged = 8.0
    holder.urged_by = lambda: urged
    assert chosen([holder, heard(7.0)], 2, 4.0) == 1
    urged = 5.0
    assert chosen([holder, heard(7.0)], 2, 4.0) == 0, "it is asked each time"


def test_long_steps_leave_a_core_to_listeners_with_short_ones() -> None:
    running = unheard(0.0, LONG)
    running.running_since = 3.9
    waiting = unheard(3.0, LONG)
    assert chosen([running, waiting, heard(60.0)], 2, 4.0) == 2
    listener = heard(60.0, running_since=3.99)
    assert chosen([running, waiting, listener], 2, 4.0) is None
    assert chosen([running, waiting, heard(60.0, running_since=3.99, resting=True)], 2, 4.0) == 1
    assert chosen([running, waiting], 2, 4.0) == 1, "where all are long no core is kept free"
    assert chosen([waiting, listener], 1, 4.0) == 0, "with one core there is none to keep"


def test_a_model_that_may_hang_gets_all_cores_but_one() -> None:
    hanging = KnownCost(rate=0.05, step_s=0.03, first_s=0.05, overdue=1)
    running, waiting = StreamState(hanging, 0.0), StreamState(hanging, 0.0)
    running.running_since = 3.9
    assert chosen([running, waiting], 2, 4.0) is None
    assert chosen([running, waiting], 3, 4.0) == 1
    assert chosen([running, waiting, unheard(3.0)], 2, 4.0) == 2
    assert chosen([waiting], 1, 4.0) == 0, "with one core it has that"


# Who may be heard


@pytest.mark.parametrize(
    ("made", "listeners", "expected"),
    [
        (0.19, 0, True),  # alone: as soon as anything is there
        (0.03, 0, False),  # less than its next step takes
        (0.19, 4, True),
        (0.19, 14, False),  # they all need a step within the time that it lasts
        (1.0, 8, True),
        (1.0, 60, False),
    ],
)
def test_audio_is_handed_over_when_it_lasts_until_more_is_made(
    made: float, listeners: int, expected: bool
) -> None:
    scheduler = Scheduler()
    for number in range(listeners):
        scheduler.enter(heard(4.2 + 0.002 * number, left_s=3.0))
    stream = unheard(3.9)
    stream.begins = False
    scheduler.enter(stream)
    assert scheduler.may_be_heard(stream, made, 2, 4.0) is expected


def test_listeners_who_are_paused_or_late_already_hold_nobody_back() -> None:
    scheduler = Scheduler()
    stream = unheard(3.9)
    for _ in range(60):
        scheduler.enter(heard(4.0, resting=True))
        scheduler.enter(heard(1.0))
    assert scheduler.may_be_heard(stream, 1.0, 2, 4.0)


def test_those_who_begin_to_be_heard_at_one_instant_know_of_each_other() -> None:
    scheduler = Scheduler()
    streams = [StreamState(CHEAP, 3.9, begins=False) for _ in range(40)]
    for stream in streams:
        scheduler.enter(stream)
    for stream in streams:
        if scheduler.may_be_heard(stream, 0.4, 2, 4.0):
            stream.heard, stream.due = True, 4.4
    assert 10 < sum(stream.heard for stream in streams) < 30


def test_what_is_owed_is_summed_up_once_for_all_who_ask_within_ten_milliseconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sums: list[int] = []

    class Counting(Demand):
        def __init__(self, debts: Mapping[Any, Debt]) -> None:
            sums.append(len(debts))
            super().__init__(debts)

    monkeypatch.setattr("greenroom.speech.scheduler.Demand", Counting)
    scheduler = Scheduler()
    streams = [heard(4.0 + 0.05 * number) for number in range(40)]
    for stream in streams:
        scheduler.enter(stream)
    for number, stream in enumerate(streams):
        scheduler.slack(2, 4.0 + number / 4500, but=stream)
    assert sums == [40]
    scheduler.slack(2, 4.02)
    scheduler.leave(streams[0])
    scheduler.slack(2, 4.02)
    assert sums == [40, 40, 39]


# Who may begin


def test_streams_begin_until_all_of_them_need_what_there_is() -> None:
    scheduler = Scheduler()
    begun = 0
    while scheduler.may_begin(unheard(0.0), 2, 0.0) and begun < 1000:
        scheduler.enter(unheard(0.0))  # with text that has no end
        begun += 1
    assert begun == math.floor(USABLE * 2 / CHEAP.rate)
    assert scheduler.used(2) == pytest.approx(1.0)


def test_more_begin_where_texts_are_short() -> None:
    scheduler = Scheduler()
    begun = 0
    while scheduler.may_begin(short := StreamState(CHEAP, 0.0, left_s=2.0), 2, 0.0):
        scheduler.enter(short)
        begun += 1
    assert 36 < begun < 100


def test_one_that_costs_more_than_there_is_may_speak_alone() -> None:
    greedy = StreamState(KnownCost(rate=5.0, step_s=10.0, first_s=10.0), 0.0)
    scheduler = Scheduler()
    assert scheduler.may_begin(greedy, 2, 0.0)
    scheduler.enter(greedy)
    assert not scheduler.may_begin(StreamState(greedy.cost, 0.0), 2, 0.0)


def test_those_that_are_late_and_can_catch_up_make_no_room_for_more() -> None:
    scheduler = Scheduler()
    for _ in range(36):  # as many as fit on two cores
        assert scheduler.may_begin(unheard(5.0), 2, 5.0)
        scheduler.enter(heard(4.0, served=4.9))
    assert not scheduler.may_begin(unheard(5.0), 2, 5.0)


def test_one_that_can_never_be_kept_up_keeps_nobody_from_beginning() -> None:
    scheduler = Scheduler()
    scheduler.enter(heard(4.0, KnownCost(rate=3.0, step_s=3.0, first_s=3.0)))
    assert scheduler.may_begin(unheard(5.0), 2, 5.0)


@pytest.mark.parametrize("rate", [0.95, 1.2, 1.5, 1.75])
def test_of_those_that_cost_more_than_a_core_no_more_begin_than_there_are_cores(
    rate: float,
) -> None:
    scheduler = Scheduler()
    slow = KnownCost(rate=rate, step_s=rate / 2, first_s=rate / 2)
    for number in range(4):
        late = heard(4.0 - number, slow)
        scheduler.enter(late)
        assert scheduler.may_begin(unheard(5.0, slow), 4, 5.0) is (number < 3)
    assert scheduler.may_begin(unheard(5.0), 4, 5.0), "who costs less may"
    late.resting = True
    assert scheduler.may_begin(unheard(5.0, slow), 4, 5.0)


def test_who_costs_less_passes_those_in_line_that_wait_for_others_that_cost_a_core() -> None:
    scheduler = Scheduler()
    slow = KnownCost(rate=1.2, step_s=0.6, first_s=0.6)
    line = [unheard(4.0, slow), unheard(4.1, slow), unheard(4.2), unheard(4.3)]
    assert scheduler.next_to_begin(line, 1, 5.0) is line[0]
    scheduler.enter(heard(4.0, slow))
    assert scheduler.next_to_begin(line, 1, 5.0) is line[2]
    assert scheduler.next_to_begin(line[:2], 1, 5.0) is None


def test_where_none_of_that_kind_speaks_the_line_is_kept() -> None:
    scheduler = Scheduler()
    for _ in range(15):
        scheduler.enter(unheard(4.0))
    slow = KnownCost(rate=1.2, step_s=0.6, first_s=0.6)
    assert scheduler.next_to_begin([unheard(4.0)], 1, 5.0) is not None
    assert scheduler.next_to_begin([unheard(4.0, slow), unheard(4.0)], 1, 5.0) is None


def test_one_that_costs_more_than_there_is_may_also_speak_while_all_others_are_paused() -> None:
    slow = KnownCost(rate=3.0, step_s=3.0, first_s=3.0)
    scheduler = Scheduler()
    paused = heard(2.0, slow, resting=True)
    scheduler.enter(paused)
    assert scheduler.may_begin(unheard(5.0, slow), 2, 5.0)
    paused.resting = False
    assert not scheduler.may_begin(unheard(1.9, slow), 2, 1.9)


def test_one_whose_text_comes_in_pieces_keeps_its_share_while_it_waits_for_text() -> None:
    scheduler = Scheduler()
    for _ in range(36):
        stream = heard(0.0)
        stream.wants_text = True
        scheduler.enter(stream)
    assert not scheduler.may_begin(unheard(60.0), 2, 60.0)


# All together, without time passing


def voice_steps(audio: float, rng: random.Random, *, scale: float = 1.0) -> list[Step]:
    """Return the steps of one sentence, as a prepared voice has them."""
    steps = [Step(0.05 * scale, 0.19, begins=True)]
    made = 0.19
    for piece in itertools.chain([0.4, 0.8], itertools.repeat(1.5)):
        if made >= audio:
            break
        piece = min(piece, audio - made)
        steps.append(Step((0.006 + 0.035 * piece) * scale * rng.uniform(0.9, 1.1), piece))
        made += piece
    return steps


def crowd(count: int, seed: int, spread: float, *, scale: float = 1.0) -> list[Speech]:
    rng = random.Random(seed)
    speeches = []
    for _ in range(count):
        sentences = [voice_steps(rng.uniform(1.0, 5.0), rng, scale=scale) for _ in range(2)]
        steps = list(itertools.chain(*sentences))
        speeches.append(Speech(rng.uniform(0.0, spread), steps, cost_of(steps)))
    return speeches


@given(st.integers(1, 80), st.integers(0, 10_000), st.floats(0.0, 10.0), st.integers(1, 4))
def test_nobody_who_is_heard_falls_silent_and_nobody_starves(
    count: int, seed: int, spread: float, cores: int
) -> None:
    speeches = crowd(count, seed, spread)
    simulate(speeches, cores=cores)
    assert [speech.clock.gaps for speech in speeches] == [0] * count
    work = sum(step.takes for speech in speeches for step in speech.steps)
    assert max(speech.ended for speech in speeches) <= spread + work / cores + 1.0


@given(st.integers(0, 1_000), st.integers(3, 12))
def test_one_that_takes_many_times_as_long_as_its_cost_says_silences_nobody_else(
    seed: int, times: int
) -> None:
    speeches = crowd(16, seed, 2.0)
    slow = speeches[0]
    slow.steps = [Step(s.takes * times, s.audio, s.begins) for s in slow.steps]
    simulate(speeches, cores=2)
    assert math.isfinite(slow.ended)
    assert [speech.clock.gaps for speech in speeches[1:]] == [0] * 15


def test_sixty_four_at_one_instant_are_all_heard_without_a_gap_the_first_at_once() -> None:
    speeches = crowd(64, 3, 0.0)
    simulate(speeches, cores=2)
    assert [speech.clock.gaps for speech in speeches] == [0] * 64
    assert min(speech.first_audio for speech in speeches) < 0.1


def test_a_burst_on_top_of_a_full_load_silences_nobody() -> None:
    speeches = [*crowd(30, 4, 3.0), *crowd(40, 5, 0.0)]
    for speech in speeches[30:]:
        speech.arrives = speech.state.arrived = 2.0
    simulate(speeches, cores=2)
    assert [speech.clock.gaps for speech in speeches] == [0] * 70


def test_one_chunk_of_a_minute_silences_nobody_else() -> None:
    speeches = crowd(12, 6, 2.0)
    for at in (0.5, 0.6):  # two of them, on two cores
        long = [Step(5.0, 60.0, begins=True)]
        speeches.append(Speech(at, long, cost_of(long)))
    simulate(speeches, cores=2)
    assert [speech.clock.gaps for speech in speeches] == [0] * 14


def test_when_a_core_is_taken_away_the_others_wait_and_those_who_hear_something_go_on() -> None:
    """Ten listeners fit on one core; of a crowd that needed both, the lateness is shared."""
    few = crowd(10, 8, 3.0)
    simulate(few, cores=2, taken_away=1.5)
    assert [speech.clock.gaps for speech in few] == [0] * 10
    many = crowd(40, 9, 6.0)
    simulate(many, cores=2, taken_away=3.0)
    assert all(math.isfinite(speech.ended) for speech in many)
    later = [speech for speech in many if speech.admitted > 3.0]
    assert [speech.clock.gaps for speech in later] == [0] * len(later)


def test_without_the_hold_and_the_order_the_same_crowd_stutters() -> None:
    """What the two are for: else this file would prove nothing."""
    ours = crowd(24, 7, 0.0)
    simulate(ours, cores=2)
    in_turn = crowd(24, 7, 0.0)
    simulate(
        in_turn,
        cores=2,
        choose=lambda _: lambda ready, cores, now: ready[0] if ready else None,
        hold=False,
        admit=False,
    )
    assert sum(speech.clock.gaps for speech in ours) == 0
    assert sum(speech.clock.gaps > 0 for speech in in_turn) > 5


Pieces = list[tuple[float, float]]
"""What each takes of a core, and the audio that it makes, in seconds."""

RECORDED: list[Pieces] = [
    [(0.5411, 0.9288), (0.0004, 0.9288), (0.0977, 1.4861), (0.0749, 1.3468)],
    [(0.1346, 1.4861), (0.0548, 0.9288), (0.0827, 1.4861), (0.0399, 0.7198)],
    [(0.2229, 1.4861), (0.0003, 1.4861), (0.0840, 1.5790)],
    [(0.1163, 1.4861), (0.0718, 1.3003), (0.0618, 1.1029), (0.0308, 0.5457)],
    [(0.1141, 1.4861), (0.0932, 1.4861), (0.0640, 1.4861), (0.0110, 0.2090)],
    [(0.1204, 1.4861), (0.0806, 1.4861), (0.0846, 1.4861), (0.0130, 0.1858)],
    [(0.4462, 1.2307), (0.0005, 1.4861), (0.0129, 0.2438)],
]
"""Sentences of three pieces and more as six listeners heard them of the voice joe, prepared, on two
cores: processor time, helping threads included. Where it is long a thread has made the next piece
as well."""


def made_up(rng: random.Random) -> tuple[float, Pieces]:
    pieces = [(rng.uniform(0.02, 0.08), rng.uniform(0.1, 0.3)) for _ in range(3)]
    return rng.uniform(0.05, 0.3), pieces


def recorded(rng: random.Random) -> tuple[float, Pieces]:
    sentence = rng.choice(RECORDED)
    first = rng.randint(0, len(sentence) - 3)
    return rng.uniform(0.05, 1.5), sentence[first : first + 3]


@pytest.mark.parametrize("jobs", [made_up, recorded])
@pytest.mark.parametrize("seed", range(40))
def test_whenever_any_order_has_no_gap_ours_has_none(
    seed: int, jobs: Callable[[random.Random], tuple[float, Pieces]]
) -> None:
    """Against every order there is, of three listeners with pieces to be made on one core."""
    rng = random.Random(seed)
    listeners = [jobs(rng) for _ in range(3)]

    def late(order: Sequence[int]) -> float:
        now, most, at = 0.0, 0.0, [0, 0, 0]
        due = [ahead for ahead, _ in listeners]
        for number in order:
            takes, audio = listeners[number][1][at[number]]
            at[number] += 1
            now += takes
            most = max(most, now - due[number])
            due[number] = max(due[number], now) + audio
        return most

    orders = set(itertools.permutations([0, 0, 0, 1, 1, 1, 2, 2, 2]))
    best = min(map(late, orders))

    scheduler = Scheduler()
    states = [
        StreamState(cost_of([Step(*piece) for piece in pieces]), 0.0, heard=True, due=ahead)
        for ahead, pieces in listeners
    ]
    for state in states:
        scheduler.enter(state)
    picked: list[int] = []
    now = 0.0
    while len(picked) < 9:
        ready = [s for number, s in enumerate(states) if picked.count(number) < 3]
        found = scheduler.next(ready, 1, now)
        assert found is not None
        number = states.index(found)
        takes, audio = listeners[number][1][picked.count(number)]
        now += takes
        found.due = max(found.due, now) + audio
        picked.append(number)
    ours = late(picked)
    # Deadlines may not be kept by any order of steps that cannot be interrupted; then ours is late
    # by one step at most more than the best.
    longest = max(takes for _, pieces in listeners for takes, _ in pieces)
    assert ours <= max(0.0, best) + longest
    if best <= -longest:
        assert ours <= 0.0
