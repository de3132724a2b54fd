"""The simulator: what requests meet is what the ledger decides, at the time it is decided."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.ledger.state import Decision, Policy
from greenroom.simulation.generator import Workload, generate, parse_workload
from greenroom.simulation.simulator import Simulator, simulate
from greenroom.simulation.trace import Trace
from tests.ledger.driver import describe
from tests.simulation.reference_simulator import decisions_of
from tests.simulation.traces import MIB, trace

HARD = Policy(resident_cap=1, cap_policy="hard", min_residency=0.0, ttl=-1.0, turn_after=-1.0)


def test_the_first_request_waits_for_the_load_and_the_next_one_does_not() -> None:
    found = simulate(trace((0, 0, 2), (5, 0, 2), load_s=0.5), Policy())
    assert (found.requests, found.cold, found.loads, found.refusals) == (2, 1, 1, 0)
    assert (found.wait_most, found.wait_mean) == (0.5, 0.25)


def test_callers_of_one_load_share_it_and_wait_for_what_is_left() -> None:
    found = simulate(trace((0, 0, 2), (0.75, 0, 2)), Policy())
    assert (found.cold, found.loads) == (2, 1)
    assert (found.wait_p50, found.wait_most) == (0.25, 1.0)


def test_a_model_in_use_is_waited_for_with_its_unload_and_the_load() -> None:
    # Asked for at 1; the other speaks until 3, is gone at 3.25, and the load takes a second.
    found = simulate(trace((0, 0, 2), (1, 1, 1), unload_s=0.25), HARD)
    assert found.wait_most == pytest.approx(3.25)
    assert found.most_residents == 1


def test_speech_that_overlaps_keeps_its_model_until_the_last_word() -> None:
    found = simulate(trace((0, 0, 2), (1.5, 0, 10), (2, 1, 1)), HARD)
    assert found.wait_most == pytest.approx(11.5 - 2 + 1)


def test_a_wait_without_an_end_is_refused_at_its_deadline() -> None:
    found = simulate(trace((0, 0, 100), (2, 1, 1)), HARD)
    assert found.refused == {"timed_out": 1}
    assert (found.cold, found.loads) == (1, 1)
    assert found.jain == pytest.approx(0.5)


def test_a_turn_lets_a_model_in_that_is_waited_for() -> None:
    busy = [(second / 2, 0, 1.0) for second in range(80)]
    asked = sorted([*busy, (2.25, 1, 1.0)])
    without = simulate(trace(*asked, load_s=0.1), HARD)
    turned = simulate(
        trace(*asked, load_s=0.1),
        Policy(resident_cap=1, cap_policy="hard", min_residency=0.0, turn_after=2.0),
    )
    assert (without.turns, without.refusals) == (0, 1)
    assert (turned.turns > 0, turned.refusals) == (True, 0)


def test_a_model_that_is_idle_for_its_ttl_is_loaded_again() -> None:
    policy = Policy(ttl=10.0, min_residency=0.0)
    assert simulate(trace((0, 0, 1), (11.5, 0, 1)), policy).loads == 1
    assert simulate(trace((0, 0, 1), (12.5, 0, 1)), policy).loads == 2


def test_a_budget_lets_in_what_fits() -> None:
    policy = Policy(resident_cap=9, budgets={"cpu": 250 * MIB}, min_residency=0.0)
    found = simulate(trace((0, 0, 1), (3, 1, 1), (6, 2, 1)), policy)
    assert (found.most_residents, found.most_bytes) == (2, 200 * MIB)


def test_memory_is_a_mean_over_time() -> None:
    # The model is there from 0 on, and the trace ends with the last arrival, at 8.
    found = simulate(trace((0, 0, 1), (8, 0, 1)), Policy(ttl=2.0, min_residency=0.0))
    # From 0 (its load begins) to 4 (its TTL is over), and for a moment at 8.
    assert found.mean_residents == pytest.approx(4 / 8)
    assert found.mean_bytes == pytest.approx(100 * MIB * 4 / 8)


def test_what_was_in_memory_at_the_beginning_is_found_ready_and_counts_as_no_load() -> None:
    found = simulate(trace((1, 0, 1), (2, 1, 1), resident=(0, 1)), Policy(resident_cap=2))
    assert (found.mean_residents, found.mean_bytes) == (2, 200 * MIB)
    assert (found.cold, found.loads) == (0, 0)


def test_a_pinned_model_makes_no_room() -> None:
    found = simulate(trace((1, 1, 1), resident=(0,), pinned=(0,)), HARD)
    assert found.refused == {"no_room": 1}


def test_loads_take_as_long_as_they_are_known_to_in_turn() -> None:
    asked = trace((0, 0, 1), (20, 0, 1), (40, 0, 1))
    slow = asked.models[0].__class__("model-0", (1.0, 3.0))
    found = simulate(
        type(asked)((slow,), asked.at, asked.model, asked.speech_s),
        Policy(ttl=5.0, min_residency=0.0),
    )
    assert found.loads == 3
    assert found.wait_mean == pytest.approx((1 + 3 + 1) / 3)


def test_a_trace_without_requests_has_an_outcome() -> None:
    found = simulate(trace(models=1), Policy())
    assert (found.requests, found.loads, found.jain, found.wait_p99) == (0, 0, 1.0, 0.0)


def test_the_same_trace_has_the_same_outcome() -> None:
    asked = generate(parse_workload("generate:models=20,rate=2,hours=0.02,burst=3"))
    assert simulate(asked, HARD) == simulate(asked, HARD)


requests = st.lists(
    st.tuples(
        st.floats(0, 60, allow_subnormal=False),
        st.integers(0, 5),
        st.floats(0, 20, allow_subnormal=False),
    ),
    max_size=60,
).map(lambda drawn: sorted(drawn))


@given(
    drawn=requests,
    cap=st.integers(1, 5),
    hard=st.booleans(),
    turn_after=st.sampled_from([-1.0, 2.0]),
    min_residency=st.sampled_from([0.0, 5.0]),
    ttl=st.sampled_from([-1.0, 0.0, 5.0]),
)
@settings(max_examples=40, deadline=None)
def test_every_request_ends_one_way_and_nothing_is_left_behind(
    drawn: list[tuple[float, int, float]],
    cap: int,
    hard: bool,
    turn_after: float,
    min_residency: float,
    ttl: float,
) -> None:
    asked = trace(*drawn, models=6, unload_s=0.1)
    simulator = Simulator(
        asked,
        Policy(
            resident_cap=cap,
            cap_policy="hard" if hard else "soft",
            min_residency=min_residency,
            turn_after=turn_after,
            ttl=ttl,
        ),
    )
    found = simulator.run()
    ledger = simulator.ledger
    assert ledger.hits + found.cold + found.refusals == len(drawn)
    assert ledger.queue.count == 0
    assert all(not resident.in_use for resident in ledger.residents)
    assert 0 <= found.wait_p50 <= found.wait_p95 <= found.wait_p99 <= found.wait_most <= 30
    if hard:
        assert found.most_residents <= cap
    if not found.refusals:
        assert found.loads >= len(np.unique(asked.model))
    assert 1 / 6 - 1e-9 <= found.jain <= 1 + 1e-9 or not np.any(asked.at)


class Watched(Simulator):
    """Writes down every decision that is carried out."""

    def __init__(self, trace: Trace, policy: Policy) -> None:
        self.made: list[tuple[float, str]] = []
        super().__init__(trace, policy)

    def _carry_out(self, decisions: Iterable[Decision], now: float) -> None:
        decisions = list(decisions)
        self.made += ((now, describe(decision)) for decision in decisions)
        super()._carry_out(decisions, now)


@given(
    seed=st.integers(0, 10_000),
    models=st.integers(2, 8),
    rate=st.sampled_from([0.5, 3.0, 10.0]),
    load_s=st.sampled_from([0.0, 0.05, 2.0]),
    speech_s=st.sampled_from([0.0, 0.5, 6.0]),
    cap=st.integers(1, 4),
    hard=st.booleans(),
    turn_after=st.sampled_from([-1.0, 0.0, 2.0]),
    min_residency=st.sampled_from([0.0, 3.0]),
    ttl=st.sampled_from([-1.0, 0.0, 4.0]),
)
@settings(max_examples=40, deadline=None)
def test_the_short_way_makes_the_decisions_of_the_long_way_at_the_same_times(
    seed: int,
    models: int,
    rate: float,
    load_s: float,
    speech_s: float,
    cap: int,
    hard: bool,
    turn_after: float,
    min_residency: float,
    ttl: float,
) -> None:
    workload = Workload(
        models, rate, 0.01, burst=2, speech_s=speech_s, load_s=load_s, seed=seed, zipf=0.5
    )
    asked = generate(workload)
    policy = Policy(
        resident_cap=cap,
        cap_policy="hard" if hard else "soft",
        min_residency=min_residency,
        turn_after=turn_after,
        ttl=ttl,
        acquire_timeout=10.0,
    )
    watched = Watched(asked, policy)
    watched.run()
    assert watched.made == decisions_of(asked, policy)
