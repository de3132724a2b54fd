"""Models over HTTP, as Ollama's, Triton's and Greenroom's own clients bring them in and out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import ollama
import pytest
import pytest_asyncio

from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.memory.usage import MIB
from greenroom.testing import Stage
from greenroom.worker.http import ollama as ollama_routes
from tests.waiting import until
from tests.worker.http.http_client import HttpClient, connected_http_client, running_http_worker

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = [
    {"name": "app", "key": "speak-key", "role": "speak"},
    {"name": "ops", "key": "admin-key", "role": "admin"},
]


@pytest_asyncio.fixture(loop_scope="module")
async def own(tone_catalog: Catalog) -> AsyncIterator[HttpClient]:
    """A worker of a test's own, whose models may leave at once."""
    manager = ModelManager(
        catalog=tone_catalog, default_model_id="tone-440", resident_cap=8, min_residency_ms=0
    )
    async with running_http_worker(manager) as made:
        yield made


async def shown(own: HttpClient, model: str) -> dict[str, Any] | None:
    models = (await own.get("/api/ps"))["models"]
    return next((each for each in models if each["model"] == model), None)


# What is in memory


async def test_ps_shows_size_references_owners_pin_and_expiry(own: HttpClient) -> None:
    await own.done("/api/load", {"model": "tone-220"})
    await own.manager.load("tone-247", owner="me")
    pinned, idle, held = (await own.get("/api/ps"))["models"]
    assert (pinned["model"], pinned["pinned"], pinned["expires_at"]) == ("tone-440", True, None)
    assert (idle["model"], idle["state"], idle["references"]) == ("tone-220", "ready", 0)
    assert 0 < idle["expires_in_s"] <= 600
    assert datetime.fromisoformat(idle["expires_at"]).tzinfo is not None
    assert (held["references"], held["owners"], held["expires_at"]) == (1, ["me"], None)
    assert held["size"] == held["footprint"] + held["mapped"]


async def test_ps_shows_what_is_booked_beside_the_budget(stage: Stage) -> None:
    stage["a"].footprint = 3 * MIB
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", memory_budget_mb=50)
    async with running_http_worker(manager) as own:
        found = await own.get("/api/ps")
    assert found["footprint"] == {"cpu": 3 * MIB}
    assert found["budget"] == {"cpu": 50 * MIB}
    assert (found["resident_cap"], found["waiting"], found["ready"]) == (3, 0, True)


async def test_tags_list_the_catalog_and_the_default(own: HttpClient) -> None:
    models = (await own.get("/api/tags"))["models"]
    assert [each["model"] for each in models] == [s.model_id for s in own.manager.list_catalog()]
    assert [each["model"] for each in models if each["default"]] == ["tone-440"]


@pytest.mark.parametrize("kept_s", [0.0, 1e6])
async def test_tags_say_how_large_a_voice_is_and_whether_it_is_prepared(
    tmp_path: Path, kept_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the disk says is asked again after a while, though the catalog is the same."""
    prepared: set[str] = set()

    class Forms:
        def is_prepared(self, spec: ModelSpec) -> bool:
            return spec.model_id in prepared

    class Prepared(ToneTTSAdapter):
        preparation: ClassVar[Any] = Forms()

    file = tmp_path / "voice"
    file.write_bytes(b"x" * 1234)
    specs = [ModelSpec("a", ToneTTSAdapter), ModelSpec("b", Prepared, file)]
    manager = ModelManager(catalog=Catalog(specs), default_model_id="a")
    monkeypatch.setattr(ollama_routes, "_TAGS_KEPT_S", kept_s)
    async with running_http_worker(manager) as own:
        first = (await own.get("/api/tags"))["models"]
        assert [(m["size"], m["prepared"]) for m in first] == [(None, None), (1234, False)]
        prepared.add("b")
        second = (await own.get("/api/tags"))["models"]
        assert second[1]["prepared"] is (kept_s == 0)


# Coming and going


async def test_loading_keeps_no_reference_and_unloading_is_told_at_once(own: HttpClient) -> None:
    loaded = await own.done("/api/load", {"model": "tone-220"})
    assert (loaded["state"], loaded["references"]) == ("ready", 0)
    gone = await own.done("/api/unload", {"model": "tone-220"})
    assert gone["state"] is None
    assert await shown(own, "tone-220") is None
    again = await own.done("/api/unload", {"model": "tone-220"})
    assert again["state"] is None


async def test_unloading_waits_for_holders_unless_told_not_to(own: HttpClient) -> None:
    await own.manager.load("tone-220", owner="me")
    refused = await own.post("/api/unload", {"model": "tone-220", "drain": False})
    assert refused.status_code == 409
    assert "held by me" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    leaving = asyncio.create_task(own.done("/api/unload", {"model": "tone-220"}))
    await until(lambda: own.served.states["tone-220"] == "draining")
    await own.manager.release("tone-220", owner="me")
    assert (await leaving)["state"] is None


async def test_a_pin_exempts_a_model_and_unpinning_ends_that(own: HttpClient) -> None:
    early = await own.done("/api/pin", {"model": "tone-220"})
    assert early["state"] is None  # it will be pinned whenever it is loaded
    loaded = await own.done("/api/load", {"model": "tone-220"})
    assert (loaded["pinned"], loaded["expires_in_s"]) == (True, None)
    free = await own.done("/api/unpin", {"model": "tone-220"})
    assert not free["pinned"]
    assert free["expires_in_s"] > 0


@pytest.mark.parametrize(
    ("keep_alive", "seconds"),
    [("10m", 600), ("1h30m", 5400), (90, 90), ("90", 90), (-1, None), ("-1m", None)],
)
async def test_keep_alive_says_how_long_a_model_stays(
    own: HttpClient, keep_alive: Any, seconds: float | None
) -> None:
    loaded = await own.done("/api/load", {"model": "tone-220", "keep_alive": keep_alive})
    if seconds is None:
        assert loaded["expires_in_s"] is None
    else:
        assert seconds - 30 < loaded["expires_in_s"] <= seconds
    other = await own.done("/api/keep-alive", {"model": "tone-440", "keep_alive": keep_alive})
    assert other["pinned"]


async def test_keep_alive_zero_lets_an_idle_model_go(own: HttpClient) -> None:
    await own.done("/api/load", {"model": "tone-220"})
    await own.done("/api/keep-alive", {"model": "tone-220", "keep_alive": 0})
    await until(lambda: "tone-220" not in own.served.states)


async def test_a_model_that_is_not_in_memory_cannot_be_kept(own: HttpClient) -> None:
    refused = await own.post("/api/keep-alive", {"model": "tone-220", "keep_alive": "5m"})
    assert refused.status_code == 409
    assert "load it first" in refused.json()["error"]["message"]


@pytest.mark.parametrize("keep_alive", ["soon", "5x", "", "--1", "1e999", "nan", "m", "5 m"])
async def test_what_is_no_duration_is_refused_before_anything_is_loaded(
    web: HttpClient, keep_alive: str
) -> None:
    refused = await web.post("/api/load", {"model": "tone-220", "keep_alive": keep_alive})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "keep_alive"
    assert "tone-220" not in web.served.states


@pytest.mark.parametrize("path", ["load", "unload", "pin", "unpin", "keep-alive", "generate"])
async def test_an_unknown_model_is_answered_with_names_that_look_like_it(
    web: HttpClient, path: str
) -> None:
    refused = await web.post(f"/api/{path}", {"model": "tone-221", "keep_alive": "1m"})
    assert refused.status_code == 404
    assert "tone-220" in refused.json()["error"]["message"]


@pytest.mark.parametrize("body", [None, {}, {"model": ""}, {"model": 5}, [], {"model": "x" * 999}])
async def test_a_body_that_cannot_be_is_refused(web: HttpClient, body: Any) -> None:
    assert (await web.post("/api/load", body)).status_code == 400


async def test_a_load_that_fails_says_when_to_try_again() -> None:
    stage = Stage("a", "b")
    stage["b"].load.error = ValueError("a broken file")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as own:
        refused = await own.post("/api/load", {"model": "b"})
        assert refused.status_code == 503
        assert "a broken file" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) >= 1


# Clients nobody here wrote


async def test_ollamas_own_client_lists_loads_and_unloads(own: HttpClient) -> None:
    async with ollama.AsyncClient(own.url, trust_env=False) as client:
        assert "tone-220" in [model.model for model in (await client.list()).models]
        answer = await client.generate("tone-220", keep_alive="10m")
        assert (answer.done, answer.done_reason, answer.response) == (True, "load", "")
        (found,) = [m for m in (await client.ps()).models if m.model == "tone-220"]
        assert found.expires_at is not None
        assert found.size is not None
        answer = await client.generate("tone-220", keep_alive=0)
        assert answer.done_reason == "unload"
        assert "tone-220" not in own.served.states
        with pytest.raises(ollama.ResponseError) as caught:
            await client.generate("tone-440", "write a poem")
        assert caught.value.status_code == 400


# The repository of Triton and KServe


async def test_the_repository_index_tells_every_models_state_and_why(own: HttpClient) -> None:
    index = {each["name"]: each for each in await own.done("/v2/repository/index")}
    assert len(index) == 8
    assert index["tone-440"]["state"] == "READY"
    assert index["tone-220"]["state"] == "UNAVAILABLE"
    assert index["tone-220"]["reason"] == "not in memory; nobody asked for it"
    ready = await own.done("/v2/repository/index", {"ready": True})
    assert [each["name"] for each in ready] == ["tone-440"]


async def test_the_repository_loads_unloads_and_knows_what_is_ready(own: HttpClient) -> None:
    for path in ("/v2/models/tone-220/ready", "/v2/models/tone-220/versions/1/ready"):
        assert (await own.client.get(path)).status_code == 400
        await own.done("/v2/repository/models/tone-220/load")
        assert (await own.client.get(path)).status_code == 200
        await own.done("/v2/repository/models/tone-220/unload", {"parameters": {}})
    await own.done("/v2/repository/models/tone-220/unload")
    assert "tone-220" not in own.served.states


async def test_the_repositorys_errors_are_one_sentence_as_tritons_clients_expect(
    own: HttpClient,
) -> None:
    unknown = await own.post("/v2/repository/models/tone-221/load")
    assert unknown.status_code == 404
    assert "tone-220" in unknown.json()["error"]
    body = {"parameters": {"config": "{}"}}
    changed = await own.post("/v2/repository/models/tone-220/load", body)
    assert changed.status_code == 400
    assert "without parameters" in changed.json()["error"]
    broken = await own.client.post("/v2/repository/index", content=b"{")
    assert broken.status_code == 400
    version = await own.client.get("/v2/models/tone-220/versions/7")
    assert "version 1 only" in version.json()["error"]


async def test_metadata_of_server_and_model_are_told(own: HttpClient) -> None:
    server = await own.get("/v2")
    assert (server["name"], server["extensions"]) == ("greenroom", ["model_repository"])
    assert (await own.get("/v2/models/tone-220"))["platform"] == "tone"


# Access


async def test_changes_need_an_admins_key_and_a_look_needs_any(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)
    looks = ("/api/ps", "/api/tags", "/api/journal", "/api/explain/tone-440", "/metrics")
    changes = ("/api/load", "/api/pin", "/v2/repository/models/tone-220/load")
    async with (
        running_http_worker(manager, api_keys=KEYS) as nobody,
        connected_http_client(nobody.served, "speak-key") as app,
        connected_http_client(nobody.served, "admin-key") as ops,
    ):
        for path in looks:
            assert (await nobody.client.get(path)).status_code == 401, path
            assert (await app.client.get(path)).status_code == 200, path
        for path in changes:
            assert (await nobody.post(path, {"model": "tone-220"})).status_code == 401, path
            assert (await app.post(path, {"model": "tone-220"})).status_code == 403, path
        await ops.done("/api/load", {"model": "tone-220"})
        for path in ("/health", "/v2/health/live", "/v2/health/ready", "/v2"):
            assert (await nobody.client.get(path)).status_code == 200, path


async def test_a_load_with_keep_alive_outlasts_a_ttl_of_zero(tone_catalog: Catalog) -> None:
    manager = ModelManager(
        catalog=tone_catalog, default_model_id="tone-440", ttl_ms=0, min_residency_ms=0
    )
    async with running_http_worker(manager) as own:
        found = await own.done("/api/load", {"model": "tone-220", "keep_alive": "5m"})
        assert 290 < found["expires_in_s"] <= 300
        assert (await own.done("/api/load", {"model": "tone-247"}))["state"] in (
            None,
            "unloading",
        )


@pytest.mark.parametrize("path", ["/api/load", "/v2/repository/models/tone-247/load"])
async def test_a_caller_that_left_does_not_wait_for_room_any_more(
    tone_catalog: Catalog, path: str
) -> None:
    manager = ModelManager(
        catalog=tone_catalog,
        default_model_id="tone-440",
        resident_cap=1,
        cap_policy="hard",
        pin_default=False,
        min_residency_ms=0,
    )
    async with running_http_worker(manager) as own:
        await manager.load("tone-440", owner="me")
        waiting = asyncio.create_task(own.post(path, {"model": "tone-247"}))
        await until(lambda: own.manager.statistics().waiting == 1)
        waiting.cancel()
        await until(lambda: own.manager.statistics().waiting == 0)
        await manager.release("tone-440", owner="me")


async def test_a_model_with_a_slash_in_its_name_is_found_under_every_route() -> None:
    stage = Stage("a", "org/voice")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_http_worker(manager) as own:
        for name in ("org/voice", "org%2Fvoice"):
            await own.done(f"/v2/repository/models/{name}/load")
            for path in ("", "/ready", "/versions/1", "/versions/1/ready"):
                assert (await own.get(f"/v2/models/{name}{path}"))["name"] == "org/voice"
            await own.get(f"/api/explain/{name}")
            await own.done(f"/v2/repository/models/{name}/unload")
