"""An HTTP client of a worker in this process, for the tests of its HTTP side."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from greenroom import ModelManager
from tests.worker.worker_client import LIMIT_S, Meter, WorkerClient, running_worker


@dataclass
class HttpClient:
    """A running worker and one client's connections to it over HTTP."""

    served: WorkerClient
    client: httpx.AsyncClient

    @property
    def manager(self) -> ModelManager:
        return self.served.manager

    @property
    def url(self) -> str:
        return str(self.client.base_url).rstrip("/")

    async def get(self, path: str, **more: Any) -> Any:
        """Return the JSON of a page that must be there."""
        answer = await self.client.get(path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return await self.client.post(path, json=body, **more)

    async def done(self, path: str, body: Any = None, **more: Any) -> Any:
        """Post what must succeed, and return its JSON."""
        answer = await self.post(path, body, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def figures(self) -> dict[str, float]:
        """Return the metrics' samples by name and labels, without `greenroom_`."""
        text = (await self.client.get("/metrics")).text
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {
            line.rpartition(" ")[0].removeprefix("greenroom_"): float(line.rpartition(" ")[2])
            for line in lines
        }

    @contextlib.asynccontextmanager
    async def events(self, **params: Any) -> AsyncIterator[Events]:
        """Follow the worker's events."""
        async with self.client.stream("GET", "/api/events", params=params) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield Events(answer)


class Events:
    """Server-sent events of one answer, in order."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> tuple[str, Any]:
        """Return the name and the content of the next event."""
        name, data = "", ""
        async with asyncio.timeout(LIMIT_S):
            async for line in self._lines:
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    data += value
                elif not line and name:
                    return name, json.loads(data)
        raise StopAsyncIteration

    async def until(self, wanted: str, **content: Any) -> Any:
        """Return the content of the next event of that name that has such content."""
        async for name, found in self:
            if name == wanted and content.items() <= found.items():
                return found
        raise AssertionError(f"no {wanted} {content} came")


@contextlib.asynccontextmanager
async def running_http_worker(manager: ModelManager, **settings: Any) -> AsyncIterator[HttpClient]:
    """Serve a manager that is not initialized yet over HTTP too."""
    async with (
        running_worker(manager, http_listen="127.0.0.1:0", **settings) as served,
        connected_http_client(served) as web,
    ):
        yield web


@contextlib.asynccontextmanager
async def metered_http_worker(
    manager: ModelManager, meters: Iterable[Meter]
) -> AsyncIterator[HttpClient]:
    """Serve a manager whose models speak what their meters allow, and all of it at the end."""
    async with running_http_worker(manager) as web:
        try:
            yield web
        finally:
            for meter in meters:
                meter.free.set()


@contextlib.asynccontextmanager
async def connected_http_client(served: WorkerClient, key: str = "") -> AsyncIterator[HttpClient]:
    """Connect one more client over HTTP."""
    address = served.worker.http_address
    assert address is not None
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(
        base_url=f"http://{address}",
        headers=headers,
        timeout=LIMIT_S,
        trust_env=False,
        verify=False,  # it is HTTP; reading the certificates takes longer than most tests
    ) as client:
        yield HttpClient(served, client)
