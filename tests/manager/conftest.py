"""The manager that most tests of faults use; a module with another one has its own fixture."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from greenroom import ModelManager
from greenroom.testing import Stage


@pytest.fixture
async def manager(stage: Stage) -> AsyncIterator[ModelManager]:
    """A manager that may have two models in memory, the default among them."""
    made = ModelManager(
        catalog=stage.catalog,
        default_model_id="a",
        min_residency_ms=0,
        resident_cap=2,
        cap_policy="hard",
        load_timeout_ms=5_000,
    )
    await made.initialize()
    yield made
    stage.open_all()
    await made.shutdown(drain_timeout_ms=0)
