"""What a model took, gave back and kept; and when it is said to leak."""

from __future__ import annotations

from greenroom.memory.leaks import (
    LEAKING_BYTES,
    LEAKING_LIVES,
    MAX_ACCOUNTS,
    Account,
    MemoryAccounts,
)

MIB = 1024 * 1024


def live(accounts: MemoryAccounts, *remainders: int | None) -> list[int | None]:
    """Give model `a` one life for each remainder; return what each end reported."""
    reports = []
    for remainder in remainders:
        accounts.loaded("a", 100 * MIB)
        reports.append(accounts.unloaded("a", 99 * MIB, remainder))
    return reports


def leaking(accounts: MemoryAccounts) -> bool:
    account = accounts.get("a")
    assert account is not None
    return account.leaking


def test_a_model_that_was_never_loaded_has_no_account() -> None:
    accounts = MemoryAccounts()
    assert accounts.get("a") is None
    assert accounts.all() == ()


def test_a_loaded_model_has_taken_and_not_yet_returned() -> None:
    accounts = MemoryAccounts()
    accounts.loaded("a", 100)
    assert accounts.get("a") == Account("a", lives=0, taken=100)


def test_a_life_is_what_was_taken_returned_and_left() -> None:
    accounts = MemoryAccounts()
    accounts.loaded("a", 100)
    accounts.unloaded("a", 120, 3)
    assert accounts.get("a") == Account("a", 1, 100, 120, 3)


def test_without_a_life_of_its_own_what_was_not_returned_is_the_difference() -> None:
    accounts = MemoryAccounts()
    accounts.loaded("a", 100)
    accounts.unloaded("a", 90, None)
    assert accounts.get("a") == Account("a", 1, 100, 90, 10)


def test_nobody_returns_more_than_everything() -> None:
    accounts = MemoryAccounts()
    accounts.loaded("a", 100)
    accounts.unloaded("a", 120, None)
    assert accounts.get("a") == Account("a", 1, 100, 120, 0)
    accounts.loaded("a", 100)
    accounts.unloaded("a", 120, -20)
    assert accounts.get("a") == Account("a", 2, 100, 120, 0)


def test_what_could_not_be_measured_is_none_and_not_the_life_before() -> None:
    accounts = MemoryAccounts()
    accounts.loaded("a", 100)
    accounts.unloaded("a", 90, 10)
    accounts.loaded("a", None)
    assert accounts.get("a") == Account("a", 1)
    accounts.unloaded("a", 90, None)
    assert accounts.get("a") == Account("a", 2, None, 90, None)
    accounts.loaded("a", 100)
    accounts.unloaded("a", None, None)
    assert accounts.get("a") == Account("a", 3, 100, None, None)


def test_accounts_are_in_the_order_in_which_they_changed_last() -> None:
    accounts = MemoryAccounts()
    for name in "bab":
        accounts.loaded(name, 1)
    assert [account.model_id for account in accounts.all()] == ["a", "b"]


def test_a_model_that_leaves_more_each_time_is_reported_once_with_how_much() -> None:
    accounts = MemoryAccounts()
    first, lives = 30 * MIB, [2 * MIB] * LEAKING_LIVES
    assert live(accounts, first, *lives) == [None] * LEAKING_LIVES + [2 * MIB * LEAKING_LIVES]
    assert leaking(accounts)
    assert live(accounts, 2 * MIB, 2 * MIB) == [None, None]
    assert leaking(accounts)


def test_the_first_life_is_no_evidence_because_the_engine_stays() -> None:
    accounts = MemoryAccounts()
    assert live(accounts, *[30 * MIB] * LEAKING_LIVES) == [None] * LEAKING_LIVES
    assert not leaking(accounts)


def test_noise_is_no_leak() -> None:
    accounts = MemoryAccounts()
    assert set(live(accounts, *[LEAKING_BYTES] * 50)) == {None}
    assert not leaking(accounts)


def test_ups_and_downs_are_no_leak() -> None:
    accounts = MemoryAccounts()
    ups = [5 * MIB] * (LEAKING_LIVES - 1)
    assert set(live(accounts, 0, *[*ups, -5 * MIB] * 10)) == {None}
    assert not leaking(accounts)


def test_a_life_shared_with_others_neither_accuses_nor_clears() -> None:
    accounts = MemoryAccounts()
    evidence = [2 * MIB] * LEAKING_LIVES
    shared = [each for one in evidence for each in (None, one)]
    assert live(accounts, 0, *shared)[-1] == 2 * MIB * LEAKING_LIVES
    assert live(accounts, None, None) == [None, None]
    assert leaking(accounts)


def test_a_life_that_leaves_nothing_ends_the_report_and_the_next_leak_is_reported_again() -> None:
    accounts = MemoryAccounts()
    evidence = [2 * MIB] * LEAKING_LIVES
    live(accounts, 0, *evidence, 0)
    assert not leaking(accounts)
    assert live(accounts, *evidence) == [None] * (LEAKING_LIVES - 1) + [2 * MIB * LEAKING_LIVES]


def test_accounts_of_models_of_long_ago_make_room_and_never_those_in_memory() -> None:
    accounts = MemoryAccounts()
    accounts.loaded("resident", 7)
    for number in range(2 * MAX_ACCOUNTS):
        accounts.loaded(f"m{number}", 1)
        accounts.unloaded(f"m{number}", 1, 0)
    assert accounts.get("resident") is not None
    assert accounts.get("m0") is None
    assert accounts.get(f"m{2 * MAX_ACCOUNTS - 1}") is not None
    assert len(accounts.all()) == MAX_ACCOUNTS + 1
