"""A cluster in virtual time: ledgers that serve, a router that ranks, and reports that are late."""

from __future__ import annotations

import pytest

from benchmarks.virtual_cluster import VirtualCluster, played, requests_by_zipf

REQUESTS = requests_by_zipf(16, 600, 3.0, seed=1)


def by_rank(**more: float) -> VirtualCluster:
    return played(REQUESTS, "by rank", workers=4, places=3, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole() -> VirtualCluster:
    """One worker that has all places: what no router can better."""
    return played(REQUESTS, "by rank", workers=1, places=12)


@pytest.mark.parametrize(
    ("routers", "report_every"), [(1, 0.5), (3, 0.5), (1, 3.0)], ids=["", "routers", "stale"]
)
def test_a_cluster_loads_hardly_more_than_one_worker_with_all_places(
    whole: VirtualCluster, routers: int, report_every: float
) -> None:
    assert by_rank(routers=routers, report_every=report_every).loads <= 1.15 * whole.loads


def test_it_loads_less_than_half_of_what_workers_in_turn_do() -> None:
    assert by_rank().loads <= played(REQUESTS, "in turn", workers=4, places=3).loads / 2


def test_it_loads_less_than_with_a_home_by_hash_alone() -> None:
    assert by_rank().loads < played(REQUESTS, "by hash", workers=4, places=3).loads


def test_all_are_served() -> None:
    ended = by_rank()
    assert (len(ended.waits), ended.refused) == (len(REQUESTS), 0)
