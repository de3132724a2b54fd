"""A TTL of a model's own, given while it is in memory."""

from __future__ import annotations

import pytest

from greenroom.errors import ModelNotResidentError
from tests.ledger.driver import LedgerDriver


def test_a_longer_ttl_keeps_a_model_and_a_shorter_one_lets_it_go_sooner() -> None:
    driver = LedgerDriver(ttl=10, resident_cap=3)
    for model_id in ("amy", "joe", "kim"):
        driver.idle(model_id)
    assert driver.keep_alive("amy", 20) == []
    assert driver.keep_alive("joe", 5) == []
    assert driver.next_due() == 5
    assert driver.at(5).tick() == ["unload joe EXPIRED"]
    assert driver.at(10).tick() == ["unload kim EXPIRED"]
    assert driver.at(19).tick() == []
    assert driver.at(20).tick() == ["unload amy EXPIRED"]


def test_a_ttl_that_is_over_already_lets_an_idle_model_go_at_once() -> None:
    driver = LedgerDriver(ttl=-1)
    driver.idle("amy")
    assert driver.at(6).keep_alive("amy", 5) == ["unload amy EXPIRED"]


def test_min_residency_binds_a_ttl_of_its_own_as_well() -> None:
    driver = LedgerDriver(ttl=-1, min_residency=30)
    driver.idle("amy")
    assert driver.at(1).keep_alive("amy", 0) == []
    assert driver.next_due() == 30
    assert driver.at(30).tick() == ["unload amy EXPIRED"]


@pytest.mark.parametrize("watched", [True, False])
def test_a_model_in_use_expires_by_its_new_ttl_after_its_last_release(watched: bool) -> None:
    driver = LedgerDriver(ttl=-1)
    driver.hold("amy")
    if watched:  # the indexes learned of it while it was idle
        driver.release("amy")
        driver.hit("amy")
    assert driver.keep_alive("amy", 5) == []
    assert driver.at(9).tick() == []
    driver.release("amy")
    assert driver.at(13).tick() == []
    assert driver.at(14).tick() == ["unload amy EXPIRED"]


def test_a_negative_ttl_keeps_a_model_but_not_from_eviction() -> None:
    driver = LedgerDriver(ttl=5, resident_cap=1, cap_policy="hard")
    driver.idle("amy")
    assert driver.keep_alive("amy", -1) == []
    assert driver.at(1_000).tick() == []
    assert driver.request("joe")[0] == "unload amy EVICTED"


def test_a_pinned_model_keeps_its_new_ttl_for_when_it_is_unpinned() -> None:
    driver = LedgerDriver(ttl=50)
    driver.idle("amy")
    driver.pin("amy")
    assert driver.keep_alive("amy", 5) == []
    assert driver.at(10).tick() == []
    assert driver.unpin("amy") == ["unload amy EXPIRED"]


def test_a_model_that_is_loading_has_its_new_ttl_from_the_start() -> None:
    driver = LedgerDriver(ttl=50)
    driver.request("amy")
    assert driver.keep_alive("amy", 5) == []
    driver.loaded("amy")
    driver.release("amy")
    assert driver.at(5).tick() == ["unload amy EXPIRED"]


def test_the_next_life_has_the_usual_ttl_again() -> None:
    driver = LedgerDriver(ttl=10)
    driver.idle("amy")
    driver.keep_alive("amy", 100)
    driver.begin_unload("amy")
    driver.gone("amy")
    driver.idle("amy")
    assert driver.at(10).tick() == ["unload amy EXPIRED"]


def test_the_same_ttl_again_changes_nothing_and_says_so() -> None:
    driver = LedgerDriver(ttl=10)
    driver.idle("amy")
    assert driver.keep_alive("amy", 10) is None
    assert driver.keep_alive("amy", 11) == []
    assert driver.keep_alive("amy", 11) is None


def test_a_model_that_is_not_there_or_is_leaving_cannot_be_kept() -> None:
    driver = LedgerDriver()
    with pytest.raises(ModelNotResidentError, match="'amy'"):
        driver.keep_alive("amy", 5)
    driver.hold("amy")
    driver.begin_unload("amy", drain=True)
    with pytest.raises(ModelNotResidentError):
        driver.keep_alive("amy", 5)
    assert driver["amy"].ttl == 600
