"""Where a request goes, by what the replicas say they have."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.cluster.rank import rank
from greenroom.cluster.reports import Reports
from greenroom.ledger.state import State
from greenroom.worker.report import ReportedModel, WorkerReport
from tests.cluster.replicas import known, loading, ready, report

NAMES = tuple("abcdefgh")


def test_a_request_goes_where_its_voice_is() -> None:
    reports = known(a=report(), b=report(ready("joe")), c=report())
    assert rank(reports, "joe", 0.0)[0] == "b"


def test_it_goes_where_the_voice_is_on_its_way_rather_than_loading_it_again() -> None:
    reports = known(a=report(), b=report(loading("joe", 0.4)))
    assert rank(reports, "joe", 0.0)[0] == "b"


def test_a_voice_in_memory_goes_before_one_on_its_way() -> None:
    reports = known(a=report(loading("joe", 2.0)), b=report(ready("joe")))
    assert rank(reports, "joe", 0.0)[:2] == ("b", "a")


def test_a_load_that_was_reported_goes_on_meanwhile() -> None:
    reports = known(a=report(loading("joe", 2.0)), b=report(ready("joe"), waiting=1, streams=4))
    assert rank(reports, "joe", 0.0)[0] == "b"
    assert rank(reports, "joe", 2.0)[0] == "a"


def test_a_model_that_leaves_is_no_home() -> None:
    leaving = ReportedModel("joe", State.DRAINING, references=1)
    reports = known(a=report(leaving, places=1, room_in_s=5.0), b=report())
    assert rank(reports, "joe", 0.0)[0] == "b"


def test_a_new_voice_goes_where_there_is_a_free_place() -> None:
    full = report(ready("x", 60.0), ready("y", 60.0), ready("z", 60.0))
    reports = known(a=full, b=full, c=report(), d=full)
    assert rank(reports, "joe", 0.0)[0] == "c"


def test_without_one_it_goes_where_the_model_used_longest_ago_would_leave() -> None:
    def full(longest: float) -> WorkerReport:
        return report(ready("x", longest), ready("y", 0.5), ready("z", 0.5))

    reports = known(a=full(1.0), b=full(90.0), c=full(10.0))
    assert rank(reports, "joe", 0.0) == ("b", "c", "a")


def test_it_does_not_go_where_nobody_may_leave_while_there_is_room_elsewhere() -> None:
    held = report(ready("x"), ready("y"), ready("z"), room_in_s=None)
    reports = known(a=held, b=report(ready("x", 1.0), ready("y"), ready("z"), capacity_used=0.4))
    assert rank(reports, "joe", 0.0)[0] == "b"


def test_it_does_not_go_where_the_memory_for_it_is_taken() -> None:
    seen = report(ready("joe", footprint=500), ready=False)
    reports = known(a=report(free_bytes=100), b=report(free_bytes=900, streams=1), c=seen)
    assert rank(reports, "joe", 0.0)[0] == "b"


def test_routers_that_know_nothing_of_each_other_choose_alike() -> None:
    one = known(**{name: report() for name in NAMES})
    other = known(**{name: report() for name in reversed(NAMES)})
    voices = [f"voice-{n}" for n in range(200)]
    first = [rank(one, voice, 0.0)[0] for voice in voices]
    assert first == [rank(other, voice, 0.0)[0] for voice in voices]
    assert min(Counter(first)[name] for name in NAMES) >= 10, "voices are spread"


def test_a_replica_that_joins_takes_only_its_share_of_the_voices() -> None:
    voices = [f"voice-{n}" for n in range(200)]
    few = known(**{name: report() for name in NAMES})
    more = known(**{name: report() for name in (*NAMES, "i")})
    moved = [v for v in voices if rank(few, v, 0.0)[0] != rank(more, v, 0.0)[0]]
    assert {rank(more, voice, 0.0)[0] for voice in moved} == {"i"}
    assert len(moved) < 60


def test_a_few_callers_of_one_voice_stay_together() -> None:
    reports = known(a=report(ready("joe")), b=report(), c=report())
    for _ in range(5):
        assert rank(reports, "joe", 0.0)[0] == "a"
        reports.picked("a", "joe", 0.0)


def test_when_every_home_is_busy_there_is_one_more_copy_and_only_one() -> None:
    reports = known(**{name: report() for name in NAMES})
    chosen: list[str] = []
    for _ in range(60):
        best = rank(reports, "joe", 0.0)[0]
        reports.picked(best, "joe", 0.0)
        chosen.append(best)
    homes = list(dict.fromkeys(chosen))
    assert 2 <= len(homes) < len(NAMES)
    for home in homes[1:]:
        before = Counter(chosen[: chosen.index(home)])
        assert min(before[each] for each in homes[: homes.index(home)]) >= 9, "all were busy"


def test_a_voice_is_in_no_more_replicas_than_it_may_be() -> None:
    reports = Reports(max_copies=2)
    for name in NAMES:
        reports.update(name, report(), 0.0)
    for _ in range(100):
        reports.picked(rank(reports, "joe", 0.0)[0], "joe", 0.0)
    assert len(reports.homes["joe"]) == 2


def test_a_copy_is_worth_no_wait_for_room() -> None:
    busy = report(ready("joe"), in_flight=40, streams=40, capacity_used=2.0)
    reports = known(a=busy, b=report(ready("x"), ready("y"), ready("z"), room_in_s=5.0))
    assert rank(reports, "joe", 0.0)[0] == "a"


def test_what_chance_brings_to_one_replica_makes_no_copy() -> None:
    # Of 11 speeches on 4 replicas, 5 at one are no more than happens by itself.
    some = report(ready("joe"), in_flight=5, streams=5, capacity_used=1.0)
    reports = known(a=some, b=report(in_flight=2), c=report(in_flight=2), d=report(in_flight=2))
    assert rank(reports, "joe", 0.0)[0] == "a"
    many = report(ready("joe"), in_flight=9, streams=9, capacity_used=1.0, sequence=2)
    reports.update("a", many, 0.0)
    assert rank(reports, "joe", 0.0)[0] != "a"


def test_a_replica_that_takes_no_more_is_passed_over_until_none_does() -> None:
    reports = Reports(most_in_flight=2)
    for name in "ab":
        reports.update(name, report(ready("joe")) if name == "a" else report(), 0.0)
    chosen = []
    for _ in range(4):
        chosen.append(rank(reports, "joe", 0.0)[0])
        reports.picked(chosen[-1], "joe", 0.0)
    assert chosen == ["a", "a", "b", "b"]
    assert set(rank(reports, "joe", 0.0)) == {"a", "b"}, "one of them refuses in its own words"


def test_own_picks_count_until_the_next_report() -> None:
    reports = known(a=report(), b=report())
    home = rank(reports, "joe", 0.0)[0]
    reports.picked(home, "joe", 0.0)
    assert rank(reports, "joe", 0.1)[0] == home, "it is on its way there"
    reports.update(home, report(sequence=2), 0.5)
    assert rank(reports, "joe", 0.5)[0] == home, "it may not have arrived yet"
    reports.update(home, report(sequence=3), 2.5)
    assert "joe" not in reports.homes, "the worker did not load it"


def test_a_pick_that_the_report_shows_is_counted_once() -> None:
    reports = known(a=report(), b=report())
    reports.picked("a", "joe", 0.0)
    reports.update("a", report(loading("joe", 0.4), in_flight=1, sequence=2), 0.5)
    assert float(reports.flight.sum()) == 1


def test_a_pick_made_after_the_worker_was_asked_is_not_in_its_report() -> None:
    reports = known(a=report(), b=report())
    reports.picked("a", "joe", 1.1)
    reports.update("a", report(sequence=2), 1.2, made_at=1.0)
    assert rank(reports, "joe", 1.2)[0] == "a"


def test_a_burst_of_new_voices_is_not_sent_to_one_free_place() -> None:
    full = [ready("x", 9.0), ready("y", 9.0), ready("z", 9.0)]
    reports = known(a=report(*full[:2]), b=report(*full), c=report(*full), d=report(*full))
    chosen = []
    for voice in ("new-1", "new-2", "new-3", "new-4"):
        chosen.append(rank(reports, voice, 0.0)[0])
        reports.picked(chosen[-1], voice, 0.0)
    assert chosen[0] == "a"
    assert max(Counter(chosen).values()) <= 2


def test_a_request_that_has_ended_counts_no_longer() -> None:
    reports = known(a=report(), b=report())
    reports.picked("a", "joe", 0.0)
    before = float(reports.flight.sum())
    reports.finished("a", "joe", 0.1)
    assert float(reports.flight.sum()) == before - 1
    reports.finished("a", "joe", 0.1)
    assert float(reports.flight.sum()) == before - 1


# Who gets nothing


def test_a_replica_that_drains_or_is_not_ready_gets_nothing() -> None:
    reports = known(
        a=report(ready("joe"), ready=False, draining=True), b=report(ready("joe"), ready=False)
    )
    assert rank(reports, "joe", 0.0) == ()
    reports.update("c", report(), 0.0)
    assert rank(reports, "joe", 0.0) == ("c",)


def test_a_replica_that_has_long_not_reported_gets_nothing() -> None:
    reports = known(a=report(ready("joe")), b=report())
    reports.update("b", report(sequence=2), 5.0)
    assert rank(reports, "joe", 5.0)[0] == "a"
    reports.update("b", report(sequence=3), 5.1)
    assert rank(reports, "joe", 5.1) == ("b",)


def test_a_router_that_is_cut_off_goes_on_for_a_while_with_what_it_knows() -> None:
    reports = known(a=report(ready("joe")), b=report())
    assert rank(reports, "joe", 30.0)[0] == "a"
    assert rank(reports, "joe", 56.0) == ()


def test_a_replica_that_cannot_be_reached_gets_nothing_until_it_reports_again() -> None:
    reports = known(a=report(ready("joe")), b=report())
    reports.lost("a")
    assert rank(reports, "joe", 0.1) == ("b",)
    reports.update("a", report(ready("joe"), sequence=2), 0.2)
    assert rank(reports, "joe", 0.2)[0] == "a"


def test_a_replica_that_left_is_forgotten_and_its_place_is_used_again() -> None:
    reports = known(a=report(ready("joe")), b=report())
    reports.remove("a")
    reports.remove("a")
    assert rank(reports, "joe", 0.0) == ("b",)
    reports.update("c", report(), 0.0)
    assert set(rank(reports, "joe", 0.0)) == {"b", "c"}
    assert "joe" not in reports.homes


def test_of_replicas_with_different_catalogs_those_that_lack_the_voice_get_nothing() -> None:
    reports = known(a=report(catalog="old"), b=report(catalog="old"), c=report(catalog="new"))
    reports.lacks("a", "joe")
    assert rank(reports, "joe", 0.0) == ("c",)
    assert len(rank(reports, "amy", 0.0)) == 3
    reports.update("a", report(catalog="new", sequence=2), 0.5)
    assert set(rank(reports, "joe", 0.5)) == {"a", "c"}


# Reports that contradict what was said before


def test_a_late_report_is_ignored() -> None:
    reports = known(a=report(ready("joe"), sequence=7))
    assert not reports.update("a", report(sequence=6), 1.0)
    assert not reports.update("a", report(sequence=7), 1.0), "the same number twice"
    assert "joe" in reports.homes


def test_a_worker_that_is_born_again_counts_from_the_beginning() -> None:
    reports = known(a=report(ready("joe"), sequence=900))
    reports.picked("a", "amy", 1.0)
    assert reports.update("a", report(boot_id="second", sequence=1), 0.5)
    assert reports.homes == {}, "what was sent to its earlier life is gone with it"
    assert rank(reports, "joe", 0.5) == ("a",)


def test_a_late_report_of_an_earlier_life_is_ignored() -> None:
    reports = known(a=report(sequence=5))
    assert reports.update("a", report(boot_id="second", sequence=1), 0.5)
    assert not reports.update("a", report(ready("joe"), sequence=6), 0.6)
    assert reports.homes == {}


def test_nothing_is_chosen_where_nothing_is_known() -> None:
    assert rank(Reports(), "joe", 0.0) == ()


def test_the_default_voice_is_what_all_agree_on() -> None:
    assert known(a=report(), b=report()).default_voice(0.0) == "amy"
    assert known(a=report(), b=report(default_model_id="joe")).default_voice(0.0) == ""
    assert Reports().default_voice(0.0) == ""


# Whatever the reports are

seconds = st.floats(0.0, 100.0)
models = st.builds(
    ReportedModel,
    st.sampled_from(["joe", "amy", "x", "y"]),
    st.sampled_from(State),
    idle_s=seconds,
    left_s=seconds,
    can_leave=st.booleans(),
)
any_report = st.builds(
    lambda residents, **more: report(*residents, **more),
    st.lists(models, max_size=3, unique_by=lambda model: model.model_id),
    sequence=st.integers(0, 5),
    boot_id=st.sampled_from(["first", "second"]),
    catalog=st.sampled_from(["old", "new"]),
    in_flight=st.integers(0, 50),
    streams=st.integers(0, 50),
    waiting=st.integers(0, 5),
    capacity_used=st.floats(0.0, 3.0),
    room_in_s=st.none() | seconds,
    ready=st.booleans(),
    free_bytes=st.integers(0, 1_000),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("update"), st.sampled_from(NAMES), any_report),
        st.tuples(
            st.sampled_from(["picked", "finished", "withdrawn"]),
            st.sampled_from(NAMES),
            st.sampled_from(["joe", "amy", "new"]),
        ),
        st.tuples(st.just("lacks"), st.sampled_from(NAMES), st.just("amy")),
        st.tuples(st.sampled_from(["lost", "remove"]), st.sampled_from(NAMES), st.none()),
    ),
    max_size=30,
)


@given(steps, st.sampled_from(["joe", "amy", "new"]), st.integers(1, 8))
def test_whatever_is_reported_only_replicas_that_take_work_are_chosen(
    told: list[tuple[str, str, WorkerReport | str | None]], voice: str, count: int
) -> None:
    reports, now = Reports(), 0.0
    last: dict[str, WorkerReport] = {}
    for step, name, what in told:
        now += 0.3
        match step, what:
            case "update", WorkerReport():
                if reports.update(name, what, now):
                    last[name] = what
            case "picked", str():
                reports.picked(name, what, now)
            case "finished", str():
                reports.finished(name, what, now)
            case "withdrawn", str():
                reports.withdrawn(name, what)
            case "lacks", str():
                reports.lacks(name, what)
            case "lost", _:
                reports.lost(name)
                last.pop(name, None)
            case _:
                reports.remove(name)
                last.pop(name, None)
    chosen = rank(reports, voice, now, count)
    assert chosen == rank(reports, voice, now, count), "it changes nothing"
    assert len(set(chosen)) == len(chosen) <= count
    assert all(last[name].ready for name in chosen)
    assert reports.flight.min() >= 0
    for homes in reports.homes.values():
        assert homes, "no voice is kept that is nowhere"
        assert all(reports.names[slot] for slot in homes)


@given(
    st.lists(st.sampled_from(["joe", "amy", "x", "y", "z"]), min_size=1, max_size=150),
    st.integers(2, 8),
    st.sampled_from([1.25, 1.5]),
)
def test_no_replica_has_more_than_its_bound_while_all_have_room(
    asked: list[str], count: int, bound: float
) -> None:
    reports = Reports(bound=bound)
    for name in NAMES[:count]:
        reports.update(name, report(places=8), 0.0)
    sent: Counter[str] = Counter()
    for voice in asked:
        best = rank(reports, voice, 0.0, 1)[0]
        reports.picked(best, voice, 0.0)
        sent[best] += 1
        mean = sent.total() / count
        assert sent[best] <= max(10, math.ceil(bound * mean), math.ceil(mean + 2 * math.sqrt(mean)))


@pytest.mark.parametrize("count", [1, 20, 300])
def test_any_number_of_replicas_is_kept(count: int) -> None:
    reports = known(**{f"r{n}": report() for n in range(count)})
    assert len(reports) == count
    assert len(rank(reports, "joe", 0.0, 400)) == count
