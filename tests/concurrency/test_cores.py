"""Cores: taken, borrowed while nobody waits, given back, and taken away."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable

import pytest

from greenroom.concurrency.cores import Cores, cores


def test_there_are_as_many_as_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.concurrency.cores.quota_of_process", lambda: math.inf)
    assert cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == os.cpu_count()


def test_no_more_are_taken_than_there_are() -> None:
    two = Cores(lambda: 2)
    assert (two.take(), two.take(), two.take()) == (True, True, False)
    assert two.idle == 0
    two.give_back()
    assert two.idle == 1
    assert two.take()


def test_there_is_always_one() -> None:
    none = Cores(lambda: 0)
    assert none.count == 1
    assert none.take()


def test_one_that_is_taken_away_is_not_taken_again() -> None:
    count = 2
    them = Cores(lambda: count)
    assert them.take()
    assert them.take()
    count = 1
    them.give_back()
    assert not them.take()
    assert them.idle == 0
    them.give_back()
    assert them.take()


def test_nobody_borrows_what_another_waits_for() -> None:
    two = Cores(lambda: 2)
    told: list[str] = []

    def freed() -> None:
        told.append("freed")

    assert two.borrow()
    assert two.take()
    assert not two.borrow()
    two.wait(freed)
    two.wait(freed)
    two.give_back()
    assert told == ["freed"], "told once"
    assert two.take()
    two.wait(freed)
    two.wait_no_more(freed)
    two.give_back()
    assert told == ["freed"]
    assert two.borrow()


def test_many_threads_never_have_more_than_there_are() -> None:
    three = Cores(lambda: 3)
    most = 0
    here = 0
    lock = threading.Lock()

    def compute() -> None:
        nonlocal most, here
        for _ in range(500):
            if not three.borrow():
                continue
            with lock:
                here += 1
                most = max(most, here)
            with lock:
                here -= 1
            three.give_back()

    threads = [threading.Thread(target=compute) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert 1 <= most <= 3
    assert three.idle == 3


def test_a_core_is_lent_only_while_nobody_waits_and_is_back_when_the_loan_ends() -> None:
    two = Cores(lambda: 2)
    told: list[str] = []
    loan = two.lend(1.0)
    assert loan is not None
    assert two.take()
    assert (two.idle, two.lend(1.0)) == (0, None)
    two.wait(lambda: told.append("freed"))
    two.end_loan(loan)
    assert (two.idle, told) == (1, ["freed"])
    two.end_loan(loan)
    assert two.idle == 1


@pytest.mark.parametrize("ask", [Cores.take, Cores.borrow, lambda cores: cores.lend(9.0)])
def test_a_core_that_was_lent_for_too_long_goes_to_who_asks_for_one(
    ask: Callable[[Cores], object],
) -> None:
    now = 0.0
    one = Cores(lambda: 1, lambda: now)
    loan = one.lend(1.0)
    assert loan is not None
    now = 0.99
    assert not ask(one)
    now = 1.0
    assert ask(one)
    assert one.idle == 0
    one.end_loan(loan)  # given back after all: it is another's
    assert one.idle == 0
    one.give_back()
    assert one.idle == 1
