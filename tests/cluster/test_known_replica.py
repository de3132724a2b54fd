"""What a router knows of a replica between two of its reports, by what it sent there itself."""

from __future__ import annotations

import math

from greenroom.cluster.reports import Reports
from tests.cluster.replicas import known, loading, ready, report


def spare(reports: Reports) -> float:
    """Return when the model that would make room was last used."""
    return float(reports.spare[reports.names.index("a")])


def room(reports: Reports) -> float:
    """Return the seconds until there is a place for one more model."""
    return float(reports.room[reports.names.index("a")])


def flight(reports: Reports) -> float:
    return float(reports.flight[reports.names.index("a")])


def test_a_speech_that_was_reported_and_has_ended_is_in_flight_no_longer() -> None:
    reports = known(a=report())
    reports.picked("a", "joe", 0.0)
    reports.update("a", report(ready("joe", references=1), in_flight=1, sequence=2), 0.5)
    reports.finished("a", "joe", 0.6)
    assert flight(reports) == 0
    reports.update("a", report(ready("joe"), in_flight=0, sequence=3), 1.0)
    assert flight(reports) == 0


def test_a_report_that_was_made_before_an_end_and_comes_after_it_counts_it_as_ended() -> None:
    reports = known(a=report())
    reports.picked("a", "joe", 0.1)
    reports.finished("a", "joe", 0.6)
    late = report(ready("joe", references=1), in_flight=1, sequence=2)
    reports.update("a", late, 0.8, made_at=0.5)
    assert flight(reports) == 0


def test_speeches_of_other_routers_stay_in_flight() -> None:
    reports = known(a=report(in_flight=5))
    reports.picked("a", "joe", 0.1)
    assert flight(reports) == 6
    reports.finished("a", "joe", 0.2)
    assert flight(reports) == 5


def test_a_voice_whose_speech_has_ended_makes_room() -> None:
    reports = known(a=report())
    for voice in ("x", "y", "z"):
        reports.picked("a", voice, 0.0)
    used = [ready(voice, references=1, streams=1) for voice in ("x", "y", "z")]
    reports.update("a", report(*used, in_flight=3, room_in_s=5.0, sequence=2), 0.5)
    assert room(reports) == 5.0
    reports.finished("a", "y", 0.7)
    assert (room(reports), spare(reports)) == (0.0, 0.7)


def test_a_voice_that_others_speak_with_too_does_not() -> None:
    reports = known(a=report())
    reports.picked("a", "x", 0.0)
    used = ready("x", references=2, streams=2)
    reports.update("a", report(used, places=1, in_flight=2, room_in_s=5.0, sequence=2), 0.5)
    reports.finished("a", "x", 0.7)
    assert room(reports) == 5.0


def test_a_voice_that_was_used_since_the_report_is_not_the_next_to_leave() -> None:
    reports = known(a=report(ready("x", 9.0), ready("y", 5.0), ready("z", 1.0)))
    assert spare(reports) == -9.0
    reports.picked("a", "x", 0.1)
    assert spare(reports) == -5.0
    reports.finished("a", "x", 0.2)
    assert spare(reports) == -5.0


def test_a_voice_that_had_to_leave_for_another_is_not_there_any_more() -> None:
    reports = known(a=report(ready("x", 9.0), ready("y", 5.0), ready("z", 1.0)))
    reports.picked("a", "joe", 0.1)
    assert set(reports.homes) == {"y", "z", "joe"}
    assert spare(reports) == -5.0
    reports.update("a", report(ready("x", 9.5), ready("y", 5.5), loading("joe", 0.1)), 0.5)
    assert set(reports.homes) == {"y", "z", "joe"}, "the same number is no next report"
    stayed = report(ready("x", 9.5), ready("y", 5.5), loading("joe", 0.1), sequence=2)
    reports.update("a", stayed, 0.5)
    assert set(reports.homes) == {"x", "y", "joe"}, "the report knows better"


def test_a_voice_that_may_be_pinned_is_taken_to_stay() -> None:
    reports = known(a=report())
    reports.picked("a", "x", 0.0)
    used = report(ready("x", references=1), places=1, in_flight=1, room_in_s=5.0, sequence=2)
    reports.update("a", used, 0.5)
    reports.finished("a", "x", 0.6)
    reports.picked("a", "joe", 0.7)
    assert set(reports.homes) == {"x", "joe"}


def test_of_replicas_whose_places_are_promised_the_one_where_fewer_wait_has_room_first() -> None:
    reports = known(a=report(ready("x", 1.0), places=1))
    rooms = []
    for number in range(4):
        rooms.append(room(reports))
        reports.picked("a", f"new-{number}", 0.1)
    assert rooms[0] == 0.0
    assert rooms[1] < rooms[2] < rooms[3] < math.inf


def test_what_was_withdrawn_leaves_no_trace() -> None:
    reports = known(a=report(ready("x", 9.0), places=1))
    reports.picked("a", "joe", 0.1)
    reports.withdrawn("a", "joe")
    reports.withdrawn("a", "joe")
    assert set(reports.homes) == {"x"}
    assert (flight(reports), spare(reports)) == (0, -9.0)


def test_a_request_whose_end_was_never_told_is_forgotten() -> None:
    reports = known(a=report())
    for number in range(3):
        reports.picked("a", "joe", 0.1 * number)
    reports.update("a", report(ready("joe", references=1), in_flight=1, sequence=2), 9.0)
    assert flight(reports) == 1


def test_what_a_lost_replica_had_does_not_come_back_with_what_is_sent_there() -> None:
    reports = known(a=report(ready("x"), ready("y")))
    reports.lost("a")
    reports.picked("a", "joe", 0.1)
    assert set(reports.homes) == {"joe"}


def test_ends_that_no_report_follows_take_no_memory() -> None:
    reports = known(a=report(in_flight=10**6))
    for number in range(1_000):
        reports.picked("a", f"voice-{number}", 1.0)
        reports.finished("a", f"voice-{number}", 1.0)
    assert len(reports.homes) <= 100
