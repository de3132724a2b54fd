"""Memory is told one way: `ps`, `top`, `explain`, metrics and HTTP say the same of the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import ModelManager
from greenroom.cli.ps import accounts
from greenroom.cli.top import look_at
from greenroom.cli.top_table import head_lines
from greenroom.memory.usage import MIB
from greenroom.testing import Stage
from greenroom.worker.client import Client
from tests.waiting import LIMIT_S
from tests.worker.http.http_client import HttpClient, running_http_worker


@pytest.fixture
async def web(stage: Stage) -> AsyncIterator[HttpClient]:
    """A worker with models b and c, which have a graph of 64 MB in common, in memory."""
    for name in "bc":
        stage[name].footprint, stage[name].shared = 10 * MIB, ("graph", 64 * MIB)
    manager = ModelManager(catalog=stage.catalog, default_model_id="a", min_residency_ms=0)
    async with running_http_worker(manager) as running:
        for name in "bc":
            await manager.load(name, owner=name)
        yield running


@pytest.fixture
async def client(web: HttpClient) -> AsyncIterator[Client]:
    async with Client(str(web.served.worker.address)) as made:
        yield made


async def shared_as_told(web: HttpClient, client: Client) -> list[str]:
    """Return the sentence on what models share: of `ps`, `top`, and of each model's `explain`."""
    sentence, _ = accounts(await client.list_models())
    look = await look_at(client, "here:1")
    explained = [
        line.strip()
        for name in "bc"
        for line in (await client.explain(name)).explanation.splitlines()
    ]
    return [
        sentence,
        *(line for line in head_lines(look, None) if line.startswith("shared")),
        *(f"shared {line}" for line in explained if line.startswith("graph")),
    ]


async def test_who_carries_what_is_shared_is_told_alike(web: HttpClient, client: Client) -> None:
    assert await shared_as_told(web, client) == 4 * [
        "shared graph: 64 MB, booked with b, shared by c"
    ]
    answer, figures, metrics = await in_numbers(web)
    part = {"name": "graph", "size": 64 * MIB, "device": "cpu", "models": ["b", "c"]}
    assert answer["shared"] == figures["shared"] == [part]
    assert metrics['shared_memory_bytes{device="cpu",name="graph"}'] == 64 * MIB


async def test_whoever_leaves_all_that_is_booked_belongs_to_a_model(
    web: HttpClient, client: Client
) -> None:
    await web.manager.release("b", owner="b")
    await web.manager.unload("b")
    assert await shared_as_told(web, client) == 3 * [
        "shared graph: 64 MB, booked with c, shared by no other model"
    ]
    answer, figures, metrics = await in_numbers(web)
    look = await look_at(client, "here:1")
    booked = [
        sum(each["footprint"] for each in answer["models"]),
        sum(round(each.footprint_mb * MIB) for each in look.residents),
        figures["footprint"],
        metrics['footprint_bytes{device="cpu"}'],
        round((await client.list_models()).footprint_mb * MIB),
    ]
    assert booked == 5 * [74 * MIB]


async def test_what_the_process_takes_is_told_alike(web: HttpClient, client: Client) -> None:
    async with asyncio.timeout(LIMIT_S):
        # It is looked at now and then, so that two answers may have a look between them.
        while len(told := set(await process_as_told(web, client))) > 1:
            pass
    (sizes,) = told
    assert min(sizes) > 5 * MIB


async def process_as_told(web: HttpClient, client: Client) -> list[tuple[int, ...]]:
    """Return what the worker's process takes, as each tells it: anonymous, mapped, in all."""
    kinds = ("anonymous", "mapped", "proportional")
    listed = (await client.list_models()).memory
    answer, figures, metrics = await in_numbers(web)
    return [
        tuple(round(getattr(listed, f"{kind}_mb") * MIB) for kind in kinds),
        tuple(answer["memory"][kind] for kind in kinds),
        tuple(figures["memory"][kind] for kind in kinds),
        tuple(round(metrics[f'process_memory_bytes{{kind="{kind}"}}']) for kind in kinds),
    ]


async def in_numbers(web: HttpClient) -> tuple[dict[str, Any], dict[str, Any], dict[str, float]]:
    """Return what HTTP answers of what is in memory, of figures, and the metrics."""
    return await web.get("/api/ps"), await web.get("/api/figures"), await web.figures()
