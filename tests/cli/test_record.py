"""`greenroom record`: a real worker's requests in a file, and back through the simulator."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from greenroom import Catalog, ModelManager
from greenroom.cli import main
from greenroom.cli.record import record
from greenroom.cli.terminal.console import CommandError
from greenroom.ledger.state import Policy
from greenroom.simulation.simulator import simulate
from greenroom.simulation.trace_sources import read_trace
from tests.waiting import until
from tests.worker.http.http_client import HttpClient, running_http_worker


async def say(web: HttpClient, model: str, status: int = 200) -> None:
    asked = {"model": model, "voice": model, "input": "Hi.", "response_format": "pcm"}
    assert (await web.post("/v1/audio/speech", asked)).status_code == status


async def test_what_a_worker_is_asked_for_is_written_down_and_simulated(
    tone_catalog: Catalog, tmp_path: Path
) -> None:
    file = tmp_path / "trace.jsonl"
    manager = ModelManager(
        catalog=tone_catalog,
        default_model_id="tone-440",
        resident_cap=2,
        cap_policy="hard",
        min_residency_ms=0,
        pin_default=False,
    )
    async with running_http_worker(manager) as web:
        address = web.url.removeprefix("http://")
        recording = asyncio.create_task(asyncio.to_thread(record, file, address, None, None))
        await until(lambda: file.exists() and '"model"' in file.read_text())
        for model in ("tone-440", "tone-220", "tone-220", "tone-247", "tone-440"):
            await say(web, model)
            await until(lambda: not manager.statistics().residents[0].streams)
        await web.served.worker.stop()
        await asyncio.wait_for(recording, 30)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    found = await asyncio.to_thread(read_trace, str(file))
    assert [line["model"] for line in lines if line["kind"] == "load"] == [
        "tone-220",
        "tone-247",
        "tone-440",
    ]
    assert (len(found), found.loads) == (5, 3)
    outcome = simulate(found, Policy(resident_cap=2, cap_policy="hard", min_residency=0.0))
    assert (outcome.cold, outcome.loads, outcome.refusals) == (3, 3, 0)


async def record_shortly(file: Path, address: str, key: str | None) -> list[dict[str, object]]:
    """Record for as short as the machine lets us connect, and return the lines."""
    for seconds in (0.5, 2.0, 8.0, 30.0):
        with contextlib.suppress(CommandError):
            await asyncio.to_thread(record, file, address, key, seconds)
            break
    return [json.loads(line) for line in file.read_text().splitlines()]


async def test_a_recording_ends_after_its_time(tone_catalog: Catalog, tmp_path: Path) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager) as web:
        lines = await record_shortly(tmp_path / "a", web.url.removeprefix("http://"), None)
    assert (lines[0]["kind"], lines[-1]["kind"]) == ("greenroom trace", "end")


async def test_a_request_that_is_refused_is_written_down_as_that(
    tone_catalog: Catalog, tmp_path: Path
) -> None:
    file = tmp_path / "trace.jsonl"
    manager = ModelManager(
        catalog=tone_catalog,
        default_model_id="tone-440",
        resident_cap=1,
        cap_policy="hard",
        acquire_timeout_ms=0,
    )
    async with running_http_worker(manager) as web:
        address = web.url.removeprefix("http://")
        recording = asyncio.create_task(asyncio.to_thread(record, file, address, None, None))
        await until(lambda: file.exists() and '"model"' in file.read_text())
        await say(web, "tone-220", 503)
        await web.served.worker.stop()
        await asyncio.wait_for(recording, 30)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    (refused,) = (line for line in lines if line["kind"] == "request")
    assert (refused["model"], refused["outcome"]) == ("tone-220", "refused")


async def test_a_worker_with_keys_is_recorded_with_one(
    tone_catalog: Catalog, tmp_path: Path
) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    keys = [{"key": "for-the-operator", "role": "admin"}]
    async with running_http_worker(manager, api_keys=keys, public_discovery=False) as web:
        address = web.url.removeprefix("http://")
        with pytest.raises(CommandError, match="wants a key"):
            await asyncio.to_thread(record, tmp_path / "a", address, None, None)
        assert await record_shortly(tmp_path / "b", address, "for-the-operator")


def test_a_file_that_is_there_is_not_written_over(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text("precious")
    assert main(["record", "-o", str(file), "--address", "127.0.0.1:9"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert file.read_text() == "precious"


def test_a_worker_that_is_not_there_is_an_error_of_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["record", "-o", str(tmp_path / "a"), "--address", "127.0.0.1:9"]) == 1
    assert "no worker answers at 127.0.0.1:9" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
