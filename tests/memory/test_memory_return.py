"""What a real voice takes comes back: life after life, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

LIVES = """
import asyncio, json, psutil
from greenroom import Catalog, ModelManager

JOE = "piper-en-us-joe-medium"

async def live() -> None:
    found = Catalog.discover()
    async with ModelManager(catalog=found, default_model_id=JOE, pin_default=False) as manager:
        seen = []
        for _ in range(8):
            async with manager.lease(JOE) as lease:
                async for _ in lease.synthesize_stream("Hello there."):
                    pass
            await manager.unload(JOE, drain=True)
            seen.append(psutil.Process().memory_info().rss >> 20)
        print(json.dumps({"seen": seen, "children": len(psutil.Process().children())}))

asyncio.run(live())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about glibc")
def test_eight_lives_of_a_voice_leave_no_memory_and_no_process_behind() -> None:
    done = subprocess.run([sys.executable, "-c", LIVES], capture_output=True, check=True)
    told = json.loads(done.stdout)
    one_voice_mb = 60
    assert told["seen"][-1] - told["seen"][3] < one_voice_mb / 3, told
    assert told["children"] == 0
