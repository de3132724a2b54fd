"""A measurement counts only when nothing else ran beside it."""

from __future__ import annotations

from greenroom.memory.measurement import ActivityCounter


def test_what_has_the_process_to_itself_is_undisturbed() -> None:
    watch = ActivityCounter().watch(quiet=True)
    assert watch.undisturbed
    watch.stop()
    assert watch.undisturbed


def test_a_stream_that_runs_at_the_beginning_disturbs() -> None:
    assert not ActivityCounter().watch(quiet=False).undisturbed


def test_two_at_once_disturb_each_other() -> None:
    activity = ActivityCounter()
    first, second = activity.watch(quiet=True), activity.watch(quiet=True)
    assert not first.undisturbed
    assert not second.undisturbed
    first.stop()
    third = activity.watch(quiet=True)
    assert not third.undisturbed
    third.stop()
    second.stop()
    assert activity.watch(quiet=True).undisturbed


def test_what_begins_later_disturbs_a_life_but_not_what_comes_after_it() -> None:
    activity = ActivityCounter()
    life = activity.watch(quiet=True)
    life.stop()
    other = activity.watch(quiet=True)
    assert other.undisturbed
    assert not life.undisturbed


def test_ones_own_streams_disturb_only_others() -> None:
    activity = ActivityCounter()
    mine = activity.watch(quiet=True)
    mine.stop()
    theirs = activity.watch(quiet=True)
    theirs.stop()
    theirs.disturb()
    assert theirs.undisturbed
    mine.disturb()
    assert not theirs.undisturbed
    assert not mine.undisturbed
