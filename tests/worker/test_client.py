"""The client that the CLI uses, against a real worker."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from greenroom.errors import WorkerError
from greenroom.worker.client import Client
from tests.waiting import until
from tests.worker.worker_client import FRAME_BYTES, Meter, WorkerClient


@pytest.fixture
async def client(tones: WorkerClient) -> AsyncIterator[Client]:
    async with Client(str(tones.worker.address)) as made:
        yield made


async def test_it_speaks_a_text(client: Client) -> None:
    frames = [f async for f in client.speak("Hello.", "tone-220", options={"volume": 0.25})]
    assert {(len(f.pcm), f.sample_rate) for f in frames} == {(FRAME_BYTES, 48_000)}
    assert len(frames) == pytest.approx(18, abs=2)


async def test_it_speaks_pieces_as_they_come(client: Client) -> None:
    heard = asyncio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "The first sentence. The sec"
        await heard.wait()
        yield "ond."

    count = 0
    async for frame in client.speak(pieces(), sample_rate=16_000):
        assert frame.sample_rate == 16_000
        heard.set()
        count += 1
    assert count == pytest.approx(3 * len("The first sentence.The second."), abs=3)


async def test_a_source_of_text_that_fails_fails_the_speech_with_its_own_error(
    client: Client, tones: WorkerClient
) -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "A sentence. "
        raise KeyError("the language model is gone")

    with pytest.raises(KeyError, match="the language model is gone"):
        async for _ in client.speak(pieces()):
            pass
    await until(lambda: not tones.in_use("tone-440"))


async def test_leaving_the_iteration_cancels_the_call(
    metered_worker: WorkerClient, meters: dict[str, Meter]
) -> None:
    meters["b"].allow(2)
    async with Client(str(metered_worker.worker.address)) as client:
        speech = client.speak("Hello.", "b")
        await anext(speech)
        assert isinstance(speech, AsyncGenerator)
        await speech.aclose()
        meters["b"].allow(1)
        meters["b"].free.set()
        await until(lambda: not metered_worker.in_use("b"))
    assert meters["b"].made < 100


async def test_it_looks_at_models_and_moves_them(client: Client) -> None:
    assert (await client.load("tone-220")).load_duration_ms >= 0
    assert (await client.load("tone-220")).load_duration_ms == 0
    listing = await client.list_models()
    residents = {m.model_id for m in listing.models if m.HasField("resident")}
    assert residents == {"tone-220", "tone-440"}
    assert [m.model_id for m in listing.models if m.is_default] == ["tone-440"]
    assert listing.resident_cap == 8
    assert "ready and idle" in (await client.explain("tone-220")).explanation
    await client.unload("tone-220")
    capabilities = await client.capabilities()
    assert list(capabilities.resident_models) == ["tone-440"]
    assert (capabilities.max_streams, capabilities.frame_duration_ms) == (64, 20)


async def test_an_empty_id_loads_the_default(client: Client, tones: WorkerClient) -> None:
    await client.load("")
    assert tones.states == {"tone-440": "ready"}


async def test_errors_are_one_line_with_code_and_time(client: Client) -> None:
    with pytest.raises(WorkerError, match="did you mean tone-440") as caught:
        await client.load("tone-44")
    assert (caught.value.code, caught.value.retry_after) == ("NOT_FOUND", None)
    with pytest.raises(WorkerError, match="volume") as caught:
        async for _ in client.speak("Hi.", options={"volume": "loud"}):
            pass
    assert caught.value.code == "INVALID_ARGUMENT"


async def test_a_refusal_while_text_is_still_sent_is_told_as_it_is(client: Client) -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "A bell \a"
        for _ in range(50):
            yield "a word or two. "

    for _ in range(10):
        with pytest.raises(WorkerError, match=r"U\+0007") as caught:
            async for _ in client.speak(pieces()):
                pass
        assert caught.value.code == "INVALID_ARGUMENT"


async def test_a_time_to_try_again_arrives(metered_worker: WorkerClient) -> None:
    metered_worker.worker.synthesis.settings = metered_worker.worker.synthesis.settings.model_copy(
        update={"max_streams": 0}
    )
    async with Client(str(metered_worker.worker.address)) as client:
        with pytest.raises(WorkerError, match="streams") as caught:
            async for _ in client.speak("Hi."):
                pass
    assert (caught.value.code, caught.value.retry_after) == ("RESOURCE_EXHAUSTED", 1.0)


async def test_an_answer_that_takes_too_long_is_one_line(metered_worker: WorkerClient) -> None:
    async with Client(str(metered_worker.worker.address)) as client:
        with pytest.raises(WorkerError, match="did not answer in time"):
            async for _ in client.speak("Hi.", timeout=0.1):
                pass


async def test_no_worker_is_one_line_with_the_fix() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with Client(f"127.0.0.1:{free.getsockname()[1]}") as client:
            with pytest.raises(WorkerError, match="greenroom serve") as caught:
                await client.list_models()
    assert caught.value.code == "UNAVAILABLE"
