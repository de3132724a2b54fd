"""Models stay while their form is replaced; memory is booked for work beside them, for no load."""

from __future__ import annotations

import math

import pytest

from greenroom.ledger.capacity import NOISE
from greenroom.ledger.state import State
from greenroom.ledger.transitions import LedgerStateError
from tests.ledger.driver import LedgerDriver

# Upgrades


def test_a_model_being_upgraded_does_not_expire_and_its_idle_time_runs_on() -> None:
    driver = LedgerDriver(ttl=10.0)
    driver.idle("amy")
    assert driver.begin_upgrade("amy")
    assert driver.at(11).tick() == []
    assert driver.at(12).tick() == []
    assert driver.end_upgrade("amy") == ["unload amy EXPIRED"]


def test_an_upgrade_does_not_restart_the_idle_time() -> None:
    driver = LedgerDriver(ttl=10.0)
    driver.idle("amy")
    driver.at(6)
    assert driver.begin_upgrade("amy")
    assert driver.at(8).end_upgrade("amy") == []
    assert driver.next_due() == 10
    assert driver.at(10).tick() == ["unload amy EXPIRED"]


def test_a_model_being_upgraded_is_no_victim_and_is_one_afterwards() -> None:
    driver = LedgerDriver(resident_cap=1, cap_policy="hard", ttl=-1.0)
    driver.idle("amy")
    assert driver.begin_upgrade("amy")
    assert driver.request("joe") == ["wait for joe until 30"]
    assert driver.end_upgrade("amy") == ["unload amy EVICTED"]
    assert driver.gone("amy") == ["load joe"]


def test_what_callers_do_during_an_upgrade_counts_as_ever() -> None:
    driver = LedgerDriver(ttl=10.0)
    driver.hold("amy")
    assert driver.begin_upgrade("amy")
    assert driver.hit("amy", "bob")
    assert not driver.at(3).release("amy")
    assert not driver.at(4).release("amy", "bob")
    assert driver.at(5).end_upgrade("amy") == []
    assert driver.at(14).tick() == ["unload amy EXPIRED"]


def test_a_model_that_is_unloaded_during_an_upgrade_leaves_when_it_is_over() -> None:
    driver = LedgerDriver()
    driver.idle("amy")
    assert driver.begin_upgrade("amy")
    assert driver.begin_unload("amy") == []
    assert driver["amy"].state is State.DRAINING
    assert driver.end_upgrade("amy") == ["unload amy UNLOADED"]


def test_a_drain_waits_for_the_last_holder_and_the_upgrade() -> None:
    driver = LedgerDriver()
    driver.hold("amy")
    assert driver.begin_upgrade("amy")
    assert driver.begin_unload("amy", drain=True) == []
    assert not driver.release("amy")
    assert driver.end_upgrade("amy") == ["unload amy UNLOADED"]
    driver = LedgerDriver()
    driver.hold("amy")
    assert driver.begin_upgrade("amy")
    assert driver.begin_unload("amy", drain=True) == []
    assert driver.end_upgrade("amy") == []
    assert driver.release("amy") == ["unload amy UNLOADED"]


def test_a_model_is_upgraded_once_at_a_time_and_only_while_it_is_ready() -> None:
    driver = LedgerDriver()
    driver.request("amy")
    assert not driver.begin_upgrade("amy")
    driver.loaded("amy")
    assert driver.begin_upgrade("amy")
    assert not driver.begin_upgrade("amy")
    driver.end_upgrade("amy")
    driver.begin_unload("amy", drain=True)
    assert not driver.begin_upgrade("amy")


def test_a_shutdown_unloads_no_model_that_is_being_upgraded_and_a_late_end_books_nothing() -> None:
    driver = LedgerDriver(budgets={"cpu": 10})
    driver.idle("amy", footprint=5)
    resident = driver["amy"]
    assert driver.begin_upgrade("amy")
    driver.close()
    with pytest.raises(LedgerStateError, match="a thread is inside of it"):
        driver.force_unload("amy")
    assert driver.end_upgrade("amy", footprint=1) == []
    assert driver.ledger.capacity.booked["cpu"] == 1
    assert driver.force_unload("amy") == ["unload amy SHUTDOWN"]
    with pytest.raises(LedgerStateError, match="it is not being upgraded"):
        driver.end_upgrade("amy", footprint=3)
    driver.gone("amy")
    resident.upgrading = True
    with pytest.raises(LedgerStateError, match="this life of it is not in memory"):
        driver.ledger.end_upgrade(resident, 0.0, 3)
    assert driver.ledger.capacity.booked["cpu"] == 0


@pytest.mark.parametrize("pinned", [False, True])
def test_what_a_model_takes_after_an_upgrade_is_booked_and_others_use_the_difference(
    pinned: bool,
) -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, ttl=-1.0, acquire_timeout=30.0)
    driver.hold("amy", footprint=8)
    if pinned:
        driver.pin("amy")
    assert driver.ledger.capacity.free_beside_pinned("cpu") == (2 if pinned else 10)
    assert driver.begin_upgrade("amy")
    if not pinned:
        assert driver.request("joe", footprint=6) == ["wait for joe until 30"]
        assert driver.end_upgrade("amy", footprint=3) == ["load joe"]
    else:
        assert driver.end_upgrade("amy", footprint=3) == []
        assert driver.ledger.capacity.free_beside_pinned("cpu") == 7
        assert driver.request("joe", footprint=6) == ["load joe"]


# Reservations


def test_a_reservation_is_granted_where_it_fits_and_evicts_nobody() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, ttl=-1.0)
    driver.idle("amy", footprint=6)
    assert not driver.ledger.reserve(5)
    assert driver.ledger.reserve(4)
    assert driver.states() == {"amy": "ready"}
    assert driver.tick() == []


def test_there_is_one_reservation_at_a_time() -> None:
    driver = LedgerDriver(budgets={"cpu": 10})
    assert driver.ledger.reserve(4)
    assert not driver.ledger.reserve(4)
    driver.unreserve()
    assert driver.ledger.reserve(4)


def test_nothing_is_reserved_while_somebody_waits_or_a_load_runs() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, ttl=-1.0)
    driver.request("amy", footprint=2)
    assert not driver.ledger.reserve(1)
    driver.loaded("amy")
    assert driver.request("joe", footprint=9) == ["wait for joe until 30"]
    assert not driver.ledger.reserve(1)
    driver.cancel("joe")
    assert driver.ledger.reserve(1)


def test_a_load_waits_for_reserved_room_evicts_nobody_for_it_and_is_told_to_be_in_need() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, ttl=-1.0)
    driver.idle("amy", footprint=3)
    assert driver.ledger.reserve(4)
    assert driver.request("joe", footprint=2) == ["load joe"]
    driver.loaded("joe")
    assert not driver.ledger.reservation_blocks_callers
    assert driver.request("kim", footprint=4) == ["wait for kim until 30"]
    assert driver.ledger.reservation_blocks_callers
    assert driver.unreserve() == ["load kim"]
    assert not driver.ledger.reservation_blocks_callers


def test_nothing_is_reserved_while_the_process_takes_more_than_the_budget() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, ttl=-1.0)
    driver.observed(cpu=NOISE + 11)
    assert not driver.ledger.reserve(1)
    driver.observed(cpu=10)
    assert driver.ledger.reserve(1)


def test_reserved_work_gives_way_to_a_caller_whom_an_overdraft_keeps_out() -> None:
    driver = LedgerDriver(budgets={"cpu": 10, "cuda:0": 10}, ttl=-1.0, resident_cap=9)
    driver.hold("amy", footprint=1)
    assert driver.ledger.reserve(4)
    driver.observed(cpu=NOISE + 11)
    assert not driver.ledger.reservation_blocks_callers
    assert driver.request("joe", footprint=1, device="cuda:0") == ["load joe"]
    assert not driver.ledger.reservation_blocks_callers
    assert driver.request("kim", footprint=1) == ["wait for kim until 30"]
    assert driver.ledger.reservation_blocks_callers


@pytest.mark.parametrize("cap_policy", ["soft", "hard"])
def test_nobody_is_refused_because_of_a_reservation(cap_policy: str) -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, ttl=-1.0, cap_policy=cap_policy)
    driver.hold("amy", footprint=3)
    driver.pin("amy")
    assert driver.ledger.reserve(7)
    assert driver.request("joe", footprint=7) == ["wait for joe until 30"]
    assert driver.ledger.reservation_blocks_callers
    assert driver.unreserve() == ["load joe"]


def test_a_reservation_is_of_the_machines_memory_alone() -> None:
    driver = LedgerDriver(budgets={"cpu": 10, "cuda:0": 10}, ttl=-1.0)
    assert driver.ledger.reserve(10)
    assert driver.request("amy", footprint=10, device="cuda:0") == ["load amy"]
    assert not driver.ledger.reservation_blocks_callers


def test_what_pinned_models_leave_no_room_for_can_never_be_reserved() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, ttl=-1.0)
    driver.idle("amy", footprint=6)
    assert driver.ledger.can_ever_reserve(10)
    assert not driver.ledger.reserve(10)
    driver.pin("amy")
    assert not driver.ledger.can_ever_reserve(5)
    assert driver.ledger.can_ever_reserve(4)


def test_without_a_budget_anything_may_be_reserved_and_nothing_after_the_end() -> None:
    driver = LedgerDriver()
    assert driver.ledger.reserve(10**15)
    driver.unreserve()
    driver.close()
    assert not driver.ledger.reserve(1)


@pytest.mark.parametrize(("reserved", "missing"), [(1, 1), (4, 1), (4, 4)])
def test_reserved_work_gives_way_as_soon_as_one_byte_of_it_is_missing(
    reserved: int, missing: int
) -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, ttl=-1.0)
    assert driver.ledger.reserve(reserved)
    assert driver.ledger.capacity.free_bytes("cpu") == 10 - reserved
    assert driver.ledger.capacity.free_bytes("gpu") == math.inf
    footprint = 10 - reserved + missing
    assert driver.request("joe", footprint=footprint) == ["wait for joe until 30"]
    assert driver.ledger.reservation_blocks_callers


def test_reserved_work_goes_on_while_a_caller_waits_for_another_reason() -> None:
    driver = LedgerDriver(budgets={"cpu": 10}, ttl=-1.0, resident_cap=1, cap_policy="hard")
    driver.hold("amy", footprint=3)
    assert driver.ledger.reserve(4)
    assert driver.request("joe", footprint=3) == ["wait for joe until 30"]
    assert not driver.ledger.reservation_blocks_callers
