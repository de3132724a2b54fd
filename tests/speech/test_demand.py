"""What is owed over time and what can be spared: against the plain sum at every moment."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.speech.demand import Debt, Demand


def plainly(debts: Iterable[Debt], usable: float, now: float) -> float:
    """Return what can be spared, by adding up debt for debt where one begins or ends."""
    debts = list(debts)
    if sum(debt.flow for debt in debts) > usable * (1 + 1e-9):
        return -math.inf
    moments = {moment for debt in debts for moment in (debt.at, debt.end)}

    def owed(moment: float) -> float:
        return sum(
            debt.step + debt.rate * (min(moment, debt.end) - debt.at)
            for debt in debts
            if debt.at <= moment
        )

    finite = (moment for moment in moments if not math.isinf(moment))
    return min((usable * max(0.0, each - now) - owed(each) for each in finite), default=math.inf)


debts = st.builds(
    Debt,
    at=st.floats(7.0, 12.0),
    step=st.floats(0.0, 0.5),
    rate=st.sampled_from([0.0, 0.05, 0.1, 0.7]),
    total=st.sampled_from([0.5, 0.8, 2.0, math.inf]),
)


@given(st.lists(debts, max_size=8), st.integers(1, 4))
def test_what_can_be_spared_is_the_least_at_any_moment(owed: Sequence[Debt], cores: int) -> None:
    found = Demand(dict(enumerate(owed))).spare(7.0, 0.9 * cores)
    assert found == pytest.approx(plainly(owed, 0.9 * cores, 7.0), abs=1e-9)


@given(st.lists(debts, min_size=1, max_size=8), st.integers(0, 9), st.none() | debts)
def test_one_left_out_and_one_besides_count_as_if_they_had_been_so_from_the_start(
    owed: Sequence[Debt], but: int, also: Debt | None
) -> None:
    left = [debt for number, debt in enumerate(owed) if number != but]
    expected = plainly([*left, *([also] if also else [])], 1.8, 7.0)
    found = Demand(dict(enumerate(owed))).spare(7.0, 1.8, but=but, also=also)
    assert found == pytest.approx(expected, abs=1e-9)


def test_time_that_passes_takes_from_what_can_be_spared() -> None:
    demand = Demand({"a": Debt(10.0, 0.5, 0.1, 3.0)})
    assert demand.spare(9.0, 1.0) == pytest.approx(0.5)
    assert demand.spare(9.25, 1.0) == pytest.approx(0.25)
    assert demand.spare(10.5, 1.0) == pytest.approx(-0.5)


def test_of_nothing_all_can_be_spared() -> None:
    assert Demand({}).spare(0.0, 1.0, but="nobody") == math.inf
