"""The optimum is the least that any choice of evictions reaches."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.simulation.belady import fewest_loads


def searched(asked: tuple[int, ...], places: int, resident: frozenset[int]) -> int:
    """Try every eviction."""

    @cache
    def least(number: int, held: frozenset[int]) -> int:
        if number == len(asked):
            return 0
        wanted = asked[number]
        if wanted in held:
            return least(number + 1, held)
        if len(held) < places:
            return 1 + least(number + 1, held | {wanted})
        return 1 + min(least(number + 1, held - {out} | {wanted}) for out in held)

    return least(0, resident)


@given(
    st.lists(st.integers(0, 4), max_size=14).map(tuple),
    st.integers(1, 4),
    st.sets(st.integers(0, 5)),
)
@settings(max_examples=100, deadline=None)
def test_no_choice_of_evictions_loads_less(
    asked: tuple[int, ...], places: int, there: set[int]
) -> None:
    resident = sorted(there)[:places]
    found = fewest_loads(np.array(asked, np.int32), places, resident)
    assert found == searched(asked, places, frozenset(resident))


def test_with_a_place_for_all_each_model_is_loaded_once() -> None:
    assert fewest_loads(np.array([0, 1, 2, 0, 1, 2], np.int32), 3) == 3
    assert fewest_loads(np.array([0, 1, 2, 0, 1, 2], np.int32), 1) == 6
