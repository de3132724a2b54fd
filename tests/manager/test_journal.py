"""The journal: bounded, per model, and published to whoever listens."""

from __future__ import annotations

import asyncio

import pytest

from greenroom.journal import MAX_HISTORIES, Journal, Kind


def write(journal: Journal, *numbers: int, model_id: str = "a") -> None:
    for number in numbers:
        journal.record(Kind.READY, model_id, f"n{number}", float(number))


def test_the_latest_events_are_kept_of_all_and_of_each() -> None:
    journal = Journal(size=4, per_model=2)
    write(journal, 1, 2, 3)
    write(journal, 4, 5, model_id="b")
    assert [event.reason for event in journal.events()] == ["n2", "n3", "n4", "n5"]
    assert [event.reason for event in journal.events("a")] == ["n2", "n3"]
    assert journal.events("nobody") == ()


def test_an_event_reads_as_one_line() -> None:
    journal = Journal()
    journal.record(Kind.REFUSED, "a", "no room", 1.0, owner="x")
    (event,) = journal.events()
    assert str(event) == "a refused: no room (x)"
    assert event.wall > 1e9


async def test_a_subscriber_gets_what_comes_after_it_in_order() -> None:
    journal = Journal()
    write(journal, 1)
    subscription = journal.subscribe()
    write(journal, 2, 3)
    assert [(await anext(subscription)).reason for _ in range(2)] == ["n2", "n3"]


async def test_a_subscriber_that_is_too_slow_loses_the_oldest_and_knows() -> None:
    journal = Journal(backlog=2)
    subscription = journal.subscribe()
    write(journal, 1, 2, 3, 4)
    assert subscription.lost == 2
    journal.close()
    assert [event.reason async for event in subscription] == ["n3", "n4"]


async def test_a_waiting_subscriber_ends_with_the_journal() -> None:
    journal = Journal()
    subscription = journal.subscribe()
    waiting = asyncio.create_task(anext(subscription))
    await asyncio.sleep(0)
    journal.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert [event async for event in journal.subscribe()] == []


async def test_a_subscriber_that_left_gets_nothing_more() -> None:
    journal = Journal()
    subscription = journal.subscribe()
    await subscription.aclose()
    write(journal, 1)
    assert [event async for event in subscription] == []


def test_of_models_of_long_ago_only_why_they_left_is_kept() -> None:
    journal = Journal()
    for number in range(MAX_HISTORIES + 50):
        for kind in (Kind.LOADING, Kind.READY, Kind.UNLOADING, Kind.GONE):
            journal.record(kind, f"m{number}", f"{kind} for a reason", now=float(number))
    assert [event.kind for event in journal.events("m0")] == ["unloading"]
    assert len(journal.events("m50")) == 4
    journal.record(Kind.LOADING, "m0", "again", now=9_999.0)
    assert [event.kind for event in journal.events("m0")] == ["unloading", "loading"]
    assert [event.kind for event in journal.events("m50")] == ["unloading"]
