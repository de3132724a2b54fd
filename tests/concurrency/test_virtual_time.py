"""The clock of tests waits for every thread that runs, and for none that waits at a gate."""

from __future__ import annotations

import asyncio
import time

import pytest

from greenroom import testing
from greenroom.concurrency.threads import DaemonExecutor
from greenroom.testing import Gate, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


async def test_settling_waits_for_a_call_of_the_loops_own_executor(clock: VirtualTimeLoop) -> None:
    task = asyncio.create_task(asyncio.to_thread(time.sleep, 0.05))
    await clock.settle()
    assert task.done()


async def test_settling_does_not_wait_for_a_call_that_waits_at_a_gate(
    clock: VirtualTimeLoop,
) -> None:
    gate = Gate()
    gate.hold()
    task = asyncio.create_task(asyncio.to_thread(gate.go_through))
    await clock.settle()
    assert gate.waiting == 1
    gate.open()
    await task


async def test_a_gate_that_was_never_opened_is_waited_at_no_longer(
    clock: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "_LONGEST_HOLD", 0.05)
    gate, before = Gate(), Gate.held()
    gate.hold()
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(gate.go_through)
    assert gate.waiting == 0
    assert Gate.held() == before
    executor = DaemonExecutor("test", 1)
    task = asyncio.create_task(executor.run(lambda: time.sleep(0.05)))
    await clock.settle()
    assert task.done()
    executor.close()
