"""A manager whose engines live in processes: same rules, exact measurements, clear refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.adapter import Isolation, TTSAdapter
from greenroom.errors import ConfigError, EngineCrashedError
from greenroom.hosts import processes
from greenroom.journal import Kind
from tests.hosts.hostile_engines import HostileAdapter
from tests.waiting import until


def manager_of(
    *specs: ModelSpec, isolation: Isolation = "model", resident_cap: int = 8
) -> ModelManager:
    return ModelManager(
        catalog=Catalog(specs),
        default_model_id=specs[0].model_id,
        resident_cap=resident_cap,
        min_residency_ms=0,
        isolation=isolation,
    )


def test_an_adapter_that_no_process_can_import_is_refused_before_anything_starts() -> None:
    class Local(HostileAdapter):
        pass

    with pytest.raises(ConfigError, match=r"Local cannot be imported .* set isolation to none"):
        manager_of(ModelSpec("one", Local))
    assert manager_of(ModelSpec("one", Local), isolation="none")
    assert manager_of(ModelSpec("one", Local, isolation="none"))


@pytest.mark.parametrize("libraries", [None, "numpy", ("numpy", 5), ("../numpy",), ("a..b",)])
def test_libraries_that_are_no_names_of_modules_are_refused_before_anything_starts(
    libraries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HostileAdapter, "libraries", libraries)
    with pytest.raises(ConfigError, match="the `libraries` of adapter HostileAdapter must be"):
        manager_of(ModelSpec("one", HostileAdapter))
    monkeypatch.setattr(HostileAdapter, "libraries", ["numpy", "os.path"])
    assert manager_of(ModelSpec("one", HostileAdapter))


async def test_what_a_model_takes_is_measured_in_its_own_process_whatever_speaks_beside_it() -> (
    None
):
    sizes = {"small": 20, "large": 60}
    specs = [ModelSpec(name, HostileAdapter, options={"megabytes": n}) for name, n in sizes.items()]
    async with manager_of(ModelSpec("first", HostileAdapter), *specs) as manager:
        adapter = await manager.load("first")
        async with adapter.synthesize_stream("Hello.") as running:
            await anext(running)
            running.pause()
            for name in sizes:
                async with manager.lease(name):
                    pass
        seen = {r.model_id: r.footprint_mb for r in manager.list_resident()}
    for name, size in sizes.items():
        assert size <= seen[name] < size + 12, seen


@pytest.mark.parametrize(("isolation", "parts"), [("engine", [2]), ("model", [1, 1])])
async def test_what_models_have_in_common_is_shared_by_those_of_one_process(
    isolation: Isolation, parts: list[int]
) -> None:
    shared = {"shared": ("graph", 64 << 20)}
    specs = [ModelSpec(name, HostileAdapter, options=shared) for name in ("one", "two")]
    async with manager_of(*specs, isolation=isolation) as manager:
        for spec in specs:
            async with manager.lease(spec.model_id):
                pass
        found = manager.statistics()
        assert [len(part.model_ids) for part in found.shared] == parts
        assert {part.size_mb for part in found.shared} == {64.0}
        assert all(part.name.startswith("graph in ") for part in found.shared)
        assert found.footprint_mb == sum(r.footprint_mb for r in found.residents)


async def test_a_crash_takes_its_model_out_of_memory_and_the_next_caller_has_it_again() -> None:
    async with manager_of(ModelSpec("one", HostileAdapter)) as manager:
        lease = manager.lease("one", owner="ann")
        await lease.acquire()
        with pytest.raises(EngineCrashedError, match="SIGSEGV"):
            async for _ in lease.synthesize_stream("segmentation fault"):
                pass
        async with manager.lease("one", owner="bob") as next_lease:
            assert [frame async for frame in next_lease.synthesize_stream("Hello.")]
            assert manager.list_resident()[0].owners == ("bob",)
            await lease.release()
            assert manager.list_resident()[0].owners == ("bob",)
        kinds = [event.kind for event in manager.journal.events("one")]
        assert Kind.CRASHED in kinds
        assert manager.statistics().departures == {"crashed": 1}


async def test_a_load_that_hangs_is_killed_and_its_room_is_free() -> None:
    hangs = ModelSpec("hangs", HostileAdapter, options={"at": "load", "deed": "hold the lock"})
    manager = ModelManager(
        # The other in this process: to start one may take longer than the limit.
        catalog=Catalog([ModelSpec("one", HostileAdapter, isolation="none"), hangs]),
        default_model_id="one",
        load_timeout_ms=3_000,
        isolation="model",
    )
    async with manager:
        with pytest.raises(Exception, match="did not load within 3 s"):
            await manager.load("hangs")
        await until(lambda: [r.model_id for r in manager.list_resident()] == ["one"])
        assert manager.statistics().hanging == ()


async def test_a_shutdown_leaves_no_process_behind() -> None:
    manager = manager_of(ModelSpec("one", HostileAdapter), ModelSpec("two", HostileAdapter))
    await manager.initialize()
    await manager.load("two")
    processes = manager._effects.processes.all
    assert len(processes) == 2
    await asyncio.wait_for(manager.shutdown(drain_timeout_ms=0), 20)
    assert all(not process.is_running for process in processes)
    assert manager._effects.processes.all == ()


async def test_where_no_process_can_be_had_engines_stay_here_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Local(HostileAdapter):
        pass

    monkeypatch.setattr(processes, "is_supported", lambda: False)
    processes._say_unsupported.cache_clear()
    async with manager_of(ModelSpec("one", Local), ModelSpec("two", Local)) as manager:
        async with manager.lease("two") as lease:
            assert [frame async for frame in lease.synthesize_stream("Hello.")]
        assert manager.statistics().processes == ()
    assert caplog.text.count("this system cannot isolate them") == 1


def test_the_contract_has_engines_say_little() -> None:
    assert TTSAdapter.libraries == ()
    assert TTSAdapter.offline is False
