"""The benchmark of a cluster on Ray Serve runs to its end; no time is asserted.

Replicas that leave cut no stream: it is here that they are told to leave.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.ray
@pytest.mark.bench
@pytest.mark.timeout(300)
@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed; see make cluster"
)
def test_a_short_run_compares_our_router_with_round_robin_and_hurts_no_stream() -> None:
    command = [sys.executable, "-m", "benchmarks.ray_cluster", "--short"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len([line for line in lines if "| round robin |" in line]) == 4, run.stdout
    for figure in ("a replica killed: streams of others", "2 replicas become 1: streams"):
        (row,) = [line for line in lines if line.startswith(f"| {figure}")]
        assert row.endswith("| yes |"), "no stream was hurt"
