"""The benchmark of a cluster on Ray Serve runs to its end; no time is asserted.

Replicas that leave cut no stream: it is here that they are told to leave.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_LIMIT_S = 900.0
"""It takes a minute; a machine that other work keeps busy too may take two to start a replica."""

_END_S = 60.0
"""For Ray's processes to leave, which nothing else ends once the benchmark has gone."""


@pytest.mark.ray
@pytest.mark.bench
@pytest.mark.timeout(_LIMIT_S + 2 * _END_S)
@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed; see make cluster"
)
def test_a_short_run_compares_our_router_with_round_robin_and_hurts_no_stream() -> None:
    status, page, said = _run(sys.executable, "-m", "benchmarks.ray_cluster", "--short")
    assert status == 0, said
    lines = page.splitlines()
    assert len([line for line in lines if "| round robin |" in line]) == 6, page
    for figure in ("a replica killed: streams of others", "2 replicas become 1: streams"):
        (row,) = [line for line in lines if line.startswith(f"| {figure}")]
        assert row.endswith("| yes |"), "no stream was hurt"


def _run(*command: str) -> tuple[int, str, str]:
    """Return the status of a command, and what it has printed and said of itself.

    One that takes too long is interrupted, so that it ends what it has started.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as running:
        try:
            page, said = running.communicate(timeout=_LIMIT_S)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)
            try:
                page, said = running.communicate(timeout=_END_S)
            finally:
                running.kill()
        return running.returncode, page, said
