"""One HTTP request to a worker's application, answered without a connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from greenroom.cluster.asgi_answer import Message, answer_to
from greenroom.errors import SynthesisError
from greenroom.worker.app import Worker
from tests.cluster.one_by_one import one_by_one
from tests.cluster.slow_speech import slow_speech
from tests.waiting import until
from tests.worker.worker_client import Meter

PATH = "/v1/audio/speech"


def scope(path: str, method: str = "GET", **more: Any) -> Message:
    """Return a request as it travels."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 5),
        "server": None,
        **more,
    }


def speech(voice: str) -> bytes:
    """Return the body of a request to speak."""
    asked = {"model": "tts-1", "voice": voice, "input": "Hello.", "response_format": "pcm"}
    return json.dumps(asked).encode()


@pytest.fixture
async def answers(worker: Worker) -> Any:
    """The worker's application, asked."""
    app = await asyncio.to_thread(worker.app)
    return lambda *asked: contextlib.aclosing(one_by_one(answer_to(app, *asked)))


async def test_audio_comes_as_it_is_made(answers: Any, meters: dict[str, Meter]) -> None:
    meters["b"].allow(2)
    async with answers(scope(PATH, "POST"), speech("b")) as messages:
        start = await anext(messages)
        assert start["status"] == 200
        first = await anext(messages)
        assert first["body"]
        assert meters["b"].made <= 2
        meters["b"].free.set()
        rest = [message async for message in messages]
    assert not rest[-1].get("more_body", False)
    assert sum(len(m["body"]) for m in [first, *rest]) == 100 * 4_800 // 2 * 2


async def test_who_leaves_ends_the_speech(
    answers: Any, worker: Worker, meters: dict[str, Meter]
) -> None:
    async with slow_speech(meters["b"]):
        async with answers(scope(PATH, "POST"), speech("b")) as messages:
            await anext(messages)
        await until(lambda: not any(each.streams for each in worker.manager.list_resident()))
    assert worker.synthesis.report().in_flight == 0
    assert meters["b"].made < 100


async def test_a_refusal_has_its_status_and_its_reason(answers: Any) -> None:
    async with answers(scope(PATH, "POST"), speech("nobody")) as messages:
        start, body = [message async for message in messages]
    assert start["status"] == 400
    assert json.loads(body["body"])["error"]["code"] == "voice_not_found"


async def test_an_answer_that_breaks_off_says_so_after_what_was_made(
    answers: Any, worker: Worker, meters: dict[str, Meter]
) -> None:
    meters["b"].allow(2)
    heard: list[bytes] = []

    async def hear(messages: Any) -> None:
        async for message in messages:
            heard.append(message["body"])  # noqa: PERF401 - what came before the end counts

    async with answers(scope(PATH, "POST"), speech("b")) as messages:
        await anext(messages)
        worker.synthesis.cut()
        meters["b"].free.set()
        with pytest.raises(SynthesisError, match="broke off"):
            await hear(messages)
    assert len(b"".join(heard)) < 100 * 4_800 // 2 * 2


async def test_what_the_application_raises_is_raised() -> None:
    async def broken(*_: Any) -> None:
        raise LookupError("a fault")

    with pytest.raises(LookupError, match="a fault"):
        await anext(answer_to(broken, scope("/"), b""))
