"""Calls that are made later: one thread for all, in order, whatever one of them raises."""

from __future__ import annotations

import heapq
import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest

from greenroom.adapters.piper.prepared.manifest import Manifest
from greenroom.adapters.piper.prepared.run import arena
from greenroom.adapters.piper.prepared.run.shared_graphs import Graph, Graphs
from greenroom.adapters.piper.prepared.run.timer import TIMER, Timer
from tests.waiting import eventually

LIMIT_S = 30.0


def timer_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "greenroom-timer"}


def test_calls_are_made_in_the_order_of_their_times_by_one_daemon_thread() -> None:
    timer, order = Timer(), list[str]()
    threads: set[threading.Thread] = set()

    def call(name: str) -> Callable[[], None]:
        def made() -> None:
            threads.add(threading.current_thread())
            order.append(name)

        return made

    due = {
        name: timer.call_later(delay, call(name)).when
        for name, delay in (("last", 0.06), ("second", 0.03), ("first", 0.0))
    }
    eventually(lambda: len(order) == 3)
    assert order == sorted(due, key=due.__getitem__)
    (thread,) = threads
    assert thread.daemon


def test_an_earlier_call_is_not_held_up_by_the_wait_for_a_later_one() -> None:
    timer, made = Timer(), threading.Event()
    timer.call_later(3_600, lambda: None)
    timer.call_later(0.01, made.set)
    assert made.wait(LIMIT_S)
    assert len(timer) == 1


def test_a_call_that_was_cancelled_is_not_made_and_keeps_nothing() -> None:
    class Kept:
        def call(self) -> None:
            raise AssertionError("it was cancelled")

    timer, kept, after = Timer(), Kept(), threading.Event()
    gone = weakref.ref(kept)
    due = timer.call_later(3_600, kept.call)
    assert timer.cancel(due)
    assert not timer.cancel(due)
    assert len(timer) == 0
    timer.call_later(0, after.set)
    del due, kept
    assert gone() is None
    assert after.wait(LIMIT_S)


def test_the_order_holds_whatever_was_cancelled() -> None:
    timer = Timer()
    due = [timer.call_later(3_600 + delay, lambda: None) for delay in (0, 9, 1, 10, 11, 2, 3)]
    assert timer.cancel(due[0])
    assert timer.cancel(due[2])
    left = sorted(each.when for each in due if each in timer._due)
    with timer._changed:
        assert [heapq.heappop(timer._due).when for _ in left] == left


def test_a_call_that_has_begun_cannot_be_cancelled() -> None:
    timer, begun, may_end = Timer(), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        may_end.wait(LIMIT_S)

    due = timer.call_later(0, slow)
    assert begun.wait(LIMIT_S)
    assert not timer.cancel(due)
    may_end.set()


def test_a_call_that_raises_is_logged_and_the_next_is_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    timer, made = Timer(), threading.Event()

    def fail() -> None:
        raise ZeroDivisionError("in a call that was due")

    with caplog.at_level(logging.WARNING):
        timer.call_later(0, fail)
        timer.call_later(0, made.set)
        assert made.wait(LIMIT_S)
    assert "in a call that was due" in caplog.text


def test_what_a_call_was_about_is_not_kept_after_it() -> None:
    class Kept:
        def call(self) -> None:
            pass

    timer, kept = Timer(), Kept()
    gone = weakref.ref(kept)
    timer.call_later(0, kept.call)
    del kept
    eventually(lambda: gone() is None)


def test_a_call_whose_thread_could_not_be_had_is_made_with_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    timer, made, next_made = Timer(), threading.Event(), threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        timer.call_later(0, made.set)
    assert "can't start new thread" in caplog.text
    assert not made.is_set()
    timer.call_later(0, next_made.set)
    assert next_made.wait(LIMIT_S)
    assert made.is_set()


FORKED = """
import os, threading
from greenroom.adapters.piper.prepared.run.timer import TIMER
first = threading.Event()
TIMER.call_later(0, first.set)
assert first.wait(30)
later = threading.Event()
TIMER.call_later(0.05, later.set)
child = os.fork()
if child == 0:
    own = threading.Event()
    TIMER.call_later(0, own.set)
    os._exit(0 if own.wait(30) and later.wait(30) else 1)
_, status = os.waitpid(child, 0)
TIMER.call_later(3600, print)
raise SystemExit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_a_timer_of_its_own_and_what_is_due_keeps_no_process_from_ending() -> (
    None
):
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=True, timeout=LIMIT_S)


def a_graph(monkeypatch: pytest.MonkeyPatch) -> Graph:
    """Return a graph without sessions, which every slot reads."""
    graph = Graph("graph", Manifest.model_construct(stages=()), MappingProxyType({}))
    monkeypatch.setattr(Graph, "read", lambda *_: graph)
    return graph


def test_graphs_that_linger_after_any_number_of_unloads_need_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, held, before = a_graph(monkeypatch), Graphs(), len(TIMER)
    threads = timer_threads()
    for _ in range(50):
        held.acquire("graph", Path(), 1)
        held.release(graph, 1, linger=3_600)
    assert len(timer_threads() - threads) <= 1
    assert len(TIMER) == before + 1
    slot = held._slots["graph", 1]
    assert slot.users == 1
    assert slot.lingering is not None
    assert TIMER.cancel(slot.lingering)


def test_a_graph_lingers_as_long_as_the_voice_that_asked_for_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, held = a_graph(monkeypatch), Graphs()
    for _ in range(3):
        held.acquire("graph", Path(), 1)
    held.release(graph, 1, linger=3_600)
    slot = held._slots["graph", 1]
    longest = slot.lingering
    held.release(graph, 1, linger=0.01)
    held.release(graph, 1)
    assert slot.lingering is longest
    assert slot.users == 1
    assert longest is not None
    assert TIMER.cancel(longest)
    longest.call()
    assert "graph" not in held


def test_a_graph_leaves_once_when_its_voice_comes_and_goes_while_it_lingers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, held = a_graph(monkeypatch), Graphs()
    for _ in range(20):
        held.acquire("graph", Path(), 1)
        held.release(graph, 1, linger=0.001)
    eventually(lambda: "graph" not in held)


def test_any_number_of_graphs_that_rest_need_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "SHRINK_AFTER_S", 0.02)
    threads = timer_threads()
    shrinker = [arena.ArenaShrinker() for _ in range(50)]
    given_back = [threading.Event() for _ in shrinker]
    for each, event in zip(shrinker, given_back, strict=True):
        each.add(event.set)
        with each.in_use(event.set):
            pass
    assert len(timer_threads() - threads) <= 1
    assert all(event.wait(LIMIT_S) for event in given_back)
