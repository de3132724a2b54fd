"""What a process is given less of than the manager's, wherever that is started."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
from pathlib import Path
from greenroom.hosts import confinement
score = Path("/proc/self/oom_score_adj")
score.write_text("{given}")
confinement.take_second_place()
print(int(score.read_text()))
"""


@pytest.mark.parametrize(("given", "then"), [(600, 850), (999, 1_000), (1_000, 1_000)])
def test_a_process_is_ended_before_the_one_that_started_it_however_soon_that_would_be(
    given: int, then: int
) -> None:
    run = [sys.executable, "-c", PROGRAM.format(given=given)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (f"{then}\n", "")
