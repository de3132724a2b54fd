"""The manager's cores as an engine's process sees them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from greenroom.concurrency.cores import Cores
from greenroom.hosts.engine_main import BORROW, GIVEN_BACK, LentCores


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, LentCores]]:
    manager, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with manager, its:
        manager.settimeout(30.0)
        its.settimeout(30.0)
        yield manager, LentCores(its)


def answer(manager: socket.socket, lends: bool) -> threading.Thread:
    def answering() -> None:
        assert manager.recv(64) == BORROW
        manager.sendall(bytes([lends]))

    thread = threading.Thread(target=answering)
    thread.start()
    return thread


def told(manager: socket.socket) -> int:
    (count,) = GIVEN_BACK.unpack(manager.recv(64))
    return int(count)


def elsewhere(call: Callable[[], object]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(5.0)
    assert not thread.is_alive()


def assert_silent(manager: socket.socket) -> None:
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(64)
    manager.settimeout(5.0)


def test_the_manager_is_not_asked_for_a_core_that_it_said_it_does_not_have(
    pair: tuple[socket.socket, LentCores],
) -> None:
    manager, lent = pair
    cores = Cores(lambda: 8)
    cores.defer_to(lent)
    assert (cores.idle, cores.lendable, cores.borrow()) == (0, 0, False)
    assert_silent(manager)


def test_a_core_that_came_with_the_call_is_used_again_and_again_without_a_word(
    pair: tuple[socket.socket, LentCores],
) -> None:
    manager, lent = pair
    cores = Cores(lambda: 8)
    cores.defer_to(lent)
    lent.begin_call(idle=0, lent=1)
    for _ in range(3):
        assert cores.idle == 1
        assert cores.borrow()
        assert (cores.idle, cores.borrow()) == (0, False)
        assert cores.give_back() is False
    assert_silent(manager)
    assert lent.end_call() == 1
    assert cores.idle == 0


def test_a_core_that_the_call_has_no_use_for_goes_back_at_once(
    pair: tuple[socket.socket, LentCores],
) -> None:
    manager, lent = pair
    cores = Cores(lambda: 8)
    cores.defer_to(lent)
    lent.begin_call(idle=0, lent=1)
    cores.give_back_unused()
    assert told(manager) == 1
    assert cores.idle == 1  # idle, and to be asked for
    cores.give_back_unused()
    assert lent.end_call() == 1
    assert_silent(manager)


def test_a_core_that_another_thread_computes_on_outlasts_the_call(
    pair: tuple[socket.socket, LentCores],
) -> None:
    manager, lent = pair
    lent.begin_call(idle=0, lent=1)
    assert lent.borrow()
    assert lent.end_call() == 0
    elsewhere(lent.give_back)
    assert told(manager) == 1
    lent.begin_call(idle=0, lent=1)
    assert lent.end_call() == 2


def test_a_core_that_came_with_the_call_of_one_thread_is_no_other_threads(
    pair: tuple[socket.socket, LentCores],
) -> None:
    _, lent = pair
    lent.begin_call(idle=0, lent=1)
    borrowed: list[bool] = []
    elsewhere(lambda: borrowed.append(lent.borrow()))
    assert borrowed == [False]
    assert lent.borrow()


def test_a_core_is_borrowed_and_given_back_over_the_wire(
    pair: tuple[socket.socket, LentCores],
) -> None:
    manager, lent = pair
    cores = Cores(lambda: 8)
    cores.defer_to(lent)
    lent.begin_call(idle=2, lent=0)
    assert lent.end_call() == 0
    thread = answer(manager, True)
    assert cores.borrow()
    thread.join(30.0)
    assert cores.idle == 1
    assert cores.give_back() is False
    assert told(manager) == 1
    assert cores.idle == 2


def test_a_core_that_is_refused_is_not_asked_for_again_before_the_next_call(
    pair: tuple[socket.socket, LentCores],
) -> None:
    manager, lent = pair
    lent.begin_call(idle=2, lent=0)
    thread = answer(manager, False)
    assert not lent.borrow()
    thread.join(30.0)
    assert not lent.borrow()
    lent.begin_call(idle=1, lent=0)
    thread = answer(manager, True)
    assert lent.borrow()
    thread.join(30.0)


def test_a_manager_that_is_gone_lends_nothing(pair: tuple[socket.socket, LentCores]) -> None:
    manager, lent = pair
    manager.close()
    lent.begin_call(idle=1, lent=0)
    assert not lent.borrow()
    lent.give_back()
    lent.give_back_unused()
