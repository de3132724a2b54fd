"""What one key may use: requests refill evenly, streams come back."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from pydantic import SecretStr

from greenroom.config.schema import ApiKey, WorkerSettings
from greenroom.errors import WorkerBusyError
from greenroom.worker.auth import Keys, Quota


class Clock:
    """A clock that a test moves; seconds."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_requests_come_in_a_burst_of_a_minute_and_then_at_the_rate() -> None:
    clock = Clock()
    quota = Quota(requests_per_minute=6, clock=clock)
    for _ in range(6):
        quota.count_request()
    with pytest.raises(WorkerBusyError, match="6 requests a minute") as refusal:
        quota.count_request()
    assert refusal.value.retry_after == pytest.approx(10)
    clock.now += 9.5
    with pytest.raises(WorkerBusyError) as refusal:
        quota.count_request()
    assert refusal.value.retry_after == pytest.approx(0.5)
    clock.now += 0.5
    quota.count_request()
    with pytest.raises(WorkerBusyError):
        quota.count_request()


def test_what_was_not_used_is_kept_for_a_minute_only() -> None:
    clock = Clock()
    quota = Quota(requests_per_minute=2, clock=clock)
    clock.now += 3_600
    quota.count_request()
    quota.count_request()
    with pytest.raises(WorkerBusyError):
        quota.count_request()


def test_a_stream_gives_its_place_back_however_it_ends() -> None:
    quota = Quota(max_streams=1)
    for _ in range(3):
        with contextlib.suppress(ValueError), quota.stream():
            with pytest.raises(WorkerBusyError, match="1 streams") as refusal, quota.stream():
                pass
            assert refusal.value.retry_after == 1.0
            raise ValueError


def test_every_refusal_is_told() -> None:
    refused: list[str] = []
    quota = Quota(max_streams=1, requests_per_minute=1, refused=refused.append)
    quota.count_request()
    with pytest.raises(WorkerBusyError):
        quota.count_request()
    with quota.stream(), pytest.raises(WorkerBusyError), quota.stream():
        pass
    assert refused == ["key_requests", "key_streams"]


def test_without_limits_everything_is_allowed() -> None:
    quota = Quota()
    for _ in range(1_000):
        quota.count_request()
        quota.stream().__enter__()


def _fairly(*keys: dict[str, Any]) -> Keys:
    settings = WorkerSettings(
        max_streams=8,
        max_sessions=6,
        api_keys=[ApiKey(key=SecretStr(f"secret-{n}"), **key) for n, key in enumerate(keys)],
    )
    return Keys(settings, lambda _: None)


def test_of_several_keys_none_takes_the_last_quarter_of_the_streams() -> None:
    keys = _fairly({}, {})
    greedy, other = (keys.recognise([f"Bearer secret-{n}"]).quota for n in (0, 1))
    with contextlib.ExitStack() as running:
        for _ in range(6):
            running.enter_context(greedy.stream())
        with pytest.raises(WorkerBusyError, match="6 streams"), greedy.stream():
            pass
        with other.stream(), other.stream():
            pass


def test_of_several_keys_none_takes_the_last_quarter_of_the_sessions() -> None:
    assert _fairly({}, {}).recognise(["Bearer secret-1"]).quota.max_sessions == 5


def test_a_key_that_is_alone_or_has_limits_of_its_own_is_left_no_less() -> None:
    alone = _fairly({}).recognise(["Bearer secret-0"]).quota
    own = _fairly({"max_streams": 8, "max_sessions": 6}, {}).recognise(["Bearer secret-0"])
    for quota in (alone, own.quota):
        assert quota.max_sessions == 6
        with contextlib.ExitStack() as running:
            for _ in range(8):
                running.enter_context(quota.stream())
