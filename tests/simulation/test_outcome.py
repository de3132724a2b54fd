"""Percentiles of waits most of which are nothing, and Jain's index."""

from __future__ import annotations

import math
from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.simulation.outcome import jain, wait_percentiles


@given(st.lists(st.floats(0.01, 100), max_size=50), st.integers(0, 200))
def test_percentiles_are_those_of_all_waits(waits: list[float], at_once: int) -> None:
    found = wait_percentiles(array("d", waits), len(waits) + at_once)
    every = sorted(waits + [0.0] * at_once)
    for name, share in (("wait_p50", 0.5), ("wait_p95", 0.95), ("wait_p99", 0.99)):
        place = max(0, math.ceil(share * len(every)) - 1)
        assert found[name] == (every[place] if every else 0.0)
    assert found["wait_most"] == max(every, default=0.0)


def test_fairness_is_one_where_all_are_served_alike_and_a_third_where_one_of_three_is() -> None:
    assert jain(np.array([0.5, 0.5, 0.5])) == pytest.approx(1)
    assert jain(np.array([1.0, 0.0, 0.0])) == pytest.approx(1 / 3)
    assert jain(np.array([])) == 1
