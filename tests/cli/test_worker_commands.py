"""`greenroom serve`, and the commands that ask it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import wave
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from greenroom.cli import main
from greenroom.v1 import tts_pb2, tts_pb2_grpc
from tests.cli.served import GREENROOM, Served
from tests.waiting import LIMIT_S


class Asked:
    """A command that asks the worker: what it printed."""

    def __init__(self, worker: Served, capsys: pytest.CaptureFixture[str]) -> None:
        self._worker = worker
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        assert main([*arguments, "--address", self._worker.address]) == code
        self.err = ""
        out, self.err = self._capsys.readouterr()
        return out


@pytest.fixture
def ask(worker: Served, capsys: pytest.CaptureFixture[str]) -> Asked:
    return Asked(worker, capsys)


def frequency_of(file: Path) -> tuple[float, float]:
    """Return the strongest frequency in Hz, and the duration in seconds."""
    with wave.open(str(file)) as found:
        rate = found.getframerate()
        samples = np.frombuffer(found.readframes(found.getnframes()), "<i2") / 32768
    spectrum = np.abs(np.fft.rfft(samples))
    return float(spectrum.argmax()) * rate / len(samples), len(samples) / rate


def test_it_says_where_it_listens_and_what_is_ready(worker: Served) -> None:
    host, port = worker.address.split(":")
    assert host == "127.0.0.1"
    assert int(port) > 0
    assert worker.listening == f"listening on {worker.address} and {worker.url}; loading tone-440\n"
    assert worker.url.startswith("http://127.0.0.1:")
    assert re.match(r"ready: tone-440 \(\d+\.", worker.ready)
    assert worker.ready.endswith("room for 2 of 9 models; Ctrl-C ends it\n")


def test_what_is_in_memory_is_listed(ask: Asked) -> None:
    lines = ask("ps").splitlines()
    headings = "MODEL STATE REFS HELD BY MEMORY MAPPED IDLE EXPIRES"
    assert lines[0].split() == headings.split()
    assert lines[1].split()[:3] == ["tone-440", "ready", "0"]
    assert lines[1].endswith("pinned")
    assert " of 2 models, " in ask.err
    (resident, *_) = json.loads(ask("ps", "--json"))
    assert (resident["model_id"], resident["state"], resident["pinned"]) == (
        "tone-440",
        "ready",
        True,
    )
    assert resident["expires_in_s"] is None


def test_a_model_is_loaded_explained_and_unloaded(ask: Asked) -> None:
    assert re.match(r"top is in memory after \d+\.", ask("load", "top"))
    assert "high[est]" in ask("ps")
    assert ask("load", "top") == "top is in memory already, 0 MB\n"
    assert ask("explain", "top").startswith("high[est]: ready and idle; it expires in ")
    assert ask("unload", "top") == "top is unloaded\n"
    assert "high[est]" not in ask("ps")
    told = ask("explain", "high[est]")
    assert told.startswith("high[est]: not in memory; unloading ")
    assert "unload was asked for" in told
    said = json.loads(ask("explain", "high[est]", "--json"))
    assert (said["model_id"], said["resident"]) == ("high[est]", None)
    assert said["explanation"][0].startswith("high[est]: not in memory")


def test_many_sessions_are_told_in_a_few_words(worker: Served, ask: Asked) -> None:
    names = [str(number) for number in range(20)]

    async def each(call: str, request: Any) -> None:
        async with grpc.aio.insecure_channel(worker.address) as channel:
            stub: Any = tts_pb2_grpc.TTSServiceStub(channel)
            for name in names:
                await getattr(stub, call)(request(session_id=name), timeout=LIMIT_S)

    asyncio.run(each("StartSession", tts_pb2.StartSessionRequest))
    listed, explained = ask("ps"), ask("explain", "tone-440")
    (resident, *_) = json.loads(ask("ps", "--json"))
    asyncio.run(each("EndSession", tts_pb2.EndSessionRequest))
    assert "  session ×20  " in listed
    assert len(resident["owners"]) == 20
    assert re.search(r"^  held by session ×20 for \d", explained, re.M)
    assert explained.count("held by") == 1


def test_models_are_pinned_and_unpinned_over_http(
    worker: Served, ask: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--address", worker.url]
    assert main(["pin", "tone-247", *at]) == 0
    assert capsys.readouterr().out == "tone-247 is pinned; it is not in memory yet\n"
    ask("load", "tone-247")
    assert "pinned" in ask("ps").splitlines()[2]
    assert main(["pin", "tone-247", *at]) == 0
    assert capsys.readouterr().out == "tone-247 is pinned\n"
    assert main(["unpin", "tone-247", *at]) == 0
    assert capsys.readouterr().out == "tone-247 is not pinned\n"
    ask("unload", "tone-247")
    assert main(["pin", "tone-248", *at]) == 1
    assert "did you mean tone-247" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "problem", "code"),
    [
        ("http://127.0.0.1:1", "no worker answers at http://127.0.0.1:1", 1),
        ("127.0.0.1:1", "no worker answers at 127.0.0.1:1; start one", 1),
        ("ftp://127.0.0.1:1", "must be HOST:PORT", 2),
    ],
)
def test_a_worker_that_cannot_be_asked_over_http_is_one_line(
    address: str, problem: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pin", "tone-220", "--address", address]) == code
    err = capsys.readouterr().err
    assert problem in err
    assert err.count("\n") == 1


def test_one_address_serves_for_commands_over_http_too(
    worker: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GREENROOM_ADDRESS", worker.address)
    for line in (["pin", "tone-330"], ["unpin", "tone-330"], ["ps"]):
        assert main(line) == 0
    assert "tone-330 is not pinned\n" in capsys.readouterr().out


def test_the_http_port_is_told_apart_and_where_grpc_is_said(
    worker: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = worker.url.removeprefix("http://")
    said = f"error: {at} is the worker's HTTP port; gRPC is at {worker.address}.\n"
    for line in (["ps"], ["load", "top"], ["say", "Hi", "-o", str(tmp_path / "a.wav")]):
        for address in (at, worker.url, f"{worker.url}/"):
            assert main([*line, "--address", address]) == 1
            assert capsys.readouterr().err == said
    assert list(tmp_path.iterdir()) == []


def test_a_worker_without_http_says_that_this_needs_it(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = Served(config, "--set", "worker.http_listen=null")
    address = served.listening.removeprefix("listening on ").split(";")[0]
    try:
        assert main(["pin", "top", "--address", address]) == 1
    finally:
        served.end()
    err = capsys.readouterr().err
    fix = "set worker.http_listen."
    assert err == f"error: the worker at {address} serves no HTTP, which this needs; {fix}\n"


@pytest.mark.parametrize("given", ["option", "environment"])
def test_former_names_of_the_address_go_on_to_work(
    worker: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: str,
) -> None:
    recording = ["record", "-o", str(tmp_path / "a"), "--for", "0.1"]
    for line, name, value in (
        (["ps"], "server", worker.address),
        (["unpin", "top"], "url", worker.url),
        (recording, "http-server", worker.url.removeprefix("http://")),
    ):
        with monkeypatch.context() as patch:
            if given == "environment":
                patch.setenv(f"GREENROOM_{name.upper().replace('-', '_')}", value)
                code = main(line)
            else:
                code = main([*line, f"--{name}", value])
        # A short recording may end before a busy machine has connected.
        assert code == 0 or (line is recording and "in time" in capsys.readouterr().err)


def test_a_missing_key_is_an_error_that_says_how_to_give_one(
    config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    keys = "[{key: for-the-kitchen, role: admin}, {key: for-the-table, role: speak}]"
    served = Served(config, "--set", f"worker.api_keys={keys}")
    try:
        for line, given in (
            (["load", "top"], []),
            (["unload", "top"], ["--key", "for-the-table"]),
            (["pin", "top"], []),
            (["say", "Hi", "-o", str(tmp_path / "a.wav")], ["--key", "another-one"]),
        ):
            assert main([*line, "--address", served.address, *given]) == 1
            err = capsys.readouterr().err
            assert err.endswith("Give one of its keys with --key, or in GREENROOM_API_KEY.\n")
            assert err.count("\n") == 1
        assert main(["load", "top", "--address", served.address, "--key", "for-the-kitchen"]) == 0
    finally:
        served.end()


def test_loading_and_unloading_as_json(ask: Asked) -> None:
    (loaded,) = json.loads(ask("load", "tone-220", "--json"))
    assert loaded["model_id"] == "tone-220"
    assert loaded["load_s"] > 0
    assert json.loads(ask("explain", "tone-220", "--json"))["resident"]["state"] == "ready"
    assert json.loads(ask("unload", "tone-220", "--json")) == [{"model_id": "tone-220"}]


@pytest.mark.parametrize("command", ["load", "unload", "explain"])
def test_a_model_that_is_not_in_the_catalog_is_an_error_of_one_line(
    ask: Asked, command: str
) -> None:
    assert ask(command, "tone-44", code=1) == ""
    assert (
        ask.err
        == "error: model 'tone-44' is not in the catalog; did you mean tone-440, "
        + (ask.err.split("tone-440, ")[1])
    )
    assert ask.err.count("\n") == 1


def test_unloading_what_is_not_in_memory_is_an_error_of_one_line(ask: Asked) -> None:
    ask("load", "tone-220")
    assert ask("unload", "tone-330", "tone-220", "top", code=1) == "tone-220 is unloaded\n"
    assert ask.err == (
        "error: tone-330, top are not in memory, so there is nothing to unload; "
        "`greenroom ps` shows what is.\n"
    )
    ask("unload", "tone-330", code=1)
    assert ask.err.startswith("error: tone-330 is not in memory, ")


def test_a_worker_speaks_with_the_callers_voice_options_and_rate(
    ask: Asked, tmp_path: Path
) -> None:
    file = tmp_path / "a.wav"
    ask("say", "Twenty characters ok", "-o", str(file))
    pitch, seconds = frequency_of(file)
    assert (round(pitch / 5) * 5, round(seconds, 1)) == (440, 1.2)
    assert ask.err.startswith(f"{file}: the default model of 127.0.0.1:")
    ask(
        "say",
        "**Twenty** characters ok",
        "--text-form",
        "markdown",
        "-m",
        "top",
        "--speed",
        "2",
        "--rate",
        "16000",
        "-o",
        str(file),
    )
    pitch, seconds = frequency_of(file)
    assert (round(pitch / 5) * 5, round(seconds, 1)) == (880, 0.6)
    assert ask.err.startswith(f"{file}: top of 127.0.0.1:")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_openais_names_are_the_workers_as_over_http(ask: Asked, tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    ask("say", "Twenty characters ok", "-o", str(file), "-m", "alloy")
    assert round(frequency_of(file)[0] / 5) * 5 == 440
    assert ask.err.startswith(f"{file}: alloy of 127.0.0.1:")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-m", "440"), "model '440' is not in the catalog; did you mean tone-440?"),
        (("-m", "tone-44"), "did you mean tone-440"),
        (("--option", "pitch=2"), "option 'pitch' is not known"),
        (("--speed", "99"), "option 'speed' must be a number"),
    ],
)
def test_what_a_worker_refuses_leaves_no_file(
    ask: Asked, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    ask("say", "Hello", "-o", str(tmp_path / "a.wav"), *arguments, code=1)
    assert words in ask.err
    assert ask.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_address_may_come_from_the_environment(
    worker: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GREENROOM_SERVER", "127.0.0.1:9")  # its former name, which yields to it
    monkeypatch.setenv("GREENROOM_ADDRESS", worker.address)
    assert main(["ps"]) == 0
    assert "tone-440" in capsys.readouterr().out


def test_text_from_standard_input_is_spoken_by_a_worker_as_it_comes(worker: Served) -> None:
    process = subprocess.Popen(
        [*GREENROOM, "say", "-o", "-", "--address", worker.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        process.stdin.write(b"The first sentence. And the")
        process.stdin.flush()
        assert process.stdout.read(44 + 1920)[:4] == b"RIFF"
        process.stdin.close()
        process.stdout.read()
    assert process.returncode == 0


def test_of_several_workers_one_that_is_there_speaks(
    worker: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "said.wav"
    servers = f"127.0.0.1:9, {worker.address}"
    assert main(["say", "Hello", "-m", "top", "-o", str(file), "--servers", servers]) == 0
    with wave.open(str(file)) as found:
        assert found.getnframes() > 0
    assert "top of 2 workers" in capsys.readouterr().err


def test_several_workers_are_listed_with_what_they_have(
    worker: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    servers = f"{worker.address},127.0.0.1:9"
    assert main(["ps", "--servers", servers]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[1].startswith(f"{worker.address}  ready")
    assert "tone-440" in lines[1]
    assert "no worker answers at 127.0.0.1:9" in lines[2]
    assert "1 of 2 workers take work" in shown.err
    assert main(["ps", "--servers", servers, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["report"]["ready"] is True
    assert (second["report"], second["server"]) == (None, "127.0.0.1:9")


def test_of_several_addresses_one_that_is_none_is_an_error_of_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["say", "Hello", "-o", "-", "--servers", "127.0.0.1:9,nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_an_address_that_is_taken_is_an_error_of_one_line(worker: Served, config: Path) -> None:
    second = Served(config, "--listen", worker.address)
    code, log = second.end()
    assert (code, second.listening) == (1, "")
    assert log.startswith(f"error: cannot listen on {worker.address}: ")
    assert log.count("\n") == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_ends_well_when_it_is_told_to(config: Path, how: signal.Signals) -> None:
    served = Served(
        config, "--set", "model_manager.default_model_id=top", "--set", "worker.max_streams=1"
    )
    assert served.ready.startswith("ready: high[est] (")
    code, log = served.end(how)
    assert code == 0
    assert "Traceback" not in log
    assert "stopped" in log
