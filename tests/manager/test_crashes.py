"""Engines that crash in their process: what the library's own callers notice."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

import pytest

from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.errors import EngineCrashedError, SynthesisError
from tests.hosts.hostile_engines import HostileAdapter
from tests.waiting import until


@pytest.fixture
async def manager() -> AsyncIterator[ModelManager]:
    catalog = Catalog([ModelSpec("a", HostileAdapter)])
    async with ModelManager(catalog=catalog, default_model_id="a", isolation="engine") as made:
        yield made


def kill(manager: ModelManager) -> None:
    (process,) = manager._effects.processes.all
    os.kill(process.pid, signal.SIGKILL)


async def test_a_lease_says_that_its_model_crashed_and_how_to_go_on(manager: ModelManager) -> None:
    async with manager.lease("a") as lease:
        assert not lease.crash
        begun = lease.synthesize_stream("Hello.")
        kill(manager)
        await until(lambda: lease.crash)
        with pytest.raises(EngineCrashedError, match=r"SIGKILL\. Take another lease"):
            lease.synthesize_stream("Hello.")
        with pytest.raises(EngineCrashedError, match="SIGKILL"):
            await anext(begun)
        await lease.retake()
        assert not lease.crash
        assert len([frame async for frame in lease.synthesize_stream("Hello.")]) == 50
    assert [each.refcount for each in manager.list_resident()] == [0]
    assert manager._ledger._lost == {}


async def test_a_lease_that_is_dropped_after_a_crash_is_given_back(manager: ModelManager) -> None:
    leases = [await manager.lease("a").acquire()]
    kill(manager)
    await until(lambda: leases[0].crash)
    with pytest.warns(ResourceWarning, match="never released"):
        leases.clear()
    await until(lambda: not manager._ledger._lost)


async def test_a_process_that_is_killed_for_its_time_limit_is_counted_as_that() -> None:
    catalog = Catalog([ModelSpec("a", HostileAdapter, isolation="engine")])
    manager = ModelManager(catalog=catalog, default_model_id="a", synthesis_timeout_ms=300)
    async with manager, manager.lease("a") as lease:
        with pytest.raises(SynthesisError, match=r"no audio within 0\.3 s"):
            async for _ in lease.synthesize_stream("hang"):
                pass
        await until(lambda: lease.crash)
        assert manager.statistics().crashes == {("HostileAdapter", "time_limit"): 1}
        assert "it did not answer within 0.8 s" in str(manager.explain("a"))


async def test_why_a_model_is_not_in_memory_is_its_crash(manager: ModelManager) -> None:
    manager.unpin("a")
    kill(manager)
    await until(lambda: not manager.list_resident())
    assert "it was killed by SIGKILL" in manager.explain("a").summary
    assert manager.statistics().processes == ()
