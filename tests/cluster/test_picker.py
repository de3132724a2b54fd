"""One client of several workers, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from greenroom import Catalog, InvalidInputError, ModelManager
from greenroom.cluster.picker import Picker
from greenroom.errors import WorkerError
from greenroom.ledger.state import State
from tests.waiting import until
from tests.worker.worker_client import Meter, WorkerClient, metered, running_worker


def address(served: WorkerClient) -> str:
    return str(served.worker.address)


@contextlib.asynccontextmanager
async def workers(
    count: int, *names: str, chunks: int = 2
) -> AsyncIterator[tuple[list[WorkerClient], list[dict[str, Meter]]]]:
    """Start workers with models that speak what their meters allow."""
    served: list[WorkerClient] = []
    meters: list[dict[str, Meter]] = []
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            catalog, made = metered(*names, chunks=chunks)
            manager = ModelManager(catalog=catalog, default_model_id=names[0], resident_cap=3)
            served.append(await stack.enter_async_context(running_worker(manager)))
            meters.append(made)
        try:
            yield served, meters
        finally:
            for meter in (each for made in meters for each in made.values()):
                meter.free.set()


def free_all(meters: list[dict[str, Meter]]) -> None:
    for made in meters:
        for meter in made.values():
            meter.free.set()


def has(served: WorkerClient, model_id: str) -> bool:
    return any(
        each.model_id == model_id and each.state is State.READY
        for each in served.manager.list_resident()
    )


async def said(picker: Picker, model_id: str = "", text: str = "Hello.") -> int:
    return sum([1 async for _ in picker.speak(text, model_id)])


async def test_a_request_goes_to_the_worker_that_has_its_voice() -> None:
    async with workers(3, "a", "b", "c") as (served, meters):
        free_all(meters)
        await served[1].manager.load("b")
        async with Picker([address(each) for each in served]) as picker:
            for _ in range(3):
                assert await said(picker, "b") == 10
        assert [has(each, "b") for each in served] == [False, True, False]


async def test_requests_for_one_new_voice_load_it_once() -> None:
    async with workers(3, "a", "b") as (served, meters):
        free_all(meters)
        async with Picker([address(each) for each in served]) as picker:
            await asyncio.gather(*(said(picker, "b") for _ in range(6)))
        assert sum(has(each, "b") for each in served) == 1


async def test_without_a_model_the_workers_default_speaks() -> None:
    async with workers(2, "a") as (served, meters):
        free_all(meters)
        async with Picker([address(each) for each in served]) as picker:
            assert await said(picker) == 10


async def test_an_alias_finds_the_worker_that_has_the_model() -> None:
    tones = Catalog.discover("", adapters=["tone"])
    low = replace(tones.get("tone-220"), aliases=("low",))
    async with contextlib.AsyncExitStack() as stack:
        served = []
        for _ in range(2):
            catalog = Catalog([tones.get("tone-440"), low])
            manager = ModelManager(catalog=catalog, default_model_id="tone-440")
            served.append(await stack.enter_async_context(running_worker(manager)))
        await served[1].manager.load("tone-220")
        async with Picker([address(each) for each in served]) as picker:
            await said(picker, "low")
        assert [has(each, "tone-220") for each in served] == [False, True]


async def test_an_alias_that_means_another_model_after_a_reload_is_looked_up_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("greenroom.cluster.picker._NAME_HOLDS_S", 0.0)
    tones = Catalog.discover("", adapters=["tone"])
    default, low, high = (tones.get(f"tone-{hertz}") for hertz in (440, 220, 247))
    catalog = Catalog([default, replace(low, aliases=("mine",)), high])
    manager = ModelManager(catalog=catalog, default_model_id=default.model_id)
    async with running_worker(manager) as served, Picker([address(served)]) as picker:
        await said(picker, "mine")
        assert not has(served, high.model_id)
        catalog.adopt(Catalog([default, low, replace(high, aliases=("mine",))]))
        await said(picker, "mine")
        assert has(served, high.model_id)


async def test_a_worker_that_is_not_there_gets_nothing() -> None:
    async with workers(1, "a", "b") as (served, meters):
        free_all(meters)
        async with Picker([address(served[0]), "127.0.0.1:9"]) as picker:
            for _ in range(3):
                assert await said(picker, "b") == 10
            assert "1 silent" in repr(picker)


async def test_a_text_is_tried_elsewhere_when_its_worker_takes_no_more() -> None:
    async with workers(2, "a", "b") as (served, meters):
        free_all(meters)
        await served[0].manager.load("b")
        async with Picker([address(each) for each in served]) as picker:
            served[0].worker.synthesis._closing = True  # it has not reported that yet
            assert await said(picker, "b") == 10
        assert has(served[1], "b")


async def test_a_worker_that_lacks_the_voice_is_not_asked_for_it_again() -> None:
    async with workers(1, "a") as (few, some), workers(1, "a", "b") as (all_of_them, more):
        free_all([*some, *more])
        async with Picker([address(few[0]), address(all_of_them[0])]) as picker:
            for _ in range(4):
                assert await said(picker, "b") == 10
            with pytest.raises(WorkerError) as caught:
                await said(picker, "nobody")
            assert caught.value.code == "NOT_FOUND"


async def test_a_speech_that_was_heard_is_not_begun_again_elsewhere() -> None:
    async with workers(2, "a", "b") as (served, meters):
        await served[0].manager.load("b")
        async with Picker([address(each) for each in served]) as picker:
            meters[0]["b"].allow(1)
            frames = picker.speak("Hello.", "b")
            await anext(frames)
            served[0].worker.synthesis.cut()
            free_all(meters)  # a speech that is cut ends when its engine's step has
            with pytest.raises(WorkerError):
                async for _ in frames:
                    pass
        assert not has(served[1], "b")


async def test_leaving_a_speech_stops_it() -> None:
    async with workers(1, "a", chunks=100) as (served, meters):
        async with Picker([address(served[0])]) as picker:
            meters[0]["a"].allow(1)
            frames = picker.speak("Hello.", "a")
            await anext(frames)
            await frames.aclose()  # type: ignore[attr-defined]
            free_all(meters)
            await until(lambda: served[0].worker.synthesis.report().in_flight == 0)
        assert meters[0]["a"].made < 100


async def test_when_nobody_answers_the_error_says_why() -> None:
    async with Picker(["127.0.0.1:9"]) as picker:
        with pytest.raises(WorkerError, match=r"127\.0\.0\.1:9") as caught:
            await said(picker, "a")
        assert caught.value.code == "UNAVAILABLE"


@pytest.mark.parametrize("servers", [[], ["not an address"]])
def test_addresses_that_are_none_are_refused(servers: list[str]) -> None:
    with pytest.raises(InvalidInputError):
        Picker(servers)
