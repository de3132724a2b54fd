"""Models stay while their form is replaced; memory is booked for work beside them, for no load."""

from __future__ import annotations

import pytest

from greenroom.ledger.capacity import NOISE
from greenroom.ledger.state import State
from tests.ledger.driver import Desk

# Upgrades


def upgrading(desk: Desk, model_id: str = "amy") -> None:
    assert desk.ledger.begin_upgrade(desk[model_id])


def done(desk: Desk, model_id: str = "amy", footprint: int | None = None) -> list[str]:
    return desk._told(desk.ledger.end_upgrade(desk[model_id], desk.now, footprint))


def test_a_model_being_upgraded_does_not_expire_and_its_idle_time_runs_on() -> None:
    desk = Desk(ttl=10.0)
    desk.idle("amy")
    upgrading(desk)
    assert desk.at(11).tick() == []
    assert desk.at(12).tick() == []
    assert done(desk) == ["unload amy EXPIRED"]


def test_an_upgrade_does_not_restart_the_idle_time() -> None:
    desk = Desk(ttl=10.0)
    desk.idle("amy")
    desk.at(6)
    upgrading(desk)
    assert done(desk.at(8)) == []
    assert desk.due() == 10
    assert desk.at(10).tick() == ["unload amy EXPIRED"]


def test_a_model_being_upgraded_is_no_victim_and_is_one_afterwards() -> None:
    desk = Desk(resident_cap=1, cap_policy="hard", ttl=-1.0)
    desk.idle("amy")
    upgrading(desk)
    assert desk.ask("joe") == ["wait for joe until 30"]
    assert done(desk) == ["unload amy EVICTED"]
    assert desk.gone("amy") == ["load joe"]


def test_what_callers_do_during_an_upgrade_counts_as_ever() -> None:
    desk = Desk(ttl=10.0)
    desk.hold("amy")
    upgrading(desk)
    assert desk.hit("amy", "bob")
    assert not desk.at(3).give("amy")
    assert not desk.at(4).give("amy", "bob")
    assert done(desk.at(5)) == []
    assert desk.at(14).tick() == ["unload amy EXPIRED"]


def test_a_model_that_is_unloaded_during_an_upgrade_leaves_when_it_is_over() -> None:
    desk = Desk()
    desk.idle("amy")
    upgrading(desk)
    assert desk.unload("amy") == []
    assert desk["amy"].state is State.DRAINING
    assert done(desk) == ["unload amy UNLOADED"]


def test_a_drain_waits_for_the_last_holder_and_the_upgrade() -> None:
    desk = Desk()
    desk.hold("amy")
    upgrading(desk)
    assert desk.drain("amy") == []
    assert not desk.give("amy")
    assert done(desk) == ["unload amy UNLOADED"]
    desk = Desk()
    desk.hold("amy")
    upgrading(desk)
    assert desk.drain("amy") == []
    assert done(desk) == []
    assert desk.give("amy") == ["unload amy UNLOADED"]


def test_a_model_is_upgraded_once_at_a_time_and_only_while_it_is_ready() -> None:
    desk = Desk()
    desk.ask("amy")
    assert not desk.ledger.begin_upgrade(desk["amy"])
    desk.land("amy")
    upgrading(desk)
    assert not desk.ledger.begin_upgrade(desk["amy"])
    done(desk)
    desk.drain("amy")
    assert not desk.ledger.begin_upgrade(desk["amy"])


def test_an_upgrade_that_is_overtaken_by_a_shutdown_books_nothing() -> None:
    desk = Desk()
    desk.idle("amy", footprint=5)
    resident = desk["amy"]
    upgrading(desk)
    desk.close()
    assert desk.force_unload("amy") == ["unload amy SHUTDOWN"]
    assert done(desk, footprint=1) == []
    desk.gone("amy")
    assert desk.ledger.end_upgrade(resident, 0.0, 3) == []
    assert desk.ledger.capacity.booked["cpu"] == 0


@pytest.mark.parametrize("pinned", [False, True])
def test_what_a_model_takes_after_an_upgrade_is_booked_and_others_use_the_difference(
    pinned: bool,
) -> None:
    desk = Desk(budgets={"cpu": 10}, ttl=-1.0, acquire_timeout=30.0)
    desk.hold("amy", footprint=8)
    if pinned:
        desk.pin("amy")
    assert desk.ledger.capacity.free_beside_pinned("cpu") == (2 if pinned else 10)
    upgrading(desk)
    if not pinned:
        assert desk.ask("joe", footprint=6) == ["wait for joe until 30"]
        assert done(desk, footprint=3) == ["load joe"]
    else:
        assert done(desk, footprint=3) == []
        assert desk.ledger.capacity.free_beside_pinned("cpu") == 7
        assert desk.ask("joe", footprint=6) == ["load joe"]


# Reservations


def test_a_reservation_is_granted_where_it_fits_and_evicts_nobody() -> None:
    desk = Desk(budgets={"cpu": 10}, ttl=-1.0)
    desk.idle("amy", footprint=6)
    assert not desk.ledger.reserve(5)
    assert desk.ledger.reserve(4)
    assert desk.shown() == {"amy": "ready"}
    assert desk.tick() == []


def test_there_is_one_reservation_at_a_time() -> None:
    desk = Desk(budgets={"cpu": 10})
    assert desk.ledger.reserve(4)
    assert not desk.ledger.reserve(4)
    desk.ledger.unreserve(0.0)
    assert desk.ledger.reserve(4)


def test_nothing_is_reserved_while_somebody_waits_or_a_load_runs() -> None:
    desk = Desk(budgets={"cpu": 10}, ttl=-1.0)
    desk.ask("amy", footprint=2)
    assert not desk.ledger.reserve(1)
    desk.land("amy")
    assert desk.ask("joe", footprint=9) == ["wait for joe until 30"]
    assert not desk.ledger.reserve(1)
    desk.cancel("joe")
    assert desk.ledger.reserve(1)


def test_a_load_waits_for_reserved_room_evicts_nobody_for_it_and_is_told_to_be_in_need() -> None:
    desk = Desk(budgets={"cpu": 10}, ttl=-1.0)
    desk.idle("amy", footprint=3)
    assert desk.ledger.reserve(4)
    assert desk.ask("joe", footprint=2) == ["load joe"]
    desk.land("joe")
    assert not desk.ledger.reservation_blocks_callers
    assert desk.ask("kim", footprint=4) == ["wait for kim until 30"]
    assert desk.ledger.reservation_blocks_callers
    assert desk._told(desk.ledger.unreserve(0.0)) == ["load kim"]
    assert not desk.ledger.reservation_blocks_callers


def test_nothing_is_reserved_while_the_process_takes_more_than_the_budget() -> None:
    desk = Desk(budgets={"cpu": 10}, ttl=-1.0)
    desk.look(cpu=NOISE + 11)
    assert not desk.ledger.reserve(1)
    desk.look(cpu=10)
    assert desk.ledger.reserve(1)


def test_reserved_work_gives_way_to_a_caller_whom_an_overdraft_keeps_out() -> None:
    desk = Desk(budgets={"cpu": 10, "cuda:0": 10}, ttl=-1.0, resident_cap=9)
    desk.hold("amy", footprint=1)
    assert desk.ledger.reserve(4)
    desk.look(cpu=NOISE + 11)
    assert not desk.ledger.reservation_blocks_callers
    assert desk.ask("joe", footprint=1, device="cuda:0") == ["load joe"]
    assert not desk.ledger.reservation_blocks_callers
    assert desk.ask("kim", footprint=1) == ["wait for kim until 30"]
    assert desk.ledger.reservation_blocks_callers


@pytest.mark.parametrize("cap_policy", ["soft", "hard"])
def test_nobody_is_refused_because_of_a_reservation(cap_policy: str) -> None:
    desk = Desk(budgets={"cpu": 10}, ttl=-1.0, cap_policy=cap_policy)
    desk.hold("amy", footprint=3)
    desk.pin("amy")
    assert desk.ledger.reserve(7)
    assert desk.ask("joe", footprint=7) == ["wait for joe until 30"]
    assert desk.ledger.reservation_blocks_callers
    assert desk._told(desk.ledger.unreserve(0.0)) == ["load joe"]


def test_a_reservation_is_of_the_machines_memory_alone() -> None:
    desk = Desk(budgets={"cpu": 10, "cuda:0": 10}, ttl=-1.0)
    assert desk.ledger.reserve(10)
    assert desk.ask("amy", footprint=10, device="cuda:0") == ["load amy"]
    assert not desk.ledger.reservation_blocks_callers


def test_what_pinned_models_leave_no_room_for_can_never_be_reserved() -> None:
    desk = Desk(budgets={"cpu": 10}, ttl=-1.0)
    desk.idle("amy", footprint=6)
    assert desk.ledger.can_ever_reserve(10)
    assert not desk.ledger.reserve(10)
    desk.pin("amy")
    assert not desk.ledger.can_ever_reserve(5)
    assert desk.ledger.can_ever_reserve(4)


def test_without_a_budget_anything_may_be_reserved_and_nothing_after_the_end() -> None:
    desk = Desk()
    assert desk.ledger.reserve(10**15)
    desk.ledger.unreserve(0.0)
    desk.close()
    assert not desk.ledger.reserve(1)
