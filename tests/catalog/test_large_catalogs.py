"""A catalog of any size keeps the event loop from nothing, and what never changes is made once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.concurrency.in_steps import STEP
from greenroom.config.schema import Config, WorkerSettings, load_config
from greenroom.worker.app import Worker
from greenroom.worker.grpc.conversions import models_message
from greenroom.worker.http.serializers import CatalogList
from greenroom.worker.model_repository import Repository
from greenroom.worker.synthesis import Synthesis

COUNT = 4 * STEP


@pytest.fixture
async def manager() -> ModelManager:
    specs = [ModelSpec(f"m{n}", ToneTTSAdapter, languages=(f"l{n % 3}",)) for n in range(COUNT)]
    return ModelManager(catalog=Catalog(specs), default_model_id="m0")


async def with_turns(work: Coroutine[Any, Any, Any]) -> tuple[Any, int]:
    """Return what `work` returns, and how often the event loop had time for others meanwhile."""
    doing = asyncio.create_task(work)
    turns = 0
    while not doing.done():
        turns += 1
        await asyncio.sleep(0)
    return doing.result(), turns


async def test_the_list_of_models_leaves_the_event_loop_time(manager: ModelManager) -> None:
    answer, turns = await with_turns(models_message(manager))
    assert [model.model_id for model in answer.models] == [f"m{n}" for n in range(COUNT)]
    assert turns >= COUNT / STEP


async def test_the_index_of_the_repository_leaves_the_event_loop_time(
    manager: ModelManager,
) -> None:
    synthesis = await asyncio.to_thread(Synthesis, manager, WorkerSettings())
    repository = Repository(synthesis)
    found, turns = await with_turns(repository.index(only_ready=False))
    assert [each["name"] for each in found] == [f"m{n}" for n in range(COUNT)]
    assert turns >= COUNT / STEP


async def test_a_list_over_http_is_encoded_once_and_is_json() -> None:
    made = 0

    def entries() -> Iterator[dict[str, Any]]:
        nonlocal made
        made += 1
        yield from ({"id": name} for name in ("a", 'q"uote', "Grüße"))

    catalog = Catalog()
    listing = CatalogList("data", catalog, entries, object="list")
    bodies = [(await listing.answer()).body for _ in range(3)]
    assert made == 1
    catalog.adopt(Catalog())
    await listing.answer()
    assert made == 2, "another catalog is another list"
    assert [json.loads(bytes(body)) for body in bodies] == [
        {"object": "list", "data": [{"id": "a"}, {"id": 'q"uote'}, {"id": "Grüße"}]}
    ] * 3


async def test_an_empty_catalog_is_an_empty_list() -> None:
    body = (await CatalogList("models", Catalog(), list).answer()).body
    assert json.loads(bytes(body)) == {"models": []}


def test_languages_and_names_to_suggest_are_gathered_once(manager: ModelManager) -> None:
    catalog = manager.catalog
    assert catalog.languages == ("l0", "l1", "l2")
    assert catalog.languages is catalog.languages
    assert catalog.near("M7")[0] == "m7"
    assert catalog._lower_case_names is catalog._lower_case_names


async def test_a_worker_that_is_given_its_catalog_looks_for_no_voices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalog = Catalog([ModelSpec("m", ToneTTSAdapter)])
    config = Config.model_validate({"model_manager": {"default_model_id": "m"}})

    def looked(*_: object, **__: object) -> Catalog:
        raise AssertionError("voices were looked for a second time")

    monkeypatch.setattr(Catalog, "from_config", looked)
    worker = await Worker.create(config, catalog)
    assert worker.manager.catalog is catalog


def test_a_variant_costs_no_new_index_of_the_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [{"model_id": f"v{n}", "variant_of": f"tone-{440}"} for n in range(50)]
    config = load_config(overrides={"models": models, "voices": {"packages": []}})
    made: list[object] = []
    build = Catalog.__init__

    def counted(self: Catalog, *given: Any, **named: Any) -> None:
        made.append(self)
        build(self, *given, **named)

    monkeypatch.setattr(Catalog, "__init__", counted)
    assert "v49" in Catalog.from_config(config)
    assert len(made) == 1
