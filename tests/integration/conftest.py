"""Fixtures of the tests that start a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from serving import Meter, Served, metered, serving

from greenroom import Catalog, ModelManager


@pytest.fixture
def tone_catalog() -> Catalog:
    """Eight tones, `tone-220` to `tone-440`."""
    return Catalog.discover("", adapters=["tone"])


@pytest.fixture
async def tones(tone_catalog: Catalog) -> AsyncIterator[Served]:
    """A worker with eight tones."""
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)
    async with serving(manager) as served:
        yield served


@pytest.fixture
def meters() -> dict[str, Meter]:
    """What the models `a` to `d` of `metered_worker` may speak."""
    return {}


@pytest.fixture
def metered_catalog(meters: dict[str, Meter]) -> Catalog:
    """Models that speak what their meters allow."""
    catalog, made = metered(*"abcd")
    meters.update(made)
    return catalog


@pytest.fixture
async def metered_worker(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> AsyncIterator[Served]:
    """A worker whose models speak what their meters allow."""
    manager = ModelManager(catalog=metered_catalog, default_model_id="a", resident_cap=4)
    try:
        async with serving(manager) as served:
            yield served
    finally:
        for meter in meters.values():
            meter.free.set()
