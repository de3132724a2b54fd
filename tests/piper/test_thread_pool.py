"""A piece is decoded ahead on a borrowed core, which is given back whatever becomes of it."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from greenroom.adapters.piper.prepared.run.thread_pool import DECODE_POOL, DecodePool
from greenroom.concurrency.cores import CORES, Cores
from greenroom.speech.pace import Pace


def submitted(pool: DecodePool, call: Any, *arguments: Any) -> Future[Any]:
    called = pool.submit(call, *arguments)
    assert called is not None
    return called


def test_a_call_has_a_core_while_it_runs_and_gives_it_back_before_it_is_known_to_be_done() -> None:
    cores = Cores(lambda: 2)
    pool = DecodePool(cores)
    for _ in range(50):
        assert submitted(pool, lambda: cores.idle).result(30) == 1
        assert cores.idle == 2


def test_nothing_is_called_without_an_idle_core() -> None:
    cores = Cores(lambda: 1)
    pool = DecodePool(cores)
    cores.take()
    assert pool.submit(int) is None
    cores.give_back()
    cores.wait(lambda: None)
    assert pool.submit(int) is None


def test_a_second_core_is_borrowed_inside_the_block_and_counted_as_help() -> None:
    cores, helped = Cores(lambda: 2), list[float]()
    pool, pace = DecodePool(cores), Pace(count_help=helped.append)
    cores.take()

    def run() -> None:
        with pool.second_core(pace) as wide, pool.second_core(pace) as third:
            assert (wide, third) == (True, False)
            assert cores.idle == 0
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        run()
    assert cores.idle == 1
    assert len(helped) == 1


def test_a_second_core_that_nothing_would_use_is_not_borrowed() -> None:
    cores, helped = Cores(lambda: 2), list[float]()
    with DecodePool(cores).second_core(Pace(count_help=helped.append), wanted=False) as wide:
        assert not wide
        assert cores.idle == 2
    assert not helped


def test_a_call_that_raises_gives_its_core_back_and_tells_its_error() -> None:
    cores = Cores(lambda: 1)
    called = submitted(DecodePool(cores), lambda: 1 // 0)
    assert isinstance(called.exception(30), ZeroDivisionError)
    assert cores.idle == 1


def test_a_call_that_is_taken_back_gives_its_core_back_once() -> None:
    ran: list[int] = []
    cores = Cores(lambda: 2)
    pool = DecodePool(cores, threads=1)
    may_end = threading.Event()
    first, second = submitted(pool, may_end.wait, 30), submitted(pool, ran.append, 1)
    assert cores.idle == 0
    assert pool.cancel(second)
    assert cores.idle == 1
    may_end.set()
    assert first.result(30)
    assert not pool.cancel(first)
    assert submitted(pool, int).result(30) == 0
    assert cores.idle == 2
    assert not ran


def test_where_no_thread_can_be_started_nothing_is_called_and_the_core_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    cores = Cores(lambda: 2)
    ran: list[int] = []
    pool = DecodePool(cores)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert pool.submit(ran.append, 1) is None
    assert cores.idle == 2
    assert submitted(pool, int).result(30) == 0
    assert cores.idle == 2
    assert not ran


def test_the_pool_of_the_process_lends_the_cores_of_the_process() -> None:
    assert DECODE_POOL.cores is CORES
