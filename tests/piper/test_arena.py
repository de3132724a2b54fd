"""A graph's memory comes back between sentences, and nobody's speech is harmed by it."""

from __future__ import annotations

import logging
import threading
from functools import partial

import pytest

from greenroom.adapters.piper.prepared.run import arena
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def _rest_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "SHRINK_AFTER_S", 0.01)


def test_memory_is_given_back_once_nobody_has_spoken_for_a_while() -> None:
    given_back = threading.Event()
    shrinker = arena.ArenaShrinker()
    shrinker.add(given_back.set)
    with shrinker.in_use(given_back.set):
        with shrinker.in_use(given_back.set):
            pass
        shrinker._shrink_if_idle(shrinker._uses)  # what the timer does
        assert not given_back.is_set()
    assert given_back.wait(30)


def test_memory_is_given_back_by_another_when_the_one_who_spoke_has_gone() -> None:
    calls: list[str] = []
    heard = threading.Event()

    def first() -> None:
        calls.append("first")

    def second() -> None:
        calls.append("second")
        heard.set()

    shrinker = arena.ArenaShrinker()
    shrinker.add(second)
    shrinker.add(first)
    with shrinker.in_use(first):
        shrinker.remove(first)
    assert heard.wait(30)
    assert calls == ["second"]


def test_giving_memory_back_that_fails_is_logged_and_tried_after_the_next_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise MemoryError("none left")

    def logged(count: int) -> bool:
        return len(caplog.records) == count

    shrinker = arena.ArenaShrinker()
    shrinker.add(fail)
    with caplog.at_level(logging.WARNING):
        for count in (1, 2):
            with shrinker.in_use(fail):
                pass
            eventually(partial(logged, count))
    assert len(calls) == 2
    assert "keeps the memory" in caplog.text


def test_forgetting_waits_until_it_is_not_being_called() -> None:
    begun, may_end, forgotten = (threading.Event() for _ in range(3))
    shrinker = arena.ArenaShrinker()

    def slow() -> None:
        begun.set()
        assert may_end.wait(30)

    def forget_slow() -> None:
        shrinker.remove(slow)
        forgotten.set()

    shrinker.add(slow)
    shrinker._uses = 1
    look = threading.Thread(target=shrinker._shrink_if_idle, args=(1,))
    forget = threading.Thread(target=forget_slow)
    look.start()
    assert begun.wait(30)
    forget.start()
    assert not forgotten.wait(0.02)
    may_end.set()
    assert forgotten.wait(30)
    look.join()
    forget.join()
