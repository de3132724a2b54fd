"""A real voice on its first start: it speaks from its own file, then from its prepared form."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

from greenroom import AudioFrame, Catalog, Lease, ModelManager
from greenroom.adapters.piper.piper_preparation import PiperPreparation
from tests.piper.real_voice import PATIENT

JOE = "piper-en-us-joe-medium"
STILL = {"noise_scale": 0.0, "noise_w_scale": 0.0}
TEXT = "The voice that speaks now is the one that spoke before."


async def said(lease: Lease) -> np.ndarray:
    stream = lease.synthesize_stream(TEXT, **STILL)
    frames: list[AudioFrame] = [frame async for frame in stream]
    return np.frombuffer(b"".join(frame.pcm for frame in frames), np.int16) / 32_768


@PATIENT
async def test_a_voice_moves_over_to_its_prepared_form_while_it_is_held_and_sounds_as_before(
    monkeypatch: pytest.MonkeyPatch, prepared_cache: Path
) -> None:
    monkeypatch.setenv("GREENROOM_PREPARE", "on")
    # What `greenroom prepare` made of the same voice: to make it again takes 15 s of a processor.
    copied = f"cp -r {prepared_cache}/prepared {os.environ['GREENROOM_CACHE_DIR']}/"
    monkeypatch.setattr(PiperPreparation, "command", lambda *_: ["sh", "-c", copied])
    catalog = await asyncio.to_thread(Catalog.discover)
    async with ModelManager(catalog=catalog, default_model_id=JOE) as manager:
        async with manager.lease(JOE, owner="ann") as lease:
            adapter = lease.adapter
            assert adapter.form == "own file"
            before, booked = await said(lease), manager.list_resident()[0].footprint_mb
            async with asyncio.timeout(120):
                async for event in manager.subscribe():
                    assert event.kind != "unprepared", event.reason
                    if event.kind == "upgraded":
                        break
            after = await said(lease)
            (resident,) = manager.list_resident()
        assert (adapter.form, resident.owners) == ("prepared", ("ann",))
        assert after.shape == before.shape
        assert np.abs(after - before).max() < 2e-4
        assert resident.footprint_mb < booked
        assert "upgraded: to its prepared form" in str(manager.explain(JOE))
