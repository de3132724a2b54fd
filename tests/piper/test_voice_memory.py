"""The accounts of a real voice, as the system counts its memory."""

from __future__ import annotations

import asyncio
import sys

import pytest

from greenroom import Catalog, ModelManager

JOE = "piper-en-us-joe-medium"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures what glibc gives back")
async def test_what_a_real_voice_took_comes_back_and_explain_says_so() -> None:
    catalog = await asyncio.to_thread(Catalog.discover)
    async with ModelManager(catalog=catalog, default_model_id=JOE, pin_default=False) as manager:
        await manager.unload(JOE)  # the engine itself has come into memory, to stay
        await manager.load(JOE)
        await manager.release(JOE)
        await manager.unload(JOE)
        (account,) = manager.statistics().memory
        said = str(manager.explain(JOE)).splitlines()[1]
    assert account.lives == 2
    assert account.taken_mb is not None
    assert account.returned_mb is not None
    assert account.not_returned_mb is not None
    assert account.not_returned_mb < 12
    assert said == (
        f"  last time it took {account.taken_mb:.1f} MB and gave back {account.returned_mb:.1f} MB"
    )
