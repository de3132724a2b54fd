"""A process whose last model has left waits for the next, as long as nobody needs its memory."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from greenroom import Catalog, ModelManager
from greenroom.adapter import Isolation, ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.hosts import engine_process
from greenroom.hosts.engine_process import EngineProcess
from greenroom.hosts.hosted_adapter import EngineRaisedError, HostedAdapter
from greenroom.hosts.processes import EngineProcesses
from greenroom.memory.usage import MIB
from greenroom.statistics import process_statistics
from tests.hosts.hostile_engines import HostileAdapter
from tests.waiting import eventually

LONG_S = 600.0


class Place:
    """Processes that linger, and what has become of them."""

    def __init__(self, linger: float = LONG_S) -> None:
        self.processes = EngineProcesses("engine", linger=linger)
        self.crashes: list[str] = []
        self.processes.crashed = lambda process: self.crashes.append(process.ending)

    def loaded(
        self, model_id: str = "one", isolation: Isolation = "engine", **options: object
    ) -> HostedAdapter:
        spec = ModelSpec(model_id, HostileAdapter, options=options, isolation=isolation)
        model: HostedAdapter = self.processes.adapter_for(spec, HostileAdapter)
        try:
            model.start()
            model.load()
        except BaseException:
            model.unload()
            raise
        return model

    def lingering(self, text: str = "Hello.") -> EngineProcess:
        """Load a model, have it speak and unload it; return the process that it leaves behind."""
        model = self.loaded()
        list(model.synthesize(text, {}))
        process = process_of(model)
        model.unload()
        assert process.is_running
        return process

    def has_ended(self, process: EngineProcess) -> bool:
        return process not in self.processes.all and not self.processes._idle.all


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.processes.close()


def process_of(model: HostedAdapter) -> EngineProcess:
    assert model.process is not None
    return model.process


def thread_names() -> list[str]:
    return [each.name for each in threading.enumerate()]


@pytest.mark.parametrize("isolation", ["engine", "model"])
def test_the_next_model_of_its_kind_is_loaded_where_the_last_has_left(
    place: Place, isolation: Isolation
) -> None:
    first = place.loaded(isolation=isolation)
    process = process_of(first)
    first.unload()
    assert process_statistics(process).idle
    assert "greenroom-linger" in thread_names()
    second = place.loaded(isolation=isolation)
    assert process_of(second) is process
    assert not process_statistics(process).idle
    assert len(list(second.synthesize("Hello.", {}))) == 10
    eventually(lambda: "greenroom-linger" not in thread_names())
    assert process.is_running
    second.unload()
    third = place.loaded("other", isolation=isolation)
    assert (process_of(third) is process) == (isolation == "engine")
    assert place.crashes == []


def test_a_process_that_waited_in_vain_ends_and_the_thread_with_the_last() -> None:
    place = Place(linger=0.05)
    process = place.lingering()
    eventually(lambda: place.has_ended(process))
    assert process.ending == "it was no longer needed"
    eventually(lambda: "greenroom-linger" not in thread_names())
    process = place.lingering()
    eventually(lambda: place.has_ended(process))
    place.processes.close()


def test_closing_ends_what_lingers_and_lets_nothing_linger(place: Place) -> None:
    model, process = place.loaded("kept", "model"), place.lingering()
    place.processes.close()
    assert place.has_ended(process)
    model.unload()
    assert not place.processes.all
    eventually(lambda: "greenroom-linger" not in thread_names())


def test_a_death_while_it_lingers_costs_nothing(place: Place) -> None:
    process = place.lingering()
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: place.has_ended(process))
    assert (place.crashes, place.processes.crashes) == ([], {})
    again = place.loaded()
    assert process_of(again).restarts == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_one_that_does_not_answer_is_replaced_before_a_model_comes_to_it(
    place: Place, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_process, "_ANSWER_LIMIT_S", 0.2)
    process = place.lingering()
    os.kill(process.pid, number)
    model = place.loaded()
    assert process_of(model) is not process
    assert len(list(model.synthesize("Hello.", {}))) == 10
    eventually(lambda: process not in place.processes.all)
    assert (place.crashes, place.processes.crashes) == ([], {})


def test_what_failed_or_was_left_in_an_unknown_state_does_not_linger(place: Place) -> None:
    with pytest.raises(EngineRaisedError):
        place.loaded(at="load", deed="not picklable")
    assert not place.processes.all
    unwilling = place.loaded(at="unload", deed="not picklable")
    with pytest.raises(EngineRaisedError):
        unwilling.unload()
    assert not place.processes.all
    crashing = place.loaded(at="unload", deed="abort")
    crashing.unload()
    eventually(lambda: not place.processes.all)


def test_a_process_that_keeps_much_does_not_linger(place: Place) -> None:
    model = place.loaded()
    list(model.synthesize("leak", {}))
    model.unload()
    assert not place.processes.all


def test_one_whose_models_have_moved_does_not_linger(place: Place) -> None:
    model = place.loaded()
    old = process_of(model)
    place.processes.retire(old)
    model.move()
    assert place.processes.all == (process_of(model),)
    assert old.ending == "it was no longer needed"


def test_what_lingers_is_counted_and_makes_room_for_a_load_before_that_takes_any(
    place: Place,
) -> None:
    process = place.lingering("leak a little")
    kept = place.processes.growth_bytes()
    assert kept == process.growth > 10 * MIB
    place.processes.spare_bytes = lambda: 2 * kept
    assert place.lingering() is process
    place.processes.spare_bytes = lambda: process.growth - 1
    place.processes.adapter_for(ModelSpec("here", ToneTTSAdapter, isolation="none"), ToneTTSAdapter)
    assert place.has_ended(process)
    place.processes.spare_bytes = lambda: -1
    place.loaded().unload()
    assert not place.processes.all, "nothing lingers where there is no room for it"


def test_what_lingers_gives_way_when_memory_is_found_short(place: Place) -> None:
    process = place.lingering()
    place.processes.give_way()
    assert place.processes._idle.all == (process,)
    place.processes.spare_bytes = lambda: -1
    place.processes.give_way()
    eventually(lambda: place.has_ended(process))


def test_without_a_thread_to_end_it_nothing_lingers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = place.loaded()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        model.unload()
    assert not place.processes.all


def test_a_model_is_measured_alike_in_a_fresh_process_and_in_one_that_lingered(
    place: Place,
) -> None:
    def life() -> tuple[int, int]:
        spec = ModelSpec("one", HostileAdapter, options={"megabytes": 50})
        model: HostedAdapter = place.processes.adapter_for(spec, HostileAdapter)
        model.start()
        before = model.usage()
        model.load()
        assert model.has_it_to_itself
        loaded = model.usage()
        model.unload()
        after = model.usage()
        assert before is not None
        assert loaded is not None
        assert after is not None
        return loaded.anonymous - before.anonymous, after.anonymous - before.anonymous

    lives = [life() for _ in range(3)]
    for taken, left in lives:
        # A process that lingered fills what the earlier life has left to it, some megabytes.
        assert 44 * MIB <= taken < 60 * MIB, lives
        assert left < MIB, lives


def test_models_come_and_go_from_many_threads_and_none_is_lost() -> None:
    place = Place(linger=0.001)  # so that ends and loads meet
    failed: list[BaseException] = []

    def come_and_go(number: int) -> None:
        try:
            for _ in range(15):
                model = place.loaded(f"model-{number}")
                assert len(list(model.synthesize("Hello.", {}))) == 10
                model.unload()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test tells it
            failed.append(error)

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    assert not failed
    assert place.crashes == []
    eventually(lambda: not place.processes.all)
    place.processes.close()


async def test_the_budget_of_a_manager_says_what_there_is_to_spare() -> None:
    specs = [ModelSpec(name, HostileAdapter, footprint_mb=20) for name in ("one", "two")]
    manager = ModelManager(
        catalog=Catalog(specs), default_model_id="one", memory_budget_mb=50, isolation="engine"
    )
    async with manager:
        spare = manager._effects.processes.spare_bytes
        (one,) = manager._ledger.residents
        assert spare() == 50 * MIB - max(one.footprint, manager._ledger.capacity.taken["cpu"])
        assert manager._ledger.reserve(10 * MIB)
        assert spare() <= 40 * MIB - one.footprint
