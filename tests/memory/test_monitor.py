"""What the process takes is current for whoever asks, also where no model does anything."""

from __future__ import annotations

import pytest

from greenroom import ModelManager
from greenroom.memory.usage import MIB, Usage
from greenroom.testing import Stage, VirtualTimeLoop
from greenroom.worker.history import STEP_S

pytestmark = pytest.mark.virtual_time


async def test_whoever_asks_every_few_seconds_sees_what_an_idle_process_takes(
    clock: VirtualTimeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    anonymous_mb = 100

    def usage() -> Usage:
        looks.append(anonymous_mb)
        return Usage(anonymous_mb * MIB)

    monkeypatch.setattr("greenroom.memory.usage.usage", usage)

    def shown(manager: ModelManager) -> float:
        memory = manager.statistics().process_memory
        assert memory is not None
        return memory.anonymous_mb

    async with ModelManager(catalog=Stage("a").catalog, default_model_id="a") as manager:
        await clock.advance(60)
        looks.clear()
        anonymous_mb = 70
        await clock.advance(60)
        assert looks == []  # for nobody it is not read
        assert shown(manager) == 100
        for _ in range(3):
            await clock.advance(STEP_S)
            assert shown(manager) == anonymous_mb
            anonymous_mb -= 10
        looks.clear()
        for _ in range(100):
            shown(manager)
        await clock.settle()
        assert len(looks) <= 2  # by device and as a whole: one look, however many ask
