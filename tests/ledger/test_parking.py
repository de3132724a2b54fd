"""Parking: who holds a model and says nothing does not keep it from leaving in its turn."""

from __future__ import annotations

from tests.ledger.driver import LedgerDriver


def held_by_two(**policy: int) -> LedgerDriver:
    """A ledger of one place, whose model two callers hold."""
    driver = LedgerDriver(turn_after=2.0, resident_cap=1, cap_policy="hard", **policy)
    driver.hold("amy", "ann")
    driver.hit("amy", "bob")
    return driver


def test_a_model_with_parked_holders_alone_leaves_at_once_in_its_turn() -> None:
    driver = held_by_two()
    assert driver.park("amy", "ann") == []
    assert driver.park("amy", "bob") == []
    driver.request("kim", "cal")
    assert driver.at(2).tick() == ["unload amy TURN"]
    assert driver["amy"].references == []
    assert driver.gone("amy") == ["load kim"]


def test_a_parked_holder_keeps_its_model_from_everything_but_a_turn() -> None:
    driver = LedgerDriver(ttl=5, resident_cap=1, cap_policy="hard")
    driver.hold("amy")
    driver.park("amy")
    driver.request("kim")
    assert driver.at(20).tick() == []
    assert driver.states() == {"amy": "ready"}


def test_one_holder_that_is_not_parked_keeps_its_model_until_it_lets_go() -> None:
    driver = held_by_two()
    driver.park("amy", "ann")
    driver.request("kim", "cal")
    assert driver.at(2).tick() == ["drain amy for kim"]
    assert driver.release("amy", "bob") == ["unload amy TURN"]


def test_a_holder_that_is_parked_while_its_model_drains_ends_the_drain() -> None:
    driver = held_by_two()
    driver.request("kim", "cal")
    driver.at(2).tick()
    assert driver.park("amy", "ann") == []
    assert driver.park("amy", "bob") == ["unload amy TURN"]


def test_a_stream_that_ends_leaves_a_parked_model_to_its_turn() -> None:
    driver = held_by_two()
    amy = driver.open_stream("amy")
    driver.park("amy", "ann")
    driver.park("amy", "bob")
    driver.request("kim", "cal")
    assert driver.at(2).tick() == ["drain amy for kim"]
    assert driver.close_stream(amy, 1.0) == ["unload amy TURN"]


def test_an_upgrade_that_ends_leaves_a_parked_model_to_its_turn() -> None:
    driver = held_by_two()
    driver.begin_upgrade("amy")
    driver.park("amy", "ann")
    driver.park("amy", "bob")
    driver.request("kim", "cal")
    assert driver.at(2).tick() == ["drain amy for kim"]
    assert driver.end_upgrade("amy") == ["unload amy TURN"]


def test_a_holder_that_speaks_again_in_time_has_its_model() -> None:
    driver = held_by_two()
    driver.park("amy", "ann")
    assert driver.unpark("amy", "ann") == (True, [])
    driver.park("amy", "bob")
    driver.request("kim", "cal")
    assert driver.at(2).tick() == ["drain amy for kim"]


def test_a_holder_whose_model_has_left_is_told_so() -> None:
    driver = held_by_two()
    driver.park("amy", "ann")
    driver.park("amy", "bob")
    driver.request("kim", "cal")
    driver.at(2).tick()
    assert driver.unpark("amy", "ann") == (False, [])
    driver.gone("amy")
    assert driver.unpark("amy", "bob") == (False, [])
    assert driver.park("amy", "bob") == []


def test_a_holder_that_speaks_again_while_its_model_drains_gives_it_back() -> None:
    driver = held_by_two()
    driver.request("kim", "cal")
    driver.at(2).tick()
    assert driver.unpark("amy", "ann") == (False, [])
    assert driver.unpark("amy", "bob") == (False, ["unload amy TURN"])


def test_a_holder_that_speaks_again_while_an_operator_drains_keeps_its_model() -> None:
    driver = held_by_two()
    driver.begin_unload("amy", drain=True)
    assert driver.unpark("amy", "ann") == (True, [])
    assert driver.release("amy", "bob") is None
    assert driver.release("amy", "ann") == ["unload amy UNLOADED"]


def test_a_parked_holder_that_lets_go_is_parked_no_more() -> None:
    driver = held_by_two()
    driver.park("amy", "ann")
    driver.release("amy", "ann")
    assert driver.hit("amy", "ann")
    driver.park("amy", "bob")
    driver.request("kim", "cal")
    assert driver.at(2).tick() == ["drain amy for kim"]


def test_a_parked_holder_whose_engine_crashed_owes_nothing() -> None:
    driver = held_by_two()
    driver.park("amy", "ann")
    assert driver.crashed("amy") == ["unload amy CRASHED"]
    assert driver.unpark("amy", "ann") == (False, [])
    driver.gone("amy")
    driver.hold("amy", "ann")
    assert driver.release("amy", "ann") == []
    assert driver["amy"].references == []
