"""The recipes that need no client of others, run; those that do are run by `make conformance`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info

from conformance.recipes import PAGE, recipe, recipes
from greenroom.config.schema import Config
from greenroom.worker.app import Worker
from tests.audio_files import heard

ROOT = Path(__file__).parents[2]
GREENROOM = str(Path(sys.executable).parent / "greenroom")
TONE = (
    "--set=models=[{model_id: tone-440, variant_of: tone-440}]",
    "--set=model_manager.default_model_id=tone-440",
    "--listen=127.0.0.1:0",
    "--http-listen=127.0.0.1:0",
)
DIRECT = {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}


@pytest.fixture(scope="module")
def http() -> Iterator[str]:
    """Where a worker with a tone serves HTTP."""
    process = subprocess.Popen([GREENROOM, "serve", *TONE], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert process.stdout.readline().startswith("ready")
        yield address
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def run(command: list[str], folder: Path, **more: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **DIRECT},
        input=more.get("typed"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_curl_speaks(http: str, tmp_path: Path) -> None:
    run(shlex.split(recipe("curl", "sh", http)), tmp_path)
    sound = heard((tmp_path / "hello.mp3").read_bytes(), "mp3")
    assert sound.frequency == pytest.approx(440, abs=3)


def test_a_program_of_your_own_speaks(http: str, tmp_path: Path) -> None:
    run([sys.executable, "-c", recipe("Your own program", "python", http)], tmp_path)
    with wave.open(str(tmp_path / "hello.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        assert file.getnframes() > 6_000


def test_asterisk_plays_what_its_script_says(http: str, tmp_path: Path) -> None:
    """The script is run as AGI runs it: it reads the variables, then commands are answered."""
    dialplan = recipes()["Asterisk", "ini"]
    (text,) = re.findall(r"AGI\(say\.py,([^,]+)\)", dialplan)
    script = tmp_path / "say.py"
    script.write_text(recipe("Asterisk", "python", http))
    process = subprocess.Popen(
        [sys.executable, script],
        env={**os.environ, **DIRECT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        process.stdin.write(f"agi_request: say.py\nagi_channel: PJSIP/1\nagi_arg_1: {text}\n\n")
        process.stdin.flush()
        asked = process.stdout.readline()
        played = re.fullmatch(r'STREAM FILE (\S+) ""\n', asked)
        assert played is not None
        sound = heard(Path(f"{played[1]}.ulaw").read_bytes(), "mulaw")
        process.stdin.write("200 result=0 endpos=1\n")
    assert process.returncode == 0
    assert sound.rate == 8_000
    assert sound.frequency == pytest.approx(440, abs=3)
    assert sound.seconds > 0.5


def test_open_webui_finds_voices_and_models_and_reads_aloud(http: str) -> None:
    """Its requests, with the settings of the recipe, which are those of the compose file."""
    lines = recipes()["Open WebUI", "sh"].splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    compose = yaml.safe_load((ROOT / "deploy" / "compose" / "open-webui.yaml").read_text())
    theirs = compose["services"]["open-webui"]["environment"]
    address = {"AUDIO_TTS_OPENAI_API_BASE_URL": "http://greenroom:8880/v1"}
    assert (settings | address).items() <= theirs.items()
    assert settings["AUDIO_TTS_OPENAI_API_BASE_URL"].startswith("http://127.0.0.1:8880")
    base = settings["AUDIO_TTS_OPENAI_API_BASE_URL"].replace("http://127.0.0.1:8880", http)
    with httpx.Client(trust_env=False, timeout=60) as web:
        voices = {v["id"]: v["name"] for v in web.get(f"{base}/audio/voices").json()["voices"]}
        models = {model["id"] for model in web.get(f"{base}/audio/models").json()["models"]}
        assert voices["tone-440"] == "tone-440"
        assert "tone-440" in models
        spoken = web.post(
            f"{base}/audio/speech",
            json={
                "model": settings["AUDIO_TTS_MODEL"],
                "voice": settings["AUDIO_TTS_VOICE"],
                "input": "Good evening.",
            },
            headers={"Authorization": f"Bearer {settings['AUDIO_TTS_OPENAI_API_KEY']}"},
        )
        assert heard(spoken.content, "mp3").frequency == pytest.approx(440, abs=3)
        unknown = {"model": "tts-1", "voice": "nobody", "input": "Hello."}
        refused = web.post(f"{base}/audio/speech", json=unknown)
        assert "nobody" in refused.json()["error"]["message"]


async def test_home_assistant_hears_what_a_worker_has_over_wyoming() -> None:
    """Its other calls are made by `tests/worker/wyoming` and by `make conformance`."""
    settings = yaml.safe_load(recipes()["Home Assistant", "yaml"])
    host, _, port = settings["worker"]["wyoming_listen"].rpartition(":")
    compose = yaml.safe_load((ROOT / "deploy" / "compose" / "home-assistant.yaml").read_text())
    greenroom = compose["services"]["greenroom"]
    assert greenroom["environment"] == {"GREENROOM_WORKER__WYOMING_LISTEN": f"0.0.0.0:{port}"}
    assert greenroom["ports"] == [f"{host}:{port}:{port}"]
    settings["worker"]["wyoming_listen"] = f"{host}:0"
    config = Config.model_validate(
        {
            "worker": {**settings["worker"], "listen": "127.0.0.1:0", "http_listen": None},
            "model_manager": {"default_model_id": "tone-440"},
            "models": [{"model_id": "tone-440", "variant_of": "tone-440"}],
        }
    )
    worker = await Worker.create(config)
    try:
        await worker.listen()
        await worker.initialize()
        assert worker.wyoming_server is not None
        async with AsyncTcpClient(host, worker.wyoming_server.address.port) as client:
            await client.write_event(Describe().event())
            answer = await client.read_event()
        assert answer is not None
        voices = {voice.name for program in Info.from_event(answer).tts for voice in program.voices}
        assert "tone-440" in voices
    finally:
        await worker.stop()


def test_every_recipe_is_run_by_a_test_or_a_client() -> None:
    files = (*(ROOT / "conformance").glob("test_*.py"), Path(__file__))
    code = "\n".join(file.read_text() for file in files)
    run_somewhere = set(re.findall(r'recipes?(?:\(|\(\)\[)"([^"]+)", "(\w+)"', code))
    assert run_somewhere == set(recipes())


def test_the_page_says_what_runs_each_recipe() -> None:
    _, _, table = PAGE.read_text(encoding="utf-8").partition("## What runs them")
    rows = re.findall(r"^\| ([^|]+) \| \[[^]]+\]\(([^)]+)\)", table, re.MULTILINE)
    assert {heading for heading, _ in rows} == {heading for heading, _ in recipes()}
    for heading, file in rows:
        code = (PAGE.parent / file).read_text(encoding="utf-8")
        assert re.search(rf'recipes?(?:\(|\(\)\[)"{re.escape(heading)}"', code), heading
