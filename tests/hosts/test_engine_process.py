"""What a process takes of the manager's is given back at its end, however it ends."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import psutil
import pytest

from greenroom import Catalog, ModelManager
from greenroom.adapter import ModelSpec
from greenroom.errors import EngineCrashedError, ModelLoadError
from greenroom.hosts.engine_process import EngineProcess
from greenroom.hosts.hosted_adapter import HostedAdapter
from greenroom.hosts.processes import EngineProcesses
from tests.hosts.hostile_engines import HostileAdapter
from tests.waiting import eventually

SOON_S = 30.0


@pytest.fixture(scope="module")
def place() -> Iterator[EngineProcesses]:
    made = EngineProcesses("model")
    yield made
    made.close()


def loaded(place: EngineProcesses, **options: object) -> HostedAdapter:
    spec = ModelSpec("one", HostileAdapter, options=options)
    model: HostedAdapter = place.adapter_for(spec, HostileAdapter)
    try:
        model.start()
        model.load()
    except BaseException:
        model.unload()
        raise
    return model


def process_of(model: HostedAdapter) -> EngineProcess:
    assert model.process is not None
    return model.process


def held() -> tuple[int, set[str]]:
    """Return how many descriptors this process has, and the names of its threads."""
    names = {thread.name for thread in threading.enumerate()}
    return len(os.listdir("/proc/self/fd")), names


def at_rest(place: EngineProcesses) -> tuple[int, set[str]]:
    """Return what is held when the fork server runs and nothing else."""
    loaded(place).unload()
    eventually(lambda: not any("greenroom-watch" in each for each in held()[1]))
    return held()


def test_no_descriptor_thread_or_process_is_left_of_those_that_ended(
    place: EngineProcesses,
) -> None:
    before = at_rest(place)
    for _ in range(3):
        loaded(place).unload()
        crashing = loaded(place)
        with pytest.raises(EngineCrashedError):
            list(crashing.synthesize("kill", {}))
        crashing.unload()
        with pytest.raises(ModelLoadError):
            loaded(place, at="load", deed="exit")
        given_up = loaded(place)
        chunks = given_up.synthesize("Hello.", {})
        next(chunks)
        process_of(given_up).kill("the test is over")
        chunks.close()  # type: ignore[attr-defined]
        given_up.unload()
    eventually(lambda: not place.all and held() == before)


def test_a_load_for_which_no_descriptor_is_left_fails_and_leaves_none(
    place: EngineProcesses,
) -> None:
    before = at_rest(place)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The numbers in between, so that a limit is one on how many there are.
    highest = max(map(int, os.listdir("/proc/self/fd")))
    fillers = [os.open(os.devnull, os.O_RDONLY)]
    while fillers[-1] < highest:
        fillers.append(os.open(os.devnull, os.O_RDONLY))
    problems = []
    for spare in range(1, 12):
        resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + spare, hard))
        try:
            model = loaded(place)
        except ModelLoadError as error:
            problems.append(str(error))
            continue
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        model.unload()
    for filler in fillers:
        os.close(filler)
    assert problems
    assert all("descriptor" in each for each in problems)
    eventually(lambda: not place.all and held() == before)


def test_a_process_that_no_thread_can_watch_is_killed(
    place: EngineProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = at_rest(place)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ModelLoadError, match="no thread can be started to watch it"):
            loaded(place)
    eventually(lambda: held() == before)
    loaded(place).unload()


def test_killing_what_has_ended_kills_nothing_that_has_its_numbers(place: EngineProcesses) -> None:
    model = loaded(place)
    process = process_of(model)
    process.kill("the test says so")
    model.unload()
    number = os.open(os.devnull, os.O_RDONLY)
    os.dup2(number, process._end)  # so that the bystander's own descriptors have other numbers
    if number != process._end:
        os.close(number)
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        number = os.pidfd_open(bystander.pid)
        os.dup2(number, process._end)
        process.kill("again")
        signal.pidfd_send_signal(number, 0)
        with pytest.raises(subprocess.TimeoutExpired):
            bystander.wait(0.1)
        os.close(process._end)
        if number != process._end:
            os.close(number)
    finally:
        bystander.communicate()


def test_a_model_joins_no_process_that_its_last_model_is_leaving() -> None:
    place = EngineProcesses("engine")
    failed: list[BaseException] = []

    def come_and_go(number: int) -> None:
        spec = ModelSpec(f"model-{number}", HostileAdapter)
        try:
            for _ in range(10):
                model: HostedAdapter = place.adapter_for(spec, HostileAdapter)
                model.start()
                model.load()
                model.unload()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test tells it
            failed.append(error)

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON_S * 4)
    place.close()
    assert not failed


def test_loads_during_the_close_fail_and_leave_no_process() -> None:
    place = EngineProcesses("model")
    loaded(place).unload()
    outcomes: list[str] = []

    def load_again_and_again() -> None:
        while True:
            try:
                loaded(place).unload()
            except ModelLoadError as error:
                outcomes.append(str(error))
                if "the manager is closed" in str(error):
                    return

    threads = [threading.Thread(target=load_again_and_again) for _ in range(3)]
    for thread in threads:
        thread.start()
    place.close()
    for thread in threads:
        thread.join(SOON_S)
    assert sum("the manager is closed" in each for each in outcomes) == 3
    eventually(lambda: not place.all)


def test_processes_of_a_manager_that_is_dropped_without_a_shutdown_end() -> None:
    async def use() -> list[int]:
        manager = ModelManager(
            catalog=Catalog([ModelSpec("one", HostileAdapter)]),
            default_model_id="one",
            isolation="engine",
        )
        await manager.initialize()
        async with manager.lease("one") as lease:
            assert [frame async for frame in lease.synthesize_stream("Hello.")]
        processes = manager._effects.processes
        assert processes._launcher is not None
        return [processes._launcher.pid or 0, *(each.pid for each in processes.all)]

    pids = asyncio.run(use())
    assert len(pids) == 2

    def have_ended() -> bool:
        gc.collect()
        return not any(map(psutil.pid_exists, pids))

    eventually(have_ended)
