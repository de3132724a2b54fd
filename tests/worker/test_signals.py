"""The first signal drains a worker, the second hurries it, the third is the end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom.worker.signals import ended_by_signals

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LIMIT_S = 30.0


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Give every test handlers of its own, which it must leave as they were."""

    def mine(*_: object) -> None:
        raise AssertionError("it came after the end")

    before = {number: signal.signal(number, mine) for number in ENDING}
    yield
    left = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert set(left.values()) <= {mine, signal.SIG_IGN}


@pytest.mark.parametrize("second", ENDING)
@pytest.mark.parametrize("first", ENDING)
async def test_the_first_signal_stops_and_the_second_hurries(
    first: signal.Signals, second: signal.Signals
) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    with ended_by_signals(stop, hurry):
        os.kill(os.getpid(), first)
        await asyncio.wait_for(stop.wait(), LIMIT_S)
        assert not hurry.is_set()
        os.kill(os.getpid(), second)
        await asyncio.wait_for(hurry.wait(), LIMIT_S)


async def test_after_the_second_signal_the_next_ends_the_process_whatever_it_hangs_in() -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    with ended_by_signals(stop, hurry):
        stop.set()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(hurry.wait(), LIMIT_S)
        assert {signal.getsignal(number) for number in ENDING} == {signal.SIG_DFL}


async def test_a_hangup_has_the_configuration_read_again_and_ends_nothing() -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    again = asyncio.Event()
    with ended_by_signals(stop, hurry, again.set):
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(again.wait(), LIMIT_S)
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stop.wait(), LIMIT_S)
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(hurry.wait(), LIMIT_S)


async def test_a_hangup_of_a_terminal_that_is_gone_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = tmp_path / "tty"
    terminal.touch()
    monkeypatch.setattr("greenroom.worker.signals._TERMINAL", str(terminal))
    stop, again = asyncio.Event(), asyncio.Event()
    with ended_by_signals(stop, asyncio.Event(), again.set):
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(again.wait(), LIMIT_S)
        terminal.unlink()
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(stop.wait(), LIMIT_S)


async def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = asyncio.Event()
    with ended_by_signals(stop, asyncio.Event()):
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        await asyncio.sleep(0)
    assert not stop.is_set()
