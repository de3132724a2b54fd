"""The tour, as whoever tries Greenroom first sees it: in a pipe, to its end."""

from __future__ import annotations

import subprocess
import sys
import wave
from pathlib import Path

import numpy as np

GREENROOM = [sys.executable, "-c", "import sys; from greenroom.cli import main; sys.exit(main())"]


def test_the_tour_ends_by_itself_and_every_claim_holds(tmp_path: Path) -> None:
    folder = tmp_path / "demo-out"
    tour = subprocess.run(
        [*GREENROOM, "demo", "--out", str(folder)], capture_output=True, text=True, check=False
    )
    assert (tour.returncode, tour.stderr) == (0, ""), tour.stdout
    assert "\x1b" not in tour.stdout
    assert max(map(len, tour.stdout.splitlines()[:-1])) <= 80 + len(str(tmp_path))
    told = " ".join(tour.stdout.split())
    for words in (
        "1 load, 2 references, and both have the same object",
        "least recently used, its room was needed",
        "no room for model 'piper-demo-lively'",
        "try again in",
        "of what the voices took is given back",
        f"claims held; 5 WAV files are in {folder}.",
    ):
        assert words in told
    assert "NO  " not in tour.stdout
    for file in folder.iterdir():
        with wave.open(str(file)) as found:
            assert found.getframerate() == 48_000
            samples = np.frombuffer(found.readframes(found.getnframes()), "<i2") / 32768
        assert 0.5 < len(samples) / 48_000 < 10
        assert 0.05 < np.abs(samples).max() < 0.999
