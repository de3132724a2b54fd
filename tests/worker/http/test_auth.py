"""Keys, roles and limits over HTTP; without keys, this machine only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from greenroom import Catalog, ConfigError, ModelManager
from greenroom.config.schema import Config, WorkerSettings
from greenroom.testing import Stage
from greenroom.worker.app import Worker
from tests.waiting import until
from tests.worker.http.http_client import HttpClient, connected_http_client, running_http_worker
from tests.worker.worker_client import LIMIT_S, Meter, running_worker

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPEECH = "/v1/audio/speech"
ASKED = {"model": "tts-1", "input": "Hello.", "voice": "alloy", "response_format": "pcm"}
SPEAKER, ADMIN = "speak-secret-1", "admin-secret-1"
KEYS: list[dict[str, Any]] = [
    {"key": SPEAKER, "name": "kitchen"},
    {"key": ADMIN, "name": "boss", "role": "admin"},
]
PAGES = (
    *("/v1/models", "/v1/models/tts-1", "/v1/audio/voices", "/v1/audio/models", "/v1"),
    *("/api/version", "/v2", "/openapi.json"),
)


@pytest.fixture
def manager(tone_catalog: Catalog) -> ModelManager:
    return ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def locked(cache_of_module: None) -> AsyncIterator[HttpClient]:
    """A worker with two keys, and a client that has none; what it has in memory does not matter."""
    catalog = Catalog.discover("", adapters=["tone"])
    manager = ModelManager(catalog=catalog, default_model_id="tone-440", resident_cap=8)
    async with running_http_worker(manager, api_keys=KEYS) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def closed(cache_of_module: None) -> AsyncIterator[HttpClient]:
    """A worker that shows nothing to a client without a key, and such a client."""
    catalog = Catalog.discover("", adapters=["tone"])
    manager = ModelManager(catalog=catalog, default_model_id="tone-440", resident_cap=8)
    async with running_http_worker(manager, api_keys=KEYS, public_discovery=False) as made:
        yield made


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Basic {SPEAKER}",
        SPEAKER,
        f"Bearer {SPEAKER}x",
    ],
)
async def test_speech_without_a_known_key_is_unauthenticated(
    locked: HttpClient, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = await locked.post(SPEECH, ASKED, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert "secret" not in answer.text


async def test_a_wrong_key_is_told_before_the_request_is_read(locked: HttpClient) -> None:
    answer = await locked.client.post(SPEECH, content=b"{nonsense")
    assert answer.status_code == 401


@pytest.mark.parametrize("key", [SPEAKER, ADMIN])
async def test_each_of_several_keys_may_speak(locked: HttpClient, key: str) -> None:
    async with connected_http_client(locked.served, key) as web:
        assert (await web.post(SPEECH, ASKED)).status_code == 200


async def test_a_key_may_come_as_x_api_key(locked: HttpClient) -> None:
    async def status(**headers: str) -> int:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return int((await locked.post(SPEECH, ASKED, headers=sent)).status_code)

    assert await status(x_api_key=SPEAKER) == 200
    assert await status(x_api_key="wrong-secret-1") == 401
    assert await status(x_api_key=SPEAKER, authorization="Basic dXNlcjpwYXNz") == 200
    assert await status(x_api_key=SPEAKER, authorization="Bearer wrong-secret-1") == 401
    assert await status(x_api_key="wrong-secret-1", authorization=f"Bearer {SPEAKER}") == 200


async def test_only_an_admin_may_change_what_is_in_memory(locked: HttpClient) -> None:
    wanted = {"model": "tone-220"}
    async with connected_http_client(locked.served, SPEAKER) as web:
        answer = await web.post("/api/load", wanted)
        assert answer.status_code == 403
        error = answer.json()["error"]
        assert error["code"] == "insufficient_permissions"
        assert "kitchen" in error["message"]
    assert (await locked.post("/api/load", wanted)).status_code == 401
    async with connected_http_client(locked.served, ADMIN) as web:
        assert (await web.post("/api/load", wanted)).status_code == 200


async def test_who_may_speak_may_say_so_before(locked: HttpClient) -> None:
    wanted = {"model": "tone-247"}
    assert (await locked.post("/api/prefetch", wanted)).status_code == 401
    async with connected_http_client(locked.served, SPEAKER) as web:
        assert (await web.post("/api/prefetch", wanted)).status_code == 200


@pytest.mark.parametrize("path", PAGES)
async def test_discovery_is_public_unless_the_configuration_says_otherwise(
    closed: HttpClient, path: str
) -> None:
    assert (await closed.client.get(path)).status_code == 401
    async with connected_http_client(closed.served, SPEAKER) as known:
        assert (await known.client.get(path)).status_code == 200


@pytest.mark.parametrize("path", PAGES)
async def test_discovery_needs_no_key(locked: HttpClient, path: str) -> None:
    assert (await locked.client.get(path)).status_code == 200


async def test_requests_beyond_a_keys_rate_are_too_many(manager: ModelManager) -> None:
    keys = [{"key": SPEAKER, "requests_per_minute": 2}, {"key": ADMIN}]
    async with running_http_worker(manager, api_keys=keys) as web:
        async with connected_http_client(web.served, SPEAKER) as known:
            for _ in range(2):
                assert (await known.post(SPEECH, ASKED)).status_code == 200
            answer = await known.post(SPEECH, ASKED)
            assert answer.status_code == 429
            assert 1 <= int(answer.headers["retry-after"]) <= 30
            assert answer.json()["error"]["type"] == "rate_limit_error"
        async with connected_http_client(web.served, ADMIN) as other:
            assert (await other.post(SPEECH, ASKED)).status_code == 200


async def test_streams_beyond_a_keys_share_are_too_many_and_come_back(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    keys = [{"key": SPEAKER, "max_streams": 1}, {"key": ADMIN}]
    async with (
        running_http_worker(manager, api_keys=keys) as web,
        connected_http_client(web.served, SPEAKER) as known,
        connected_http_client(web.served, ADMIN) as other,
    ):
        first = asyncio.create_task(known.post(SPEECH, ASKED))
        await until(lambda: web.served.streams("a") == 1)
        assert (await known.post(SPEECH, ASKED)).status_code == 429
        second = asyncio.create_task(other.post(SPEECH, ASKED))
        await until(lambda: web.served.streams("a") == 2)
        meters["a"].free.set()
        assert [(await each).status_code for each in (first, second)] == [200, 200]
        assert (await known.post(SPEECH, ASKED)).status_code == 200


async def test_no_key_is_in_a_log_an_answer_or_a_repr(
    manager: ModelManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_http_worker(manager, api_keys=KEYS) as locked:
        for key in (SPEAKER, ADMIN, "wrong-secret-1"):
            async with connected_http_client(locked.served, key) as web:
                for path in (SPEECH, "/v1/models", "/nowhere"):
                    answer = await web.post(path, {**ASKED, "voice": "zork"})
                    assert "secret" not in answer.text
        worker = locked.served.worker
        assert "secret" not in repr(worker.config)
        assert "secret" not in str(worker.config.model_dump())
    ours = [r for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    assert ours
    assert not [r.getMessage() for r in ours if "secret" in r.getMessage()]


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "example.org:80"])
async def test_listening_beyond_this_machine_without_a_key_is_refused(
    manager: ModelManager, listen: str
) -> None:
    config = Config(worker={"listen": "127.0.0.1:0", "http_listen": listen})
    with pytest.raises(ConfigError, match=r"http_listen.*no keys.*allow_unauthenticated"):
        await asyncio.to_thread(Worker, config, manager)


@pytest.mark.parametrize("settings", [{"api_keys": KEYS}, {"allow_unauthenticated": True}], ids=str)
async def test_listening_beyond_this_machine_is_possible_with_a_key_or_when_told_so(
    manager: ModelManager, settings: dict[str, Any]
) -> None:
    async with running_worker(manager, http_listen="0.0.0.0:0", **settings) as served:
        address = served.worker.http_address
        assert address is not None
        async with httpx.AsyncClient(trust_env=False) as client:
            headers = {"Host": "voices.example.org", "Authorization": f"Bearer {SPEAKER}"}
            url = f"http://127.0.0.1:{address.port}{SPEECH}"
            answer = await client.post(url, json=ASKED, headers=headers)
            assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example.org"},
        {"Host": "127.0.0.1.example.org:80"},
        {"Host": ""},
        {"Origin": "https://evil.example.org"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
    ],
    ids=str,
)
async def test_a_page_of_somebody_else_cannot_use_a_worker_without_keys(
    manager: ModelManager, headers: dict[str, str]
) -> None:
    async with running_http_worker(manager) as web:
        answer = await web.post(SPEECH, ASKED, headers=headers)
        assert answer.status_code == 403
        assert "api_keys" in answer.json()["error"]["message"]


async def said_to(web: HttpClient, *lines: str) -> str:
    """Return what the worker answers to the lines of one request, sent as they are."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.client.base_url.port)
    writer.write("\r\n".join([*lines, "", ""]).encode())
    async with asyncio.timeout(LIMIT_S):
        answer = await reader.read() if "close" in lines[-1] else await reader.read(1_000)
    writer.close()
    return answer.decode()


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/api/ps", "/metrics"])
async def test_a_client_of_http_1_0_need_not_name_a_host(manager: ModelManager, path: str) -> None:
    async with running_http_worker(manager) as web:
        answer = await said_to(web, f"GET {path} HTTP/1.0", "Connection: close")
        assert answer.startswith("HTTP/1.1 200"), answer


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["GET /api/ps HTTP/1.1", "Connection: close"], 400),
        (["GET /api/ps HTTP/1.0", "Host: evil.example.org"], 403),
        (["GET /api/ps HTTP/1.0", "Host:"], 403),
        (["GET /api/ps HTTP/1.0", "Origin: https://evil.example.org"], 403),
        (["GET /api/ps HTTP/1.0", "Host: localhost", "Origin: https://evil.example.org"], 403),
        (["GET /api/ps HTTP/1.1", "Host: localhost", "Host: evil.example.org"], 400),
        (["GET http://evil.example.org/api/ps HTTP/1.1", "Host: evil.example.org"], 403),
    ],
    ids=str,
)
async def test_a_page_of_somebody_else_gains_nothing_by_the_version_of_http(
    manager: ModelManager, lines: list[str], status: int
) -> None:
    async with running_http_worker(manager) as web:
        answer = await said_to(web, *lines)
        assert answer.startswith(f"HTTP/1.1 {status}"), answer


async def test_why_a_worker_is_not_ready_names_models_only_to_who_may_see_them() -> None:
    stage = Stage("secret", "open")
    manager = ModelManager(catalog=stage.catalog, default_model_id="secret")
    async with running_http_worker(manager, api_keys=KEYS, public_discovery=False) as web:
        await web.served.worker.synthesis.unload_model("secret")
        for path in ("/health", "/v2/health/ready"):
            assert "secret" not in (await web.client.get(path)).text
            async with connected_http_client(web.served, SPEAKER) as known:
                assert "secret" in (await known.client.get(path)).text


async def test_the_workers_own_page_can_use_it(manager: ModelManager) -> None:
    async with running_http_worker(manager) as web:
        port = web.client.base_url.port
        for name in ("127.0.0.1", "localhost"):
            headers = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}"}
            assert (await web.post(SPEECH, ASKED, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"aliases": {"nova": "tone-22"}}, r"worker\.aliases\.nova.*tone-220"),
        ({"api_keys": [{"key": SPEAKER}, {"key": SPEAKER}]}, "there twice"),
        ({"api_keys": [{"key": SPEAKER, "name": "x"}, {"key": ADMIN, "name": "x"}]}, "name 'x'"),
    ],
    ids=["alias", "key", "name"],
)
async def test_settings_that_cannot_work_are_refused_at_the_start(
    manager: ModelManager, change: dict[str, Any], words: str
) -> None:
    config = Config(worker={"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", **change})
    with pytest.raises(ConfigError, match=words) as caught:
        await asyncio.to_thread(Worker, config, manager)
    assert "secret" not in str(caught.value)


async def test_an_address_in_use_is_one_sentence(manager: ModelManager) -> None:
    async with running_http_worker(manager) as web:
        taken = str(web.served.worker.http_address)
        config = Config(worker={"listen": "127.0.0.1:0", "http_listen": taken})
        second = await asyncio.to_thread(Worker, config, manager)
        with pytest.raises(ConfigError, match=f"cannot listen on {taken}: address already in use"):
            await second.listen()


async def test_http_may_be_off_or_on_a_unix_socket(manager: ModelManager, tmp_path: Any) -> None:
    path = tmp_path / "http.sock"
    async with running_worker(manager, http_listen=f"unix:{path}") as served:
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
            assert (await client.post(SPEECH, json=ASKED)).status_code == 200
        assert str(served.worker.http_address) == f"unix:{path}"
    assert not path.exists()


async def test_without_a_key_only_this_machine_is_the_default() -> None:
    settings = WorkerSettings()
    assert str(settings.http_listen) == "127.0.0.1:8880"
    assert settings.api_keys == ()
    assert not settings.allow_unauthenticated
