"""The lazy heap: residents in order of a moment that only moves later."""

from __future__ import annotations

import math

import pytest

from greenroom.ledger.lazy_heap import LazyHeap
from greenroom.ledger.state import ModelRequest, Resident, State


def resident(number: int, idle_since: float = 0.0) -> Resident:
    made = Resident(ModelRequest(f"m{number}"), State.READY, number, 0, 0.0, 0.0)
    made.idle_since = idle_since
    return made


@pytest.fixture
def heap() -> LazyHeap:
    return LazyHeap(lambda r: r.idle_since)


def emptied(heap: LazyHeap, latest: float = math.inf) -> list[int]:
    out = []
    while (found := heap.pop(latest)) is not None:
        out.append(found.number)
    return out


def test_the_earliest_comes_first_and_ties_in_order_of_booking(heap: LazyHeap) -> None:
    for number, moment in ((3, 5.0), (2, 5.0), (4, 1.0), (1, 9.0)):
        heap.add(resident(number, moment))
    assert heap.bound() == 1
    assert emptied(heap) == [4, 2, 3, 1]
    assert heap.bound() == math.inf
    assert heap.pop() is None


def test_nobody_comes_before_their_moment(heap: LazyHeap) -> None:
    for number in (1, 2, 3):
        heap.add(resident(number, float(number)))
    assert emptied(heap, 2.0) == [1, 2]
    assert heap.bound() == 3
    assert emptied(heap, 2.9) == []
    assert emptied(heap, 3.0) == [3]


def test_a_moment_that_moved_later_is_noticed_when_it_comes_up(heap: LazyHeap) -> None:
    first, second = resident(1, 1.0), resident(2, 2.0)
    heap.add(first)
    heap.add(second)
    first.idle_since = 3.0
    assert heap.bound() == 1
    assert heap.pop(1.5) is None
    assert heap.bound() == 2
    assert emptied(heap) == [2, 1]


def test_a_moment_that_moved_later_keeps_its_tie(heap: LazyHeap) -> None:
    first, second = resident(1, 1.0), resident(2, 2.0)
    heap.add(second)
    heap.add(first)
    first.idle_since = 2.0
    assert emptied(heap) == [1, 2]


def test_adding_twice_is_adding_once(heap: LazyHeap) -> None:
    one = resident(1)
    heap.add(one)
    heap.add(one)
    assert len(heap) == 1
    assert len(heap._heap) == 1
    assert emptied(heap) == [1]
    assert len(heap) == 0


def test_who_was_discarded_never_comes(heap: LazyHeap) -> None:
    one, two = resident(1, 1.0), resident(2, 2.0)
    heap.add(one)
    heap.add(two)
    heap.discard(one)
    heap.discard(one)
    assert len(heap) == 1
    assert heap.bound() == 2
    assert emptied(heap) == [2]


def test_who_came_back_comes_once_at_the_new_moment(heap: LazyHeap) -> None:
    one, two = resident(1, 1.0), resident(2, 2.0)
    heap.add(one)
    heap.add(two)
    heap.discard(one)
    one.idle_since = 3.0
    heap.add(one)
    assert len(heap) == 2
    assert emptied(heap) == [2, 1]


def test_discarded_entries_do_not_pile_up(heap: LazyHeap) -> None:
    members = [resident(number, float(number)) for number in range(200)]
    for member in members:
        heap.add(member)
    for member in members[1:133]:
        heap.discard(member)
    assert len(heap._heap) == 200 == 2 * len(heap) + 64
    for member in members[133:]:
        heap.discard(member)
        assert len(heap._heap) <= 2 * len(heap) + 64
    assert len(heap) == 1
    assert emptied(heap) == [0]


def test_the_order_survives_a_rebuild(heap: LazyHeap) -> None:
    members = [resident(number, float(-number)) for number in range(100)]
    for member in members:
        heap.add(member)
    for member in members[:-3]:
        heap.discard(member)
    assert len(heap._heap) < 100
    assert emptied(heap) == [99, 98, 97]
