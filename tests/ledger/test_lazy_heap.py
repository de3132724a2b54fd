"""The agenda: residents in order of a moment that only moves later."""

from __future__ import annotations

import math

import pytest

from greenroom.ledger.lazy_heap import Agenda
from greenroom.ledger.state import Demand, Resident, State


def resident(number: int, idle_since: float = 0.0) -> Resident:
    made = Resident(Demand(f"m{number}"), State.READY, number, 0, 0.0, 0.0)
    made.idle_since = idle_since
    return made


@pytest.fixture
def agenda() -> Agenda:
    return Agenda(lambda r: r.idle_since)


def emptied(agenda: Agenda, latest: float = math.inf) -> list[int]:
    out = []
    while (found := agenda.pop(latest)) is not None:
        out.append(found.number)
    return out


def test_the_earliest_comes_first_and_ties_in_order_of_booking(agenda: Agenda) -> None:
    for number, moment in ((3, 5.0), (2, 5.0), (4, 1.0), (1, 9.0)):
        agenda.add(resident(number, moment))
    assert agenda.bound() == 1
    assert emptied(agenda) == [4, 2, 3, 1]
    assert agenda.bound() == math.inf
    assert agenda.pop() is None


def test_nobody_comes_before_their_moment(agenda: Agenda) -> None:
    for number in (1, 2, 3):
        agenda.add(resident(number, float(number)))
    assert emptied(agenda, 2.0) == [1, 2]
    assert agenda.bound() == 3
    assert emptied(agenda, 2.9) == []
    assert emptied(agenda, 3.0) == [3]


def test_a_moment_that_moved_later_is_noticed_when_it_comes_up(agenda: Agenda) -> None:
    first, second = resident(1, 1.0), resident(2, 2.0)
    agenda.add(first)
    agenda.add(second)
    first.idle_since = 3.0
    assert agenda.bound() == 1
    assert agenda.pop(1.5) is None
    assert agenda.bound() == 2
    assert emptied(agenda) == [2, 1]


def test_a_moment_that_moved_later_keeps_its_tie(agenda: Agenda) -> None:
    first, second = resident(1, 1.0), resident(2, 2.0)
    agenda.add(second)
    agenda.add(first)
    first.idle_since = 2.0
    assert emptied(agenda) == [1, 2]


def test_adding_twice_is_adding_once(agenda: Agenda) -> None:
    one = resident(1)
    agenda.add(one)
    agenda.add(one)
    assert len(agenda) == 1
    assert len(agenda._heap) == 1
    assert emptied(agenda) == [1]
    assert len(agenda) == 0


def test_who_was_discarded_never_comes(agenda: Agenda) -> None:
    one, two = resident(1, 1.0), resident(2, 2.0)
    agenda.add(one)
    agenda.add(two)
    agenda.discard(one)
    agenda.discard(one)
    assert len(agenda) == 1
    assert agenda.bound() == 2
    assert emptied(agenda) == [2]


def test_who_came_back_comes_once_at_the_new_moment(agenda: Agenda) -> None:
    one, two = resident(1, 1.0), resident(2, 2.0)
    agenda.add(one)
    agenda.add(two)
    agenda.discard(one)
    one.idle_since = 3.0
    agenda.add(one)
    assert len(agenda) == 2
    assert emptied(agenda) == [2, 1]


def test_discarded_entries_do_not_pile_up(agenda: Agenda) -> None:
    members = [resident(number, float(number)) for number in range(200)]
    for member in members:
        agenda.add(member)
    for member in members[1:133]:
        agenda.discard(member)
    assert len(agenda._heap) == 200 == 2 * len(agenda) + 64
    for member in members[133:]:
        agenda.discard(member)
        assert len(agenda._heap) <= 2 * len(agenda) + 64
    assert len(agenda) == 1
    assert emptied(agenda) == [0]


def test_the_order_survives_a_rebuild(agenda: Agenda) -> None:
    members = [resident(number, float(-number)) for number in range(100)]
    for member in members:
        agenda.add(member)
    for member in members[:-3]:
        agenda.discard(member)
    assert len(agenda._heap) < 100
    assert emptied(agenda) == [99, 98, 97]
