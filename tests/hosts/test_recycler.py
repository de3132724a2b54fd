"""A process that keeps more and more memory is left for a fresh one, and no caller notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.hosts import recycler
from greenroom.hosts.engine_process import EngineProcess
from greenroom.hosts.hosted_adapter import HostedAdapter
from greenroom.hosts.recycler import KEPT_BYTES, keeps_too_much
from greenroom.journal import Kind
from greenroom.ledger.residency import Residency
from greenroom.memory.usage import MIB
from tests.hosts.hostile_engines import HostileAdapter
from tests.waiting import until


@pytest.mark.parametrize(
    ("growth", "booked", "too_much"),
    [
        (KEPT_BYTES, 0, False),
        (KEPT_BYTES + 1, 0, True),
        (100 * MIB + KEPT_BYTES, 100 * MIB, False),
        (100 * MIB + KEPT_BYTES + 1, 100 * MIB, True),
        (1_500 * MIB, 1_000 * MIB, False),
        (1_500 * MIB + 1, 1_000 * MIB, True),
    ],
)
def test_a_process_may_take_half_more_than_is_booked_and_at_least_128_mb(
    growth: int, booked: int, too_much: bool
) -> None:
    assert keeps_too_much(growth, booked) is too_much


@pytest.fixture
async def manager() -> AsyncIterator[ModelManager]:
    specs = [ModelSpec(name, HostileAdapter, footprint_mb=1) for name in ("one", "two")]
    manager = ModelManager(
        catalog=Catalog(specs),
        default_model_id="one",
        preload_model_ids=["two"],
        isolation="engine",
    )
    async with manager:
        yield manager


def process_of(manager: ModelManager, model_id: str) -> EngineProcess:
    resident = manager._ledger.get(model_id)
    assert resident is not None
    assert isinstance(resident.instance, HostedAdapter)
    assert resident.instance.process is not None
    return resident.instance.process


async def say(manager: ModelManager, model_id: str, text: str) -> int:
    async with manager.lease(model_id) as lease:
        return len([frame async for frame in lease.synthesize_stream(text)])


async def moved(manager: ModelManager) -> None:
    await until(lambda: len([e for e in manager.journal.events() if e.kind is Kind.RECYCLED]) == 2)


async def test_models_move_while_they_speak_and_the_memory_comes_back(
    manager: ModelManager,
) -> None:
    old = process_of(manager, "one")
    assert process_of(manager, "two") is old
    whole = await say(manager, "one", "Hello.")
    async with manager.lease("one") as lease:
        async with lease.synthesize_stream("Hello.") as running:
            heard = 1
            await anext(running)
            running.pause()
            assert await say(manager, "two", "leak") == whole
            await moved(manager)
            assert process_of(manager, "one") is process_of(manager, "two") is not old
            assert await say(manager, "one", "Hello.") == whole
            running.resume()
            async for _ in running:
                heard += 1
        assert heard == whole
    await until(lambda: old not in manager._effects.processes.all)
    assert old.ending == "it was no longer needed"
    assert process_of(manager, "one").growth_bytes() < KEPT_BYTES
    assert {r.model_id: str(r.state) for r in manager.list_resident()} == {
        "one": "ready",
        "two": "ready",
    }


async def test_it_is_not_done_again_and_again(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recycler, "keeps_too_much", lambda *_: True)
    await say(manager, "one", "Hello.")
    await moved(manager)
    there = process_of(manager, "one")
    for _ in range(3):
        manager._effects.recycler.consider()
        await asyncio.sleep(0.05)
    assert process_of(manager, "one") is there


async def test_the_second_copy_of_a_model_that_moves_is_booked(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    capacity, move, booked = manager._ledger.capacity, HostedAdapter.move, []

    def noted(adapter: HostedAdapter) -> None:
        booked.append(capacity.reserved)
        move(adapter)

    monkeypatch.setattr(HostedAdapter, "move", noted)
    monkeypatch.setattr(recycler, "keeps_too_much", lambda *_: True)
    footprints = [resident.footprint for resident in manager._ledger.residents]
    await moved(manager)
    assert booked == footprints
    await until(lambda: not capacity.reserved)


async def test_where_there_is_no_room_for_a_second_copy_a_model_moves_all_the_same(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recycler, "ROOM_LIMIT_S", 0.01)
    assert manager._ledger.reserve(5)
    monkeypatch.setattr(recycler, "keeps_too_much", lambda *_: True)
    await moved(manager)
    await asyncio.sleep(0)
    assert manager._ledger.capacity.reserved == 5


async def test_no_preparation_is_ended_for_memory_that_a_move_has_reserved(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Residency, "reservation_blocks_callers", True)
    manager._effects.preparations.give_way()
    assert not manager._effects.preparations._giving_way


async def test_a_model_that_cannot_be_loaded_anew_stays_where_it_is(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    old = process_of(manager, "one")

    def fail(adapter: HostedAdapter) -> None:
        adapter._take_process(adapter.spec, -1)
        raise OSError("no more")

    monkeypatch.setattr(HostedAdapter, "move", fail)
    monkeypatch.setattr(recycler, "keeps_too_much", lambda *_: True)
    await say(manager, "one", "Hello.")
    await until(lambda: "two stays in its process: OSError: no more" in caplog.text)
    assert process_of(manager, "one") is old
    assert await say(manager, "one", "Hello.")
