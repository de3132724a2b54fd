"""What the engine's runtime is told before it is there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASK = """
import sys
from greenroom.adapters.piper import PiperTTSAdapter
assert "onnxruntime" not in sys.modules
import os
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""


@pytest.mark.parametrize(("chosen", "told"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
def test_it_is_told_not_to_report_home_before_it_is_imported(
    chosen: dict[str, str], told: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | chosen
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True)
    assert done.stdout.decode().strip() == told, done.stderr.decode()
