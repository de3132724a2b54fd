"""Administrators have a worker pull voices, which it then serves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from greenroom.config.schema import VoiceSettings, load_config
from greenroom.errors import WorkerBusyError
from greenroom.worker.app import Worker
from greenroom.worker.pulls import Pulls
from tests.voices.collection import (
    KEYS,
    Collection,
    Server,
    cut,
    path_of,
    serving,
    stall,
    whole,
)
from tests.waiting import until

AMY, THORSTEN, TUGAO = KEYS
MODEL = path_of(AMY, f"{AMY}.onnx")
ADMIN = {"Authorization": "Bearer secret-1"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serving(Collection.of()) as made:
        yield made


@pytest.fixture
async def worker(server: Server, tmp_path: Path) -> AsyncIterator[Worker]:
    file = tmp_path / "c.yaml"
    file.write_text(
        f"voices: {{directories: [voices], packages: [], watch: false, index: '{server.url}'}}\n"
        "model_manager: {default_model_id: tone-440}\n"
        "worker:\n"
        '  listen: "127.0.0.1:0"\n'
        '  http_listen: "127.0.0.1:0"\n'
        "  drain_timeout_ms: 0\n"
        "  api_keys: [{key: secret-1, role: admin}, {key: secret-2}]\n"
    )
    made = await Worker.create(await asyncio.to_thread(load_config, file))
    try:
        await made.listen()
        await made.initialize()
        yield made
    finally:
        server.released.set()
        await made.stop()


@pytest.fixture
async def client(worker: Worker) -> AsyncIterator[httpx.AsyncClient]:
    assert worker.http_address is not None
    url = worker.http_address.url
    async with httpx.AsyncClient(base_url=url, headers=ADMIN, timeout=60) as made:
        yield made


def pulls_of(worker: Worker) -> Pulls:
    assert worker.pulls is not None
    return worker.pulls


async def lines(client: httpx.AsyncClient, voice: str) -> list[dict[str, Any]]:
    answer = await client.post("/api/pull", json={"model": voice})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_a_pulled_voice_is_in_the_lists_when_success_is_said(
    client: httpx.AsyncClient, server: Server
) -> None:
    server.faults[MODEL] = [cut(100_000), cut(100_000)]
    *_, last = await lines(client, AMY)
    assert last["status"] == "success"
    assert last["licence"] == f"CC0 (of {AMY})"
    assert last["completed"] == last["total"] > 300_000
    listed = (await client.get("/v1/models")).json()["data"]
    assert "piper-en-us-amy-low" in {model["id"] for model in listed}
    answer = await client.post("/api/pull", json={"model": AMY, "stream": False})
    assert answer.json()["status"] == "success"
    (shown,) = (await client.get("/api/pulls")).json()["pulls"]
    assert (shown["voice"], shown["state"]) == (AMY, "here already")


async def test_a_voice_that_cannot_be_pulled_says_why_and_is_not_listed(
    client: httpx.AsyncClient, server: Server, tmp_path: Path
) -> None:
    server.always[MODEL] = whole(b"\0" * 300_000)
    (*_, last) = await lines(client, AMY)
    assert "wrong checksum" in last["error"]
    answer = await client.post("/api/pull", json={"model": AMY, "stream": False})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "pull_failed")
    answer = await client.post("/api/pull", json={"model": "en_US-ami-low", "stream": False})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_in_index")
    assert AMY in answer.json()["error"]["message"]
    assert list((tmp_path / "voices").iterdir()) == []


async def test_only_administrators_may_pull_and_only_by_name(client: httpx.AsyncClient) -> None:
    speaker = {"Authorization": "Bearer secret-2"}
    answer = await client.post("/api/pull", json={"model": AMY}, headers=speaker)
    assert answer.status_code == 403
    for name in ("../x", "/etc/passwd", "http://elsewhere.example/x", "x\0"):
        (*_, last) = await lines(client, name)
        assert "the index has no voice" in last["error"]
    assert (await client.post("/api/pull", json={"model": ""})).status_code == 400


async def test_a_pull_goes_on_without_its_client_is_joined_and_can_be_stopped(
    worker: Worker, client: httpx.AsyncClient, server: Server
) -> None:
    server.faults[MODEL] = [stall(100_000)]
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/api/pull", json={"model": AMY, "stream": False}, timeout=0.05)
    await until(server.stalled.is_set)
    pull = pulls_of(worker).begin(AMY)
    assert pull is pulls_of(worker).begin(AMY)
    assert pull.state == "pulling"
    waiting = pulls_of(worker).begin(TUGAO)
    assert waiting.state == "waiting"
    await client.delete(f"/api/pulls/{TUGAO}")
    await client.delete(f"/api/pulls/{AMY}")
    server.released.set()
    await until(waiting.over.is_set)
    assert (pull.state, waiting.state) == ("stopped", "stopped")
    (*_, last) = await lines(client, AMY)
    assert last["status"] == "success"


async def test_pulls_that_wait_are_few(worker: Worker, server: Server) -> None:
    server.faults[MODEL] = [stall(0)]
    pulls = pulls_of(worker)
    for name in (AMY, *(f"x{n}" for n in range(15))):
        pulls.begin(name)
    with pytest.raises(WorkerBusyError, match="16 voices"):
        pulls.begin("one-more")
    assert len(pulls.all()) == 16


async def test_ollamas_client_pulls_a_voice(worker: Worker, client: httpx.AsyncClient) -> None:
    async with ollama.AsyncClient(str(client.base_url), headers=ADMIN, trust_env=False) as theirs:
        seen = [each.status async for each in await theirs.pull(AMY, stream=True)]
        assert seen[-1] == "success"
        with pytest.raises(ollama.ResponseError, match="the index has no voice"):
            [each async for each in await theirs.pull("nothing", stream=True)]
        assert (await theirs.pull(AMY)).status == "success"


async def test_the_document_of_the_routes_tells_of_them(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert {"/api/pull", "/api/pulls", "/api/pulls/{voice}", "/api/reload"} <= set(
        document["paths"]
    )
    body = document["paths"]["/api/pull"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["$ref"].rpartition("/")[2] in document["components"]["schemas"]


async def test_a_pull_without_a_directory_for_it_is_refused_before_anything_is_done(
    worker: Worker, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = VoiceSettings(directories=(), packages=())
    monkeypatch.setattr(pulls_of(worker), "_settings", lambda: nowhere)
    answer = await client.post("/api/pull", json={"model": AMY})
    assert answer.status_code == 400
    assert "voices.directories is empty" in answer.json()["error"]["message"]
    assert pulls_of(worker).all() == ()
