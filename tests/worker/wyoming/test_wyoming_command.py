"""`greenroom serve --wyoming-listen`: what it says, that it is served, and what is missing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from wyoming.audio import AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.tts import Synthesize

from greenroom.cli import main
from tests.worker.wyoming.home_assistant import heard_until

GREENROOM = [sys.executable, "-c", "import sys; from greenroom.cli import main; sys.exit(main())"]
CONFIG = """
model_manager: {default_model_id: tone-440}
voices: {directories: [], packages: []}
worker: {listen: "127.0.0.1:0", http_listen: null}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "worker.yaml"
    file.write_text(CONFIG)
    return file


def test_it_says_where_it_listens_and_speaks_there(config: Path) -> None:
    async def heard(url: str) -> float:
        place = urlsplit(url)
        assert place.hostname == "127.0.0.1"
        async with AsyncTcpClient(place.hostname, place.port or 0) as client:
            await client.write_event(Synthesize("Hello there.").event())
            return (await heard_until(client, AudioStop.is_type)).sound.frequency

    with subprocess.Popen(
        [*GREENROOM, "serve", "--config", str(config), "--wyoming-listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        places = process.stdout.readline().removeprefix("listening on ").split(";")[0]
        _, url = places.split(" and ")
        assert url.startswith("tcp://")
        assert process.stdout.readline().startswith("ready: ")
        assert asyncio.run(heard(url)) == pytest.approx(440, abs=5)
        process.terminate()
        process.stdout.read()
        assert process.wait(60) == 0


@pytest.mark.parametrize("command", [["serve", "--config"], ["config", "check"]])
def test_without_the_library_one_line_says_what_to_install(
    command: list[str],
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("greenroom.worker.settings_check.find_spec", lambda name: None)
    monkeypatch.setenv("GREENROOM_WORKER__WYOMING_LISTEN", "127.0.0.1:0")
    assert main([*command, str(config)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1, said
    assert said[0].endswith(
        "worker.wyoming_listen: wyoming is not installed; run `pip install 'greenroom[wyoming]'`."
    )
