"""A replica as Ray has it, without Ray: its health is its readiness."""

from __future__ import annotations

import pytest

from greenroom.cluster.ray_serve.replica import SpeechReplica
from greenroom.config.schema import Config
from greenroom.errors import ManagerClosedError

CONFIG = Config.model_validate(
    {
        "model_manager": {"default_model_id": "tone-440"},
        "voices": {"directories": [], "packages": []},
        "worker": {"drain_timeout_ms": 0},
    }
)


class Replica(SpeechReplica):
    """One that is begun and ended by name: of both methods Ray awaits what they return."""

    begin = SpeechReplica.__init__
    end = SpeechReplica.__del__

    def __del__(self) -> None:  # type: ignore[override]
        pass


async def test_a_replica_is_healthy_while_it_takes_work() -> None:
    replica = Replica.__new__(Replica)
    await replica.begin(CONFIG)
    try:
        await replica.check_health()
    finally:
        await replica.end()
    with pytest.raises(ManagerClosedError, match="shutting down"):
        await replica.check_health()
