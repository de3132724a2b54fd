"""Settings side by side, each with the optimum for its places."""

from __future__ import annotations

import pytest

from greenroom.catalog.catalog import Catalog
from greenroom.config.schema import ManagerSettings
from greenroom.errors import ConfigError
from greenroom.memory.budget import policy_for
from greenroom.simulation.comparison import compare, policy_of, variations
from greenroom.simulation.comparison_plot import draw
from tests.simulation.traces import MIB, trace


def test_all_combinations_of_the_values_are_compared() -> None:
    found = list(variations([("resident_cap", ["2", "4"]), ("ttl_ms", ["0", "9"])]))
    assert [tuple(each.values()) for each in found] == [
        ("2", "0"),
        ("2", "9"),
        ("4", "0"),
        ("4", "9"),
    ]
    assert list(variations([])) == [{}]


def test_what_a_simulation_does_not_obey_cannot_be_varied() -> None:
    with pytest.raises(ConfigError, match="'warmup_text'"):
        list(variations([("warmup_text", ["a", "b"])]))


def test_too_many_combinations_are_refused() -> None:
    with pytest.raises(ConfigError, match="100 settings"):
        list(variations([("resident_cap", list("0123456789")), ("ttl_ms", list("0123456789"))]))


def test_a_column_has_the_optimum_for_its_own_places() -> None:
    asked = trace(*((10.0 * number, number % 3, 1.0) for number in range(30)))
    hard = [
        ManagerSettings(resident_cap=cap, cap_policy="hard", min_residency_ms=0)
        for cap in (1, 2, 3)
    ]
    columns = list(compare(asked, [({"resident_cap": f"{s.resident_cap}"}, s) for s in hard]))
    assert [(c.places, c.outcome.loads, c.fewest_loads) for c in columns] == [
        (1, 30, 30),
        (2, 30, 16),
        (3, 3, 3),
    ]
    assert columns[1].name == "resident_cap=2"
    assert columns[1].settings["cap_policy"] == "hard"
    assert columns[1].as_dict()["outcome"]["refusals"] == 0


def test_where_callers_were_refused_there_is_no_optimum_to_compare_with() -> None:
    asked = trace(*((0.1 * number, number % 3, 30.0) for number in range(9)))
    hard = ManagerSettings(
        resident_cap=1, cap_policy="hard", min_residency_ms=0, acquire_timeout_ms=1
    )
    (column,) = compare(asked, [({}, hard)])
    assert column.outcome.refusals > 0
    assert column.fewest_loads is None
    assert 'class="best"' not in draw([column], "refused")


def test_the_policy_is_the_one_that_a_worker_would_have() -> None:
    settings = ManagerSettings(
        resident_cap=5,
        cap_policy="hard",
        memory_budget_mb=700,
        ttl_ms=1_500,
        min_residency_ms=250,
        max_parallel_loads=2,
        acquire_timeout_ms=4_000,
        turn_after_ms=-1,
    )
    ours = policy_of(settings, trace((0, 0, 1)))
    assert ours == policy_for(settings, Catalog.discover())
    assert ours.budgets == {"cpu": 700 * MIB}
    assert policy_of(ManagerSettings(), trace((0, 0, 1))).budgets == {}
