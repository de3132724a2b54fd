"""The manager's cores as an engine's process sees them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from greenroom.concurrency.cores import Cores
from greenroom.hosts.engine_main import BORROW, GIVE_BACK, LentCores


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, LentCores]]:
    manager, its = socket.socketpair()
    with manager, its:
        manager.settimeout(30.0)
        its.settimeout(30.0)
        yield manager, LentCores(its)


def answer(manager: socket.socket, lends: bool) -> threading.Thread:
    def answering() -> None:
        assert manager.recv(1) == BORROW
        manager.sendall(bytes([lends]))

    thread = threading.Thread(target=answering)
    thread.start()
    return thread


def test_the_manager_is_not_asked_for_a_core_that_it_said_it_does_not_have(
    pair: tuple[socket.socket, LentCores],
) -> None:
    manager, lent = pair
    cores = Cores(lambda: 8)
    cores.defer_to(lent)
    assert (cores.idle, cores.lendable, cores.borrow()) == (0, 0, False)
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(1)


def test_a_core_is_borrowed_and_given_back_over_the_wire(
    pair: tuple[socket.socket, LentCores],
) -> None:
    manager, lent = pair
    cores = Cores(lambda: 8)
    cores.defer_to(lent)
    lent.idle = 2
    thread = answer(manager, True)
    assert cores.borrow()
    thread.join(30.0)
    assert cores.idle == 1
    assert cores.give_back() is False
    assert manager.recv(1) == GIVE_BACK
    assert cores.idle == 2


def test_a_core_that_is_refused_is_not_asked_for_again_before_the_next_call(
    pair: tuple[socket.socket, LentCores],
) -> None:
    manager, lent = pair
    lent.idle = 2
    thread = answer(manager, False)
    assert not lent.borrow()
    thread.join(30.0)
    assert not lent.borrow()
    lent.idle = 1
    thread = answer(manager, True)
    assert lent.borrow()
    thread.join(30.0)


def test_a_manager_that_is_gone_lends_nothing(pair: tuple[socket.socket, LentCores]) -> None:
    manager, lent = pair
    manager.close()
    lent.idle = 1
    assert not lent.borrow()
    lent.give_back()


def test_cores_that_others_wait_for_are_not_lent() -> None:
    cores = Cores(lambda: 2)
    assert cores.lendable == 2
    cores.wait(lambda: None)
    assert (cores.idle, cores.lendable) == (2, 0)
