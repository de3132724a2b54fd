"""What a router remembers, and the order in which it asks."""

from __future__ import annotations

from typing import Any

from greenroom.cluster.route_memory import Request, RouteMemory, passed_on
from greenroom.worker.report import ReportedModel
from tests.cluster.replicas import ready, report

NAMES = ["a", "b", "c"]


def told(*residents: ReportedModel, at: float = 0.0, sessions: Any = (), **more: Any) -> Any:
    """Return what a replica tells; its report of another time has another number."""
    return passed_on(report(*residents, sequence=int(at * 10) + 1, **more), sessions, at)


def heard(**replicas: Any) -> RouteMemory:
    """Return a memory that has heard of each replica at 0."""
    memory = RouteMemory()
    memory.hear(replicas, 0.0, 0.0)
    return memory


def test_a_request_goes_where_its_voice_is_else_to_the_next() -> None:
    memory = heard(a=told(), b=told(ready("joe")), c=told())
    ranks = memory.order(Request("1", "joe"), NAMES, 0.0)
    assert ranks[0] == ["b"]
    assert sorted(ranks) == [["a"], ["b"], ["c"]]


def test_a_request_about_no_voice_goes_where_least_is_in_flight() -> None:
    assert heard(a=told(), b=told()).order(Request("1"), ["a", "b"], 0.0) == [["a", "b"]]


def test_the_first_request_for_a_voice_takes_the_second_along() -> None:
    memory = heard(a=told(), b=told(), c=told())
    first = memory.order(Request("1", "joe"), NAMES, 0.0)[0]
    assert memory.order(Request("2", "joe"), NAMES, 0.0)[0] == first


def test_a_request_that_was_taken_elsewhere_counts_there() -> None:
    memory = heard(a=told(), b=told(), c=told())
    (first,) = memory.order(Request("1", "joe"), NAMES, 0.0)[0]
    other = next(name for name in NAMES if name != first)
    memory.sent(Request("1", "joe"), other, 0.0)
    flight = dict(zip(memory.reports.names, memory.reports.flight, strict=True))
    assert (flight[first], flight[other]) == (0, 1)


def test_a_request_that_is_asked_for_again_counts_once() -> None:
    memory = heard(a=told(ready("joe")))
    for _ in range(3):
        memory.order(Request("1", "joe"), ["a"], 0.0)
    memory.sent(Request("1", "joe"), "a", 0.0)
    assert memory.reports.flight.sum() == 1


def test_a_request_counts_until_it_ends_where_it_was_sent() -> None:
    memory = heard(a=told(ready("joe")))
    memory.order(Request("1", "joe"), ["a"], 0.0)
    memory.ended("1", "b", 0.1)  # refused there before
    assert memory.reports.flight.sum() == 1
    memory.ended("1", "a", 0.1)
    assert memory.reports.flight.sum() == 0
    memory.ended("1", "a", 0.1)
    assert memory.reports.flight.sum() == 0


def test_a_session_stays_with_the_replica_that_took_it() -> None:
    memory = heard(a=told(ready("joe")), b=told(), c=told())
    memory.sent(Request("1", "joe", "s"), "c", 0.0)
    assert memory.order(Request("2", "joe", "s"), NAMES, 0.0) == [["c"]]
    assert memory.order(Request("3", "", "s"), NAMES, 0.0) == [["c"]]


def test_a_session_that_another_router_began_is_found_by_the_reports() -> None:
    memory = heard(a=told(ready("joe")), b=told(sessions=["s"]), c=told())
    assert memory.order(Request("1", "joe", "s"), NAMES, 0.0) == [["b"]]


def test_a_session_whose_replica_has_gone_begins_anew_where_its_voice_is() -> None:
    memory = heard(a=told(ready("joe")), b=told(), c=told())
    memory.sent(Request("1", "joe", "s"), "c", 0.0)
    assert memory.order(Request("2", "joe", "s"), ["a", "b"], 0.0)[0] == ["a"]
    assert memory.order(Request("3", "joe", "s"), NAMES, 0.0)[0] == ["a"]


def test_what_was_sent_since_the_report_was_made_is_not_in_it() -> None:
    memory = heard(a=told(), b=told())
    for number in range(3):
        memory.sent(Request(str(number), "joe"), "a", 10.0)
    # It comes at 10.5, and was made at 9.9 by a clock that agrees.
    memory.hear({"a": told(ready("joe"), at=9.9), "b": told(at=9.9)}, 10.5, 10.5)
    assert memory.reports.flight.max() == 3
    memory.hear({"a": told(ready("joe"), at=10.2, in_flight=3), "b": told(at=10.2)}, 10.6, 10.6)
    assert memory.reports.flight.max() == 3, "they are counted once"


def test_a_clock_that_is_hours_ahead_or_behind_does_no_harm() -> None:
    for clock in (1e6, -1e6):
        memory = RouteMemory()
        memory.hear({"a": told(ready("joe"), at=max(clock, 0.0))}, 0.0, -clock)
        assert memory.order(Request("1", "joe"), ["a"], 0.0) == [["a"]]


def test_a_report_that_was_heard_before_changes_nothing() -> None:
    memory = heard(a=told(ready("joe")))
    memory.sent(Request("1", "joe"), "a", 0.1)
    memory.hear({"a": told(ready("joe"))}, 1.0, 1.0)
    assert memory.reports.flight.sum() == 1


def test_what_is_no_report_leaves_the_replica_to_be_asked_last() -> None:
    memory = RouteMemory()
    bad = {"made_at": 1.0, "report": {"boot_id": 5}, "sessions": None}
    memory.hear({"a": bad, "b": told(), "c": {}, "d": {"made_at": "now"}}, 0.0, 0.0)
    ranks = memory.order(Request("1", "joe"), ["a", "b", "c", "d"], 0.0)
    assert ranks == [["b"], ["c", "d"]]


def test_a_request_waits_for_no_report() -> None:
    assert RouteMemory().order(Request("1", "joe"), NAMES, 0.0) == [NAMES]


def test_when_none_takes_work_any_is_asked_and_refuses_in_its_own_words() -> None:
    memory = heard(a=told(ready=False), b=told(ready=False, draining=True))
    assert memory.order(Request("1", "joe"), ["a", "b"], 0.0) == [["a", "b"]]


def test_a_replica_that_is_lost_is_asked_by_none_until_it_reports() -> None:
    memory = heard(a=told(ready("joe")), b=told())
    memory.lost("a")
    assert memory.order(Request("1", "joe"), ["a", "b"], 0.0) == [["b"]]
    memory.hear({"a": told(ready("joe"), at=1.0), "b": told(at=1.0)}, 1.0, 1.0)
    assert memory.order(Request("1", "joe"), ["a", "b"], 1.0)[0] == ["a"]


def test_a_replica_that_is_not_named_any_more_is_forgotten() -> None:
    memory = heard(a=told(ready("joe")), b=told())
    memory.hear({"b": told(at=1.0)}, 1.0, 1.0)
    assert memory.order(Request("1", "joe"), ["b"], 1.0) == [["b"]]
    assert len(memory.reports) == 1
