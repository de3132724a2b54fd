"""Owners, names and arguments of any kind, and readers that leave."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import numpy as np
import pytest

from greenroom import ModelManager
from greenroom.errors import InvalidInputError, LeaseReleasedError
from greenroom.testing import Stage
from tests.manager.running_manager import ids

pytestmark = pytest.mark.virtual_time


class OddOwner:
    """Cannot be told, and cannot be compared."""

    def __str__(self) -> str:
        raise SystemExit

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        raise RuntimeError


@pytest.mark.parametrize("owner", [[], {}, {1, 2}, np.zeros(2)])
async def test_an_owner_that_is_not_hashable_is_refused_before_anything_starts(
    manager: ModelManager, stage: Stage, owner: Any
) -> None:
    for model_id in "ab":
        with pytest.raises(InvalidInputError, match="hashable"):
            await manager.load(model_id, owner=owner)
        with pytest.raises(InvalidInputError, match="hashable"):
            await manager.release(model_id, owner=owner)
    assert stage["b"].calls["construct"] == 0
    assert manager.list_resident()[0].refcount == 0


async def test_owners_that_cannot_be_told_or_compared_hold_and_give_back_like_others(
    manager: ModelManager, stage: Stage
) -> None:
    one, two = OddOwner(), OddOwner()
    await asyncio.gather(manager.load("b", owner=one), manager.load("b", owner=two))
    await manager.load("b", owner=one)
    (found,) = (r for r in manager.list_resident() if r.model_id == "b")
    assert found.owners == ("an owner of type OddOwner",) * 2
    assert "an owner of type OddOwner" in str(manager.explain("b"))
    await manager.release("b", owner=two)
    with pytest.raises(LeaseReleasedError, match="OddOwner"):
        await manager.release("b", owner=two)
    await manager.release("b", owner=one)
    await manager.release("b", owner=one)
    async with manager.lease("b", owner=one):  # type: ignore[arg-type]
        pass
    await manager.load("c", owner=two)
    assert ids(manager) == ["a", "c"]


async def test_a_huge_or_hostile_name_is_shown_short_and_on_one_line(manager: ModelManager) -> None:
    await manager.load("a", owner="x" * 1_000_000)
    await manager.load("a", owner="\x1b[2J\nnext line")
    long, hostile = manager.list_resident()[0].owners
    assert len(long) == 200
    assert hostile == r"\x1b[2J next line"
    await manager.release("a", owner="x" * 1_000_000)
    await manager.release("a", owner="\x1b[2J\nnext line")


@pytest.mark.parametrize("ttl", [float("nan"), float("inf"), -float("inf"), "5", True, None])
async def test_a_ttl_that_is_no_number_is_refused_before_anything_changes(
    manager: ModelManager, ttl: Any
) -> None:
    with pytest.raises(InvalidInputError, match=r"^ttl_s must .*; a negative one never expires\.$"):
        manager.keep_alive("a", ttl)
    assert not [event for event in manager.journal.events("a") if event.kind == "kept"]


async def test_a_subscription_that_is_dropped_is_fed_no_more(manager: ModelManager) -> None:
    async def look() -> None:
        async for _ in manager.subscribe():
            break

    looking = asyncio.create_task(look())
    await asyncio.sleep(0)
    assert len(manager.journal._subscriptions) == 1
    manager.pin("a")
    await looking
    gc.collect()
    assert not manager.journal._subscriptions


async def test_explain_names_the_model_that_an_evicted_one_made_room_for(
    manager: ModelManager,
) -> None:
    await manager.load("b")
    await manager.release("b")
    await manager.load("c")
    assert "its room was needed for c" in manager.explain("b").summary
