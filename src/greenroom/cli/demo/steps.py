"""The steps of the tour, in order. The first line of a step's docstring is its heading."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from greenroom.cli.demo.tour import Tour, megabytes
from greenroom.cli.terminal.console import spinner
from greenroom.cli.terminal.stopwatch import Stopwatch
from greenroom.config.schema import DEFAULT_MODEL_ID
from greenroom.effects.lease import Lease
from greenroom.errors import CapacityError
from greenroom.journal import Kind
from greenroom.ledger.state import Reason

DEFAULT = DEFAULT_MODEL_ID
CALM, FAST, SLOW, LIVELY = (f"piper-demo-{name}" for name in ("calm", "fast", "slow", "lively"))

GIVEN_BACK = 0.8
"""The share of the voices' memory that must be given back at the end."""


async def engine(tour: Tour) -> None:
    """The engine alone: one voice is loaded, and unloaded again."""
    with spinner("loading the first voice"):
        await tour.manager.initialize()
    loaded = tour.manager.list_resident()[0]
    with_one = tour.measure("with one voice")
    await tour.manager.unload(DEFAULT)
    rest = tour.measure("with the engine alone")
    tour.show_decisions()
    tour.claim(
        f"loaded in {loaded.load_s:.2f} s, first words after another {loaded.warmup_s:.2f} s",
        loaded.state == "ready",
    )
    tour.claim(
        f"memory of this process: {megabytes(tour.memory['at the start'])} at the start, "
        f"{megabytes(with_one)} with the voice, {megabytes(rest)} when it has gone "
        "(the engine's code stays)",
        rest < with_one,
    )


async def sharing(tour: Tour) -> None:
    """Two callers want one voice at the same moment."""
    loads = tour.manager.statistics().loads
    alice, bob = tour.manager.lease(CALM, owner="alice"), tour.manager.lease(CALM, owner="bob")
    async with holding(alice, bob):
        tour.show_decisions()
        tour.show_residents()
        loads = tour.manager.statistics().loads - loads
        references = tour.manager.list_resident()[0].refcount
        tour.claim(
            f"{loads} load, {references} references, and both have the same object",
            (loads, references) == (1, 2) and alice.adapter is bob.adapter,
        )


async def speaking(tour: Tour) -> None:
    """Two callers speak at once, each with a voice of its own."""
    alice, bob = tour.manager.lease(CALM, owner="alice"), tour.manager.lease(FAST, owner="bob")
    async with holding(bob):
        async with holding(alice):
            tour.show_decisions()
            first, second = await asyncio.gather(
                tour.speak(alice, "I speak calmly. Nobody has to wait for me. There is time."),
                tour.speak(bob, "I am in a hurry. I do not wait for anybody! Off I go."),
            )
        await tour.speak(bob, "Alice has gone. I am still here.", part=2)
    tour.claim(
        "each was heard while the other was still being made",
        first.first_audio_at < second.last_audio_at and second.first_audio_at < first.last_audio_at,
    )


async def eviction(tour: Tour) -> None:
    """A fourth voice is wanted, and there is room for three."""
    manager = tour.manager
    async with holding(manager.lease(DEFAULT, owner="carol")):
        pass
    tour.measure("with three voices")
    tour.show_decisions()
    tour.show_residents()
    oldest = max(manager.list_resident(), key=lambda resident: resident.idle_s).model_id
    dave = manager.lease(SLOW, owner="dave")
    async with holding(dave):
        tour.show_decisions()
        left = {r.model_id for r in manager.list_resident()}
        evicted = any(
            event.reason.startswith(Reason.EVICTED) for event in manager.journal.events(oldest)
        )
        tour.claim(
            f"{oldest}, idle for the longest time, made room for {SLOW}; "
            f"there are {len(left)} voices",
            evicted and oldest not in left and SLOW in left and len(left) == 3,
        )
        await tour.speak(dave, "Thank you for the room.")


async def refusal(tour: Tour) -> None:
    """Every voice is held, and one more is wanted."""
    manager = tour.manager
    held = [
        manager.lease(resident.model_id, owner=owner)
        for owner, resident in zip(("bob", "carol", "dave"), manager.list_resident(), strict=True)
    ]
    async with holding(*held):
        tour.show_residents()
        stopwatch = Stopwatch()
        try:
            async with holding(manager.lease(LIVELY, owner="erin")):
                tour.claim(f"there is no room for {LIVELY}, and erin got it", holds=False)
        except CapacityError as error:
            tour.show_decisions()
            tour.claim(
                f"erin is told after {stopwatch.seconds:.2f} s: {error}",
                error.retry_after is not None,
            )
        await _second_try(tour, manager.lease(LIVELY, owner="erin"), held[0])


async def _second_try(tour: Tour, erin: Lease, leaving: Lease) -> None:
    news = tour.manager.subscribe()
    stopwatch = Stopwatch()
    asking = asyncio.create_task(erin.acquire())
    async for event in news:
        if event.kind is Kind.WAITING:
            break
    await news.aclose()
    await leaving.release()
    await asking
    async with holding(erin):
        tour.show_decisions()
        tour.claim(
            f"erin asks again and waits, {leaving.owner} lets go of {leaving.model_id}: erin has "
            f"{LIVELY} after {stopwatch.seconds:.2f} s",
            erin.held,
        )
        await tour.speak(erin, "It was worth the wait!")


async def explaining(tour: Tour) -> None:
    """Why is a voice not in memory?"""
    explanation = tour.manager.explain(CALM)
    for line in str(explanation).splitlines():
        tour.quote(line)
    tour.claim("the reason is on record", str(Reason.EVICTED) in explanation.summary)


async def giving_back(tour: Tour) -> None:
    """Every voice is unloaded: is the memory given back?"""
    for resident in tour.manager.list_resident():
        await tour.manager.unload(resident.model_id)
    least, most = tour.memory["with the engine alone"], tour.memory["with three voices"]
    after = tour.measure("at the end")
    back = (most - after) / (most - least)
    tour.claim(
        f"{megabytes(least)} with the engine alone, {megabytes(most)} with three "
        f"voices, {megabytes(after)} now: {back:.0%} of what the voices took is given back",
        back >= GIVEN_BACK and not tour.manager.list_resident(),
    )


STEPS = (engine, sharing, speaking, eviction, refusal, explaining, giving_back)


@contextlib.asynccontextmanager
async def holding(*leases: Lease) -> AsyncIterator[None]:
    """Acquire those of `leases` that are not held yet, all at once; release all at the end."""
    try:
        with spinner("one moment"):
            await asyncio.gather(*(lease.acquire() for lease in leases if not lease.held))
        yield
    finally:
        for lease in leases:
            await lease.release()
