"""When a listener falls silent, and what counts as a gap."""

from __future__ import annotations

import pytest

from greenroom.speech.playback import PlaybackClock


def heard(seconds: float, at: float = 0.0) -> PlaybackClock:
    clock = PlaybackClock()
    clock.take(seconds, at)
    return clock


def test_it_runs_from_the_first_audio_that_is_taken() -> None:
    clock = PlaybackClock()
    assert not clock.started
    clock.take(0.5, 10.0)
    assert clock.started
    assert clock.silent_at(10.0) == 10.5
    assert clock.due(10.0, 0.0) == 10.5


def test_who_takes_everything_at_once_hears_it_at_real_time_all_the_same() -> None:
    clock = heard(1.0)
    clock.take(4.0, 0.1)
    assert clock.silent_at(0.1) == 5.0


def test_what_is_made_and_not_taken_is_still_to_be_heard() -> None:
    clock = heard(1.0)
    assert clock.due(0.5, 2.0) == 3.0
    assert clock.due(4.0, 2.0) == 6.0, "a listener that stalls has it to hear when it comes back"


@pytest.mark.parametrize(
    ("comes", "late", "gaps"), [(0.9, 0.0, 0), (1.0, 0.0, 0), (1.015, 0.015, 0), (1.3, 0.3, 1)]
)
def test_silence_of_more_than_a_frame_is_a_gap(comes: float, late: float, gaps: int) -> None:
    clock = heard(1.0)
    assert clock.come(comes, waiting_since=0.2) == pytest.approx(late)
    assert clock.late_s == pytest.approx(late)
    assert clock.gaps == gaps


def test_after_a_gap_the_listener_goes_on_from_when_audio_came() -> None:
    clock = heard(1.0)
    clock.come(1.5, 0.0)
    clock.take(1.0, 1.5)
    assert clock.silent_at(1.5) == 2.5


def test_silence_before_the_first_audio_is_a_wait_and_no_gap() -> None:
    clock = PlaybackClock()
    assert clock.come(100.0, waiting_since=0.0) == 0.0
    assert clock.gaps == 0


def test_who_did_not_wait_for_audio_had_no_gap_and_who_came_late_has_its_own_to_blame() -> None:
    clock = heard(1.0)
    assert clock.come(3.0, waiting_since=None) == 0.0
    assert clock.come(3.0, waiting_since=2.9) == pytest.approx(0.1)


def test_it_stands_still_while_paused() -> None:
    clock = heard(1.0)
    clock.pause(0.4)
    clock.pause(0.5)
    assert clock.silent_at(9.4) == pytest.approx(10.0)
    assert clock.come(9.0, waiting_since=0.4) == 0.0
    clock.resume(9.4)
    clock.resume(20.0)
    assert clock.silent_at(9.4) == pytest.approx(10.0)


def test_who_was_silent_when_it_was_paused_has_nothing_to_go_on_with() -> None:
    clock = heard(1.0)
    clock.pause(5.0)
    clock.resume(8.0)
    assert clock.silent_at(8.0) == pytest.approx(8.0)


def test_a_pause_before_the_first_audio_moves_nothing() -> None:
    clock = PlaybackClock()
    clock.pause(1.0)
    clock.resume(5.0)
    assert not clock.started
    clock.take(1.0, 6.0)
    assert clock.silent_at(6.0) == 7.0


def test_audio_taken_while_paused_is_heard_after_it() -> None:
    clock = heard(1.0)
    clock.pause(0.5)
    clock.take(1.0, 2.5)
    clock.resume(3.5)
    assert clock.silent_at(3.5) == pytest.approx(5.0)


def test_silence_while_there_was_no_text_is_excused_until_it_can_be_spoken() -> None:
    clock = heard(1.0)
    clock.excuse(5.25)
    assert clock.due(5.0, 0.0) == 5.25
    assert clock.come(5.2, waiting_since=0.0) == 0.0
    assert clock.come(5.4, waiting_since=0.0) == pytest.approx(0.15)
