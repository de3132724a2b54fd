"""Memory that several models have in common: booked once, from the first of them to the last."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom.ledger.state import SharedPart
from tests.ledger.driver import LedgerDriver

GRAPH = SharedPart("graph", 64)
OTHER = SharedPart("other graph", 50)


def ledger(**policy: Any) -> LedgerDriver:
    return LedgerDriver(**{"resident_cap": 9, "max_parallel_loads": 4, **policy})


def speak(driver: LedgerDriver, model_id: str, shared: SharedPart | None = GRAPH) -> None:
    """Have a model in memory, idle, that takes 10 bytes beside what it shares."""
    assert driver.request(model_id, footprint=10, shared=shared)[-1] == f"load {model_id}"
    driver.loaded(model_id, footprint=10, shared=shared)
    driver.release(model_id)


def booked(driver: LedgerDriver) -> dict[str, tuple[int, int]]:
    """Return what is booked for each model, and how much of that it carries for others, too."""
    return {r.model_id: (r.footprint, r.carried) for r in driver.ledger.residents}


def total(driver: LedgerDriver) -> int:
    return driver.ledger.capacity.booked["cpu"]


def test_the_first_carries_it_and_the_next_take_only_their_own() -> None:
    driver = ledger()
    speak(driver, "amy")
    speak(driver, "joe")
    assert booked(driver) == {"amy": (74, 64), "joe": (10, 0)}
    assert total(driver) == 84


def test_when_its_carrier_leaves_another_carries_it_on() -> None:
    driver = ledger()
    speak(driver, "amy")
    speak(driver, "joe")
    driver.begin_unload("amy")
    assert booked(driver) == {"amy": (10, 0), "joe": (74, 64)}
    driver.gone("amy")
    assert total(driver) == 74
    driver.begin_unload("joe")
    driver.gone("joe")
    assert total(driver) == 0


def test_it_goes_with_the_last_that_leaves_and_is_promised_with_it() -> None:
    driver = ledger(budgets={"cpu": 100})
    speak(driver, "amy")
    speak(driver, "joe")
    # 64 + 10 + 10 are there; the newcomer needs all that the two give back together.
    assert driver.request("big", footprint=95) == [
        "unload amy EVICTED",
        "unload joe EVICTED",
        "wait for big until 30",
    ]
    assert driver.gone("amy") == []
    assert driver.gone("joe") == ["load big"]


def test_nobody_leaves_for_room_that_a_shared_part_keeps() -> None:
    driver = ledger(budgets={"cpu": 100})
    driver.hold("amy", footprint=10, shared=GRAPH)
    speak(driver, "joe")
    # Of what joe has only 10 would come free, as amy keeps the graph.
    assert driver.request("big", footprint=30) == ["wait for big until 30"]
    assert driver.states() == {"amy": "ready", "joe": "ready"}


def test_one_that_leaves_for_a_model_with_the_same_part_gives_back_its_own_only() -> None:
    driver = ledger(budgets={"cpu": 80})
    speak(driver, "amy")
    # 10 of its own are missing 4; amy gives back 10, and leaves the graph to joe.
    assert driver.request("joe", footprint=10, shared=GRAPH) == [
        "unload amy EVICTED",
        "wait for joe until 30",
    ]
    assert driver.gone("amy") == ["load joe"]
    assert booked(driver) == {"joe": (74, 64)}


def test_one_that_begins_to_load_while_all_others_leave_takes_it_over() -> None:
    driver = ledger(budgets={"cpu": 200})
    speak(driver, "amy")
    driver.begin_unload("amy")
    assert driver.request("joe", footprint=10, shared=GRAPH) == ["load joe"]
    assert booked(driver) == {"amy": (10, 0), "joe": (74, 64)}
    assert driver.ledger.capacity._promised_bytes["cpu"] == 10
    driver.gone("amy")
    assert total(driver) == 74


def test_a_newcomer_s_word_on_its_size_holds_where_all_others_leave() -> None:
    driver = ledger()
    speak(driver, "amy")
    driver.begin_unload("amy")
    driver.request("joe", footprint=10, shared=SharedPart("graph", 70))
    assert booked(driver) == {"amy": (10, 0), "joe": (80, 70)}
    assert total(driver) == 90


def test_what_a_newcomer_has_in_common_with_its_victim_does_not_come_free() -> None:
    driver = ledger(budgets={"cpu": 84})
    driver.request("amy", footprint=5, shared=GRAPH)
    driver.loaded("amy", footprint=5, shared=GRAPH)
    driver.release("amy")
    driver.at(1).idle("kim", footprint=10)
    # 11 are missing: amy's own 5 are not enough, and joe needs the graph itself.
    assert driver.request("joe", footprint=16, shared=GRAPH) == [
        "unload amy EVICTED",
        "unload kim EVICTED",
        "wait for joe until 31",
    ]


def test_what_a_newcomer_shares_with_others_does_not_keep_its_victim_s_part() -> None:
    driver = ledger(budgets={"cpu": 80})
    speak(driver, "amy")
    assert driver.request("joe", footprint=10, shared=OTHER)[0] == "unload amy EVICTED"


def test_a_part_that_stays_gives_back_not_one_byte() -> None:
    driver = ledger(budgets={"cpu": 100})
    driver.hold("amy", footprint=10, shared=GRAPH)
    speak(driver, "joe")
    assert driver.request("big", footprint=27) == ["wait for big until 30"]


def test_two_loads_at_once_book_it_once() -> None:
    driver = ledger()
    driver.request("amy", footprint=10, shared=GRAPH)
    driver.request("joe", footprint=10, shared=GRAPH)
    assert total(driver) == 84
    driver.failed("amy")
    assert booked(driver) == {"joe": (74, 64)}


def test_what_is_known_only_when_it_is_loaded_is_booked_then() -> None:
    driver = ledger()
    for model_id in ("amy", "joe"):
        driver.request(model_id, footprint=100)
        driver.loaded(model_id, footprint=10, shared=GRAPH)
    assert booked(driver) == {"amy": (74, 64), "joe": (10, 0)}


def test_one_that_proves_to_share_nothing_or_something_else_leaves_it_to_the_others() -> None:
    driver = ledger()
    speak(driver, "amy")
    driver.request("joe", footprint=10, shared=GRAPH)
    driver.loaded("joe", footprint=12, shared=OTHER)
    driver.begin_upgrade("amy")
    driver.end_upgrade("amy", 30)
    assert booked(driver) == {"amy": (30, 0), "joe": (62, 50)}
    assert [s.part.name for s in driver.ledger.capacity.shared] == ["other graph"]


def test_an_upgrade_may_make_a_model_share() -> None:
    driver = ledger()
    driver.idle("amy", footprint=100)
    driver.begin_upgrade("amy")
    driver.end_upgrade("amy", 10, shared=GRAPH)
    assert booked(driver) == {"amy": (74, 64)}


def test_a_load_of_which_nothing_becomes_known_keeps_what_was_expected() -> None:
    driver = ledger()
    driver.request("amy", footprint=10, shared=GRAPH)
    driver.loaded("amy")
    assert booked(driver) == {"amy": (74, 64)}


def test_the_latest_word_on_its_size_holds() -> None:
    driver = ledger()
    speak(driver, "amy")
    speak(driver, "joe", SharedPart("graph", 70))
    assert booked(driver) == {"amy": (80, 70), "joe": (10, 0)}


def test_parts_of_one_name_on_two_devices_are_two() -> None:
    driver = ledger()
    speak(driver, "amy")
    driver.request("joe", footprint=10, device="cuda:0", shared=GRAPH)
    assert booked(driver) == {"amy": (74, 64), "joe": (74, 64)}
    assert [sharers.device for sharers in driver.ledger.capacity.shared] == ["cpu", "cuda:0"]


def test_an_unload_that_hangs_keeps_it_if_no_other_has_it() -> None:
    driver = ledger()
    speak(driver, "amy")
    speak(driver, "joe")
    driver.begin_unload("joe")
    driver.begin_unload("amy")
    assert driver.ledger.capacity._promised_bytes["cpu"] == 84
    driver.overdue("joe")
    assert booked(driver) == {"amy": (10, 0), "joe": (74, 64)}
    assert driver.ledger.capacity._promised_bytes["cpu"] == 10
    driver.gone("amy")
    driver.gone("joe")
    assert total(driver) == 0


def test_pinned_models_keep_it_out_of_reach() -> None:
    driver = ledger(budgets={"cpu": 100})
    driver.pin("joe")
    speak(driver, "amy")
    speak(driver, "joe")
    assert driver.ledger.capacity._pinned_bytes["cpu"] == 10
    driver.begin_unload("amy")
    driver.gone("amy")
    assert driver.ledger.capacity._pinned_bytes["cpu"] == 74
    assert driver.request("big", footprint=40) == ["refuse big to ann NO_ROOM never"]


def test_what_is_too_big_with_its_part_is_refused_at_once() -> None:
    driver = ledger(budgets={"cpu": 70})
    assert driver.request("amy", footprint=10, shared=GRAPH) == ["refuse amy to ann TOO_BIG never"]


@pytest.mark.parametrize(("budget", "carried"), [(74, 64), (60, 60), (5, 5)])
def test_an_expectation_asks_for_no_more_than_could_come_free(budget: int, carried: int) -> None:
    driver = ledger(budgets={"cpu": budget})
    assert driver.request("amy", footprint=10, min_footprint=0, shared=GRAPH) == ["load amy"]
    assert booked(driver) == {"amy": (budget, carried)}
    driver.loaded("amy", footprint=10, shared=GRAPH)
    assert booked(driver) == {"amy": (74, 64)}


def test_a_part_that_proves_as_small_as_it_was_booked_is_known_to_be_so() -> None:
    driver = ledger(budgets={"cpu": 60})
    driver.request("amy", footprint=10, min_footprint=0, shared=GRAPH)
    driver.loaded("amy", footprint=0, shared=SharedPart("graph", 60))
    assert [sharers.part.size for sharers in driver.ledger.capacity.shared] == [60]
