"""A worker's configuration is read again: what may change changes, what may not is named."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from greenroom import ConfigError
from greenroom.config.schema import Config, load_config
from greenroom.errors import UnauthenticatedError
from greenroom.worker.app import Worker, serve
from greenroom.worker.auth import Role
from greenroom.worker.catalog_refresh import CatalogChange
from greenroom.worker.reload import Reload
from tests.waiting import until

START = """
voices: {directories: [], packages: [], watch: false}
model_manager: {default_model_id: tone-440, resident_cap: 8, ttl_ms: 1000}
models: [{model_id: slow, variant_of: tone-440}]
worker:
  listen: "127.0.0.1:0"
  http_listen: "127.0.0.1:0"
  drain_timeout_ms: 0
  aliases: {one: slow}
  api_keys: [{key: secret-1, role: admin, requests_per_minute: 100}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(START)
    return path


@contextlib.asynccontextmanager
async def started(file: Path) -> AsyncIterator[Worker]:
    config = await asyncio.to_thread(load_config, file)
    worker = await Worker.create(config, reread=lambda: load_config(file))
    try:
        await worker.listen()
        await worker.initialize()
        yield worker
    finally:
        await worker.stop()


@pytest.fixture
async def worker(file: Path) -> AsyncIterator[Worker]:
    async with started(file) as made:
        yield made


def reload_of(worker: Worker) -> Reload:
    assert worker.reload is not None
    return worker.reload


def ids(worker: Worker) -> list[str]:
    return [spec.model_id for spec in worker.manager.catalog if spec.model_id[:4] != "tone"]


def bearer(key: str) -> list[str]:
    return [f"Bearer {key}"]


async def test_a_file_that_is_as_it_was_changes_nothing(worker: Worker) -> None:
    reloaded = await reload_of(worker).run()
    assert (reloaded.changed, reloaded.needs_restart) == ((), ())
    assert reloaded.models == CatalogChange()
    assert str(reloaded) == "changed: nothing"


async def test_models_aliases_keys_and_the_form_of_text_change(file: Path, worker: Worker) -> None:
    file.write_text(
        START.replace("slow", "calm")
        .replace("api_keys: [", "text: markdown\n  api_keys: [{key: secret-2, name: x}, ")
        .replace("one: calm", "two: calm")
    )
    reloaded = await reload_of(worker).run()
    assert set(reloaded.changed) == {"models", "worker.aliases", "worker.api_keys", "worker.text"}
    assert reloaded.needs_restart == ()
    assert reloaded.models == CatalogChange(added=("calm",), removed=("slow",))
    assert ids(worker) == ["calm"]
    assert worker.synthesis.names.find("two") == "calm"
    assert "one" not in worker.synthesis.names.aliases
    assert worker.synthesis.settings.text == "markdown"
    assert worker.keys.admit(bearer("secret-2"), Role.SPEAK).name == "x"


async def test_how_words_are_said_changes_for_voices_that_are_chosen_then(
    file: Path, worker: Worker
) -> None:
    voices = worker.synthesis.voices
    before = voices.choose()
    file.write_text(f"{START}  pronunciations: {{all: {{nginx: engine x}}}}\n")
    assert (await reload_of(worker).run()).changed == ("worker.pronunciations",)
    assert voices.choose().pronunciation.say("nginx") == "engine x"
    assert before.pronunciation.say("nginx") == "nginx"


async def test_a_key_that_is_taken_away_is_refused_and_one_that_stays_keeps_its_quota(
    file: Path, worker: Worker
) -> None:
    before = worker.keys.recognise(bearer("secret-1"))
    file.write_text(START.replace("tone-440}]", "tone-440}, {model_id: x, variant_of: slow}]"))
    await reload_of(worker).run()
    assert worker.keys.recognise(bearer("secret-1")) is before
    file.write_text(START.replace("secret-1", "secret-3"))
    await reload_of(worker).run()
    with pytest.raises(UnauthenticatedError):
        worker.keys.admit(bearer("secret-1"), Role.SPEAK)
    assert worker.keys.admit(bearer("secret-3"), Role.ADMIN)


async def test_what_needs_a_restart_is_named_and_the_rest_changes(
    file: Path, worker: Worker
) -> None:
    file.write_text(
        START.replace("ttl_ms: 1000", "ttl_ms: 2000")
        .replace("watch: false", "watch: true")
        .replace("slow", "calm")
        .replace("  api_keys: [{key: secret-1, role: admin, requests_per_minute: 100}]\n", "")
    )
    reloaded = await reload_of(worker).run()
    assert set(reloaded.needs_restart) == {
        "model_manager.ttl_ms",
        "voices.watch",
        "worker.api_keys",
    }
    assert set(reloaded.changed) == {"models", "worker.aliases"}
    assert worker.manager.settings.ttl_ms == 1000
    with pytest.raises(UnauthenticatedError):
        worker.keys.admit([], Role.SPEAK)
    again = await reload_of(worker).run()
    assert again.changed == ()
    assert again.needs_restart == reloaded.needs_restart


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("voices: [", "expected"),
        (START + "\nnonsense: 1\n", "nonsense"),
        (START.replace("variant_of: tone-440", "variant_of: nobody"), "variant_of"),
        (START.replace("one: slow", "one: nobody"), "worker.aliases.one"),
        (START.replace("default_model_id: tone-440", "default_model_id: nobody"), "nobody"),
        (None, "No such file"),
    ],
)
async def test_a_file_that_cannot_work_changes_nothing(
    file: Path, worker: Worker, broken: str | None, said: str
) -> None:
    if broken is None:
        file.unlink()
    else:
        file.write_text(broken.replace("secret-1", "secret-9"))
    with pytest.raises(ConfigError, match=said):
        await reload_of(worker).run()
    assert ids(worker) == ["slow"]
    assert worker.keys.admit(bearer("secret-1"), Role.ADMIN)
    file.write_text(START)
    assert (await reload_of(worker).run()).changed == ()


async def test_a_stream_goes_on_while_its_model_and_key_are_taken_away(
    file: Path, worker: Worker
) -> None:
    chooser = worker.synthesis.voices
    text = worker.synthesis.text("One two three four five. " * 20)
    async with worker.synthesis.once(chooser.choose("slow"), text, owner="me") as speech:
        frames = aiter(speech)
        first = await anext(frames)
        file.write_text(START.replace("slow", "calm").replace("secret-1", "secret-2"))
        assert (await reload_of(worker).run()).models.removed == ("slow",)
        rest = [frame async for frame in frames]
    assert first.pcm
    assert len(rest) > 100
    await until(lambda: "slow" not in {r.model_id for r in worker.manager.list_resident()})


async def test_an_administrator_has_it_read_again_over_http_and_lists_follow(
    file: Path, worker: Worker
) -> None:
    assert worker.http_address is not None
    admin = {"Authorization": "Bearer secret-1"}
    async with httpx.AsyncClient(base_url=worker.http_address.url, headers=admin) as client:

        async def listed() -> set[str]:
            found = [
                {m["id"] for m in (await client.get("/v1/models")).json()["data"]},
                {m["id"] for m in (await client.get("/v1/audio/models")).json()["models"]},
                {m["id"] for m in (await client.get("/v1/audio/voices")).json()["voices"]},
                {m["name"] for m in (await client.get("/api/tags")).json()["models"]},
            ]
            assert all(names == found[0] for names in found)
            return {name for name in found[0] if name[:4] != "tone"}

        assert await listed() == {"slow"}
        file.write_text(START.replace("slow", "calm").replace("ttl_ms: 1000", "ttl_ms: 1"))
        answer = await client.post("/api/reload")
        assert answer.status_code == 200
        assert answer.json() == {
            "changed": ["models", "worker.aliases"],
            "needs_restart": ["model_manager.ttl_ms"],
            "models": {"added": ["calm"], "removed": ["slow"], "replaced": []},
        }
        assert await listed() == {"calm"}
        file.write_text("models: 7")
        answer = await client.post("/api/reload")
        assert answer.json()["error"]["code"] == "misconfigured"
        assert await listed() == {"calm"}
        refused = await client.post("/api/reload", headers={"Authorization": ""})
        assert refused.status_code == 401


async def test_health_knows_what_came_and_forgets_what_is_gone(file: Path, worker: Worker) -> None:
    servicer = worker._health._servicer
    assert "slow" in servicer.names
    file.write_text(START.replace("slow", "calm"))
    await reload_of(worker).run()
    await until(lambda: "calm" in servicer.names and "slow" not in servicer.names)


@pytest.fixture
def hangups_noticed() -> Iterator[None]:
    """Have SIGHUP noticed also where these tests are run under `nohup`, which ignores it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


async def test_a_hangup_has_a_served_worker_read_its_file_again(
    file: Path, caplog: pytest.LogCaptureFixture, hangups_noticed: None
) -> None:
    config = await asyncio.to_thread(load_config, file)
    workers: list[Worker] = []
    serving = asyncio.create_task(
        serve(config, ready=workers.append, reread=lambda: load_config(file))
    )
    try:
        await until(lambda: workers or serving.done())
        file.write_text(START.replace("slow", "calm"))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: ids(workers[0]) == ["calm"])
        file.write_text("models: 7")
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: "nothing has changed" in caplog.text)
        assert not serving.done()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await serving


async def test_a_worker_that_has_stopped_leaves_none_of_its_threads(file: Path) -> None:
    here = file.parent
    voices = f"directories: ['{here}/voices'], index: '{here}/nowhere'"
    file.write_text(START.replace("directories: []", voices))
    before = set(threading.enumerate())
    made = await Worker.create(
        await asyncio.to_thread(load_config, file), reread=lambda: load_config(file)
    )
    assert made.reload is not None
    assert made.pulls is not None
    await made.listen()
    await made.initialize()
    await made.reload.run()
    await until(made.pulls.begin("no-such-voice").over.is_set)
    used = {each.name for each in set(threading.enumerate()) - before}
    await made.stop()
    kinds = ("greenroom-voices", "greenroom-configuration", "greenroom-pull")
    assert all(any(name.startswith(kind) for name in used) for kind in kinds), used
    await until(lambda: not _of(kinds, set(threading.enumerate()) - before))


def _of(kinds: tuple[str, ...], threads: set[threading.Thread]) -> list[str]:
    return [each.name for each in threads if each.name.startswith(kinds)]


async def test_a_worker_with_a_catalog_of_its_own_follows_no_configuration(file: Path) -> None:
    config: Config = await asyncio.to_thread(load_config, file)
    made = await Worker.create(config)
    other = await asyncio.to_thread(Worker, config, made.manager)
    assert other.reload is None
    other.read_again()
