"""A TTL of a model's own, given while it is in memory."""

from __future__ import annotations

import pytest

from greenroom.errors import ModelNotResidentError
from tests.ledger.driver import Desk


def test_a_longer_ttl_keeps_a_model_and_a_shorter_one_lets_it_go_sooner() -> None:
    desk = Desk(ttl=10, resident_cap=3)
    for model_id in ("amy", "joe", "kim"):
        desk.idle(model_id)
    assert desk.keep_alive("amy", 20) == []
    assert desk.keep_alive("joe", 5) == []
    assert desk.due() == 5
    assert desk.at(5).tick() == ["unload joe EXPIRED"]
    assert desk.at(10).tick() == ["unload kim EXPIRED"]
    assert desk.at(19).tick() == []
    assert desk.at(20).tick() == ["unload amy EXPIRED"]


def test_a_ttl_that_is_over_already_lets_an_idle_model_go_at_once() -> None:
    desk = Desk(ttl=-1)
    desk.idle("amy")
    assert desk.at(6).keep_alive("amy", 5) == ["unload amy EXPIRED"]


def test_min_residency_binds_a_ttl_of_its_own_as_well() -> None:
    desk = Desk(ttl=-1, min_residency=30)
    desk.idle("amy")
    assert desk.at(1).keep_alive("amy", 0) == []
    assert desk.due() == 30
    assert desk.at(30).tick() == ["unload amy EXPIRED"]


@pytest.mark.parametrize("watched", [True, False])
def test_a_model_in_use_expires_by_its_new_ttl_after_its_last_release(watched: bool) -> None:
    desk = Desk(ttl=-1)
    desk.hold("amy")
    if watched:  # the indexes learned of it while it was idle
        desk.give("amy")
        desk.hit("amy")
    assert desk.keep_alive("amy", 5) == []
    assert desk.at(9).tick() == []
    desk.give("amy")
    assert desk.at(13).tick() == []
    assert desk.at(14).tick() == ["unload amy EXPIRED"]


def test_a_negative_ttl_keeps_a_model_but_not_from_eviction() -> None:
    desk = Desk(ttl=5, resident_cap=1, cap_policy="hard")
    desk.idle("amy")
    assert desk.keep_alive("amy", -1) == []
    assert desk.at(1_000).tick() == []
    assert desk.ask("joe")[0] == "unload amy EVICTED"


def test_a_pinned_model_keeps_its_new_ttl_for_when_it_is_unpinned() -> None:
    desk = Desk(ttl=50)
    desk.idle("amy")
    desk.pin("amy")
    assert desk.keep_alive("amy", 5) == []
    assert desk.at(10).tick() == []
    assert desk.unpin("amy") == ["unload amy EXPIRED"]


def test_a_model_that_is_loading_has_its_new_ttl_from_the_start() -> None:
    desk = Desk(ttl=50)
    desk.ask("amy")
    assert desk.keep_alive("amy", 5) == []
    desk.land("amy")
    desk.give("amy")
    assert desk.at(5).tick() == ["unload amy EXPIRED"]


def test_the_next_life_has_the_usual_ttl_again() -> None:
    desk = Desk(ttl=10)
    desk.idle("amy")
    desk.keep_alive("amy", 100)
    desk.unload("amy")
    desk.gone("amy")
    desk.idle("amy")
    assert desk.at(10).tick() == ["unload amy EXPIRED"]


def test_the_same_ttl_again_changes_nothing_and_says_so() -> None:
    desk = Desk(ttl=10)
    desk.idle("amy")
    assert desk.keep_alive("amy", 10) is None
    assert desk.keep_alive("amy", 11) == []
    assert desk.keep_alive("amy", 11) is None


def test_a_model_that_is_not_there_or_is_leaving_cannot_be_kept() -> None:
    desk = Desk()
    with pytest.raises(ModelNotResidentError):
        desk.keep_alive("amy", 5)
    desk.hold("amy")
    desk.drain("amy")
    with pytest.raises(ModelNotResidentError):
        desk.keep_alive("amy", 5)
    assert desk["amy"].ttl == 600
