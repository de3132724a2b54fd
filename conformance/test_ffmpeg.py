"""FFmpeg, which reads speech from an address; the program comes with `imageio-ffmpeg`."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

from conformance.recipes import recipe
from conformance.started import Started
from tests.audio_files import heard

pytestmark = pytest.mark.client("imageio-ffmpeg")


def test_the_recipe_speaks(worker: Started, tmp_path: Path) -> None:
    command = shlex.split(recipe("ffmpeg", "sh", worker.http))
    assert command[0] == "ffmpeg"
    program = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([program, *command[1:]], cwd=tmp_path, check=True, timeout=60)
    sound = heard((tmp_path / "hello.m4a").read_bytes(), "mp4")
    assert (sound.rate, sound.seconds > 0.4) == (48_000, True)
