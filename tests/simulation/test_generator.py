"""Generated traces have the shape that was asked for, and are the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from greenroom.errors import TraceError
from greenroom.simulation.generator import Workload, generate, parse_workload
from greenroom.simulation.trace import Trace


def made(text: str) -> Trace:
    return generate(parse_workload(f"generate:{text}"))


def test_the_same_seed_makes_the_same_trace_and_another_seed_another() -> None:
    first, again, other = (made(f"hours=0.1,seed={seed}") for seed in (1, 1, 2))
    assert np.array_equal(first.at, again.at)
    assert np.array_equal(first.model, again.model)
    assert np.array_equal(first.speech_s, again.speech_s)
    assert not np.array_equal(first.model[:50], other.model[:50])


def test_requests_come_in_order_and_at_the_rate_asked_for() -> None:
    found = made("rate=20,hours=1")
    assert len(found) == pytest.approx(72_000, rel=0.03)
    assert np.all(np.diff(found.at) >= 0)
    assert 0 <= found.at[0] <= found.at[-1] <= 3_600
    assert found.speech_s.mean() == pytest.approx(3.0, rel=0.05)


def test_the_first_rank_is_asked_for_twice_as_often_as_the_second() -> None:
    counts = np.sort(np.bincount(made("models=50,rate=50,zipf=1").model))[::-1]
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.1)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.15)
    alike = np.bincount(made("models=10,rate=50,zipf=0").model)
    assert alike.min() / alike.max() > 0.9


def test_bursts_are_of_one_model_and_leave_the_rate_as_it_is() -> None:
    calm, bursty = made("models=100,zipf=0,burst=1"), made("models=100,zipf=0,burst=10")
    assert len(bursty) == pytest.approx(len(calm), rel=0.1)

    def repeated(found: Trace) -> float:
        """Return how often one of the next 50 requests is for the same model."""
        near = [
            found.model[:-50] == found.model[step : len(found) - 50 + step] for step in range(1, 51)
        ]
        return float(np.any(near, axis=0).mean())

    assert repeated(bursty) > repeated(calm) + 0.3
    assert np.all(np.diff(bursty.at) >= 0)


def test_at_night_as_few_come_as_is_said() -> None:
    found = made("hours=48,rate=2,night=0.25")
    counts = np.histogram(found.at % 86_400, bins=24, range=(0, 86_400))[0]
    assert counts[[23, 0]].mean() / counts[[11, 12]].mean() == pytest.approx(0.25, rel=0.15)
    assert len(found) == pytest.approx(48 * 3_600 * 2, rel=0.03)


def test_drift_changes_who_is_asked_for_most() -> None:
    def favourites(text: str) -> set[int]:
        found = made(f"models=50,rate=5,hours=12,zipf=1.5,{text}")
        hours = (found.at // 3_600).astype(int)
        return {int(np.bincount(found.model[hours == hour]).argmax()) for hour in range(12)}

    assert len(favourites("drift=0")) == 1
    assert len(favourites("drift=0.5")) > 3


def test_a_specification_sets_every_key() -> None:
    text = "generate:models=5,rate=2,hours=3,zipf=0.5,burst=2,night=0.5,drift=0.1,speech_s=1"
    workload = parse_workload(f"{text},load_s=0.1,footprint_mb=9,seed=4")
    assert workload == Workload(5, 2, 3, 0.5, 2, 0.5, 0.1, 1, 0.1, 9, 4)
    assert parse_workload("generate:") == Workload()
    model = generate(workload).models[0]
    assert (model.loads_s, model.footprint) == ((0.1,), 9 * 1024**2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rat=5", "'rat'"),
        ("rate=fast", "rate must be a number"),
        ("rate=nan", "rate must be from"),
        ("models=0", "models must be from 1"),
        ("models=2.5", "models must be a whole number"),
        ("night=2", "night must be from 0 to 1"),
        ("rate=1000000,hours=24", "requests"),
    ],
)
def test_a_specification_that_cannot_work_is_refused_with_its_key(text: str, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        parse_workload(f"generate:{text}")
