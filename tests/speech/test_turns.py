"""A turn in a model, from a sentence's first step to its end: whose core it waits for, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytest

from greenroom.concurrency.cores import Cores
from greenroom.errors import ModelManagerError
from greenroom.speech.cost import SpeechCost
from greenroom.speech.dispatcher import Dispatcher
from greenroom.speech.host import ModelHost, ModelTurn, ModelUse, StatedVoice
from greenroom.testing import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time

T = TypeVar("T")


class AtOnce:
    """Runs steps in the event loop, as long as they take of its time."""

    def __init__(self) -> None:
        self.hangs = asyncio.Event()

    async def run(self, step: Callable[[], T], **_: Any) -> T:
        await self.hangs.wait()
        return step()


class NobodySpeaks:
    """The working side of a stream that does nothing."""

    def stop(self) -> None: ...

    def fail(self, error: ModelManagerError) -> None: ...

    def notify_turn_wanted(self) -> None: ...


def use_of(cores: Cores, dispatcher: Dispatcher | None = None) -> tuple[ModelHost, ModelUse]:
    host = ModelHost(
        "voice",
        executor=AtOnce(),  # type: ignore[arg-type]
        dispatcher=dispatcher or Dispatcher(cores),
        voice=StatedVoice(22_050, concurrency=1),
        cost=SpeechCost(),
        limit=60.0,
        opened=lambda: None,
        closed=lambda _: None,
        silent=lambda reason: None,
    )
    return host, host.open(NobodySpeaks())


async def test_who_comes_to_wait_for_the_turn_hurries_its_holder_who_waits_for_a_core(
    clock: VirtualTimeLoop,
) -> None:
    cores = Cores(lambda: 1)
    host, holder = use_of(cores)
    other_host, other = use_of(cores, host.dispatcher)
    now = host.loop.time()
    for use, due in ((holder, 9.0), (other, 5.0)):
        use.state.heard, use.state.due = True, now + due
    turn, others_turn = await holder.enter(), await other.enter()
    assert cores.take()
    done: list[str] = []
    steps = [
        asyncio.create_task(each.run(partial(done.append, name)))
        for each, name in ((turn, "holder"), (others_turn, "other"))
    ]
    await clock.settle()
    urgent = host.open(NobodySpeaks())
    urgent.state.heard, urgent.state.due = True, now + 1.0
    waiting = asyncio.create_task(urgent.enter())
    await clock.settle()
    for each in (host, other_host):
        each.executor.hangs.set()  # type: ignore[attr-defined]
    cores.give_back()
    await asyncio.wait(steps)
    assert done == ["holder", "other"]
    for held in (turn, others_turn):
        held.leave()
    (await waiting).leave()


async def test_a_prefetch_that_hangs_lends_its_core(clock: VirtualTimeLoop) -> None:
    cores = Cores(lambda: 1)
    host, use = use_of(cores)
    prefetched = use.enter_now()
    assert isinstance(prefetched, ModelTurn)
    hanging = asyncio.create_task(prefetched.run_on_idle_core(lambda: "made"))
    await clock.settle()
    other_host, other = use_of(cores, host.dispatcher)
    other_host.executor.hangs.set()  # type: ignore[attr-defined]
    turn = await other.enter()
    step = asyncio.create_task(turn.run(lambda: "spoken"))
    await clock.advance(0.5)
    assert not step.done()
    await clock.advance(1.0)
    assert await step == "spoken"
    host.executor.hangs.set()  # type: ignore[attr-defined]
    assert await hanging == "made"
    assert cores.idle == 1
    turn.leave()
    prefetched.leave()
