"""Clients of Wyoming that leave, stall or send what nobody should: nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from wyoming.audio import AudioStop
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeVoice

from greenroom import Catalog, ModelManager
from greenroom.testing import Stage
from greenroom.worker.wyoming import wyoming_server
from greenroom.worker.wyoming.wyoming_connection import MAX_WAITING
from tests.waiting import until
from tests.worker.worker_client import Meter
from tests.worker.wyoming.home_assistant import (
    HomeAssistant,
    event_of,
    heard_until,
    running_wyoming_worker,
)


@pytest.fixture
async def hass(tone_catalog: Catalog) -> AsyncIterator[HomeAssistant]:
    """A worker with eight tones."""
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)
    async with running_wyoming_worker(manager) as made:
        yield made


@pytest.fixture
async def metered(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> AsyncIterator[HomeAssistant]:
    """A worker whose models speak what their meters allow."""
    manager = ModelManager(catalog=metered_catalog, default_model_id="a", resident_cap=4)
    async with running_wyoming_worker(manager) as made:
        try:
            yield made
        finally:
            for meter in meters.values():
                meter.free.set()


def line(**header: Any) -> bytes:
    return json.dumps(header).encode() + b"\n"


# Clients that leave


async def test_a_client_that_leaves_stops_its_synthesis_at_the_next_chunk(
    metered: HomeAssistant, meters: dict[str, Meter]
) -> None:
    meters["b"].allow(2)
    async with metered.client() as client:
        await client.write_event(Synthesize("Hello.", SynthesizeVoice("b")).event())
        await event_of(client)
        await until(lambda: meters["b"].asked == 3)
        assert metered.served.in_use("b")
    for _ in range(3):
        await metered.voices()
    meters["b"].allow(1)
    await until(lambda: not metered.served.in_use("b"))
    assert meters["b"].made == 3


async def test_a_client_that_leaves_amid_its_pieces_gives_its_voice_back(
    metered: HomeAssistant, meters: dict[str, Meter]
) -> None:
    meters["b"].free.set()
    async with metered.client() as client:
        await client.write_event(SynthesizeStart(SynthesizeVoice("b")).event())
        await client.write_event(SynthesizeChunk("Hello. And").event())
        await event_of(client)
        await until(lambda: metered.served.refcount("b"))
    await until(lambda: not metered.served.in_use("b"))


async def test_a_client_that_leaves_while_its_model_loads_waits_no_longer() -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_wyoming_worker(manager) as hass:
        stage["b"].load.hold()
        async with hass.client() as client:
            await client.write_event(Synthesize("Hello.", SynthesizeVoice("b")).event())
            await until(lambda: hass.served.states.get("b") == "loading")
        await until(lambda: not len(hass.server.connections))
        stage["b"].load.open()
        await until(lambda: hass.served.states["b"] == "ready")
        assert not hass.served.in_use("b")
        assert not stage["b"].said


async def test_a_client_that_vanishes_is_noticed_too(
    metered: HomeAssistant, meters: dict[str, Meter]
) -> None:
    meters["b"].allow(1)
    async with metered.client() as client:
        await client.write_event(Synthesize("Hello.", SynthesizeVoice("b")).event())
        await event_of(client)
        assert client._writer is not None
        client._writer.transport.abort()
    for _ in range(3):
        await metered.voices()
    meters["b"].allow(1)
    await until(lambda: not metered.served.in_use("b"))
    assert meters["b"].made <= 2  # the second only if it was under way when the client was missed


# What is sent


@pytest.mark.parametrize(
    ("sent", "code", "words"),
    [
        (line(type="synthesize", data_length=2**30), "request_too_large", "1073741824"),
        (line(type="synthesize", payload_length=2**30), "request_too_large", "1073741824"),
        (b"a" * 200_000, "request_too_large", "a header may have"),
        (b"POST / HTTP/1.1\r\n\r\n" + line(type="describe"), "invalid_value", "speaks Wyoming"),
        (line(type="synthesize-chunk", data={"text": "a"}), "invalid_value", "-start"),
        (line(type="synthesize-stop"), "invalid_value", "-start"),
        (line(type="synthesize-start") * 2, "invalid_value", "-stop"),
        (line(type="synthesize"), "missing_required_parameter", "`text`"),
        (line(type="synthesize", data={"text": ""}), "invalid_value", "text is empty"),
        (line(type="synthesize", data={"text": " \n"}), "invalid_value", "text is empty"),
        (line(type="synthesize", data={"text": "a\u0007"}), "invalid_value", "U+0007"),
        (
            line(type="synthesize", data={"text": "a", "text_format": "ssml"}),
            "invalid_value",
            "ssml",
        ),
        (
            line(type="synthesize", data={"text": "a", "voice": {"name": "tone-22"}}),
            "voice_not_found",
            "did you mean tone-220",
        ),
        (
            line(type="synthesize-start", data={"voice": {"name": "x" * 200}}),
            "voice_not_found",
            "`describe` lists them",
        ),
        (
            line(type="synthesize", data={"text": "a", "voice": {"language": "tlh"}}),
            "voice_not_found",
            "no voice speaks the language 'tlh'",
        ),
        (
            line(
                type="synthesize", data={"text": "a", "voice": {"name": "tone-220", "speaker": "x"}}
            ),
            "invalid_value",
            "speaker",
        ),
        (line(type="synthesize-start") + line(type="synthesize-stop"), "invalid_value", "empty"),
        (
            line(type="synthesize-start")
            + line(type="synthesize-chunk", data={"text": " "})
            + line(type="synthesize-stop"),
            "invalid_value",
            "empty",
        ),
        (
            line(type="synthesize-start")
            + line(type="synthesize-chunk", data={"text": "a" * 20_000}) * 2,
            "invalid_value",
            "more than 20000 characters",
        ),
    ],
    ids=lambda each: repr(each)[:60],
)
async def test_what_cannot_be_spoken_is_an_error_and_the_end(
    hass: HomeAssistant, sent: bytes, code: str, words: str
) -> None:
    answer = await hass.exchange(sent)
    assert answer.types == ["error"]
    assert answer.refusal[0] == code
    assert words in answer.refusal[1]
    assert not hass.served.in_use("tone-440")
    assert "tone-220" not in hass.served.states, "nothing was loaded for it"


async def test_a_frame_that_breaks_off_is_an_error(hass: HomeAssistant) -> None:
    for sent in (b'{"type": "synth', line(type="synthesize", data_length=9) + b"{"):
        answer = await hass.exchange(sent, ends=True)
        assert "amid a frame" in answer.refusal[1]


async def test_unknown_events_and_their_payload_are_dropped(hass: HomeAssistant) -> None:
    async with hass.client() as client:
        assert client._writer is not None
        for kind in ("audio-chunk", "transcribe", "select-program"):
            client._writer.write(line(type=kind, data={"name": 5}, payload_length=70_000))
            client._writer.write(bytes(70_000))
        await client.write_event(Synthesize("Hello.").event())
        answer = await heard_until(client, AudioStop.is_type)
    assert answer.types == ["audio-start", "audio-chunk", "audio-stop"]


async def test_an_error_is_read_though_more_was_sent_after_it(hass: HomeAssistant) -> None:
    pieces = ["More text than anyone wanted. " * 20] * 20
    for _ in range(5):
        answer = await hass.say_pieces(pieces, SynthesizeVoice("nobody"))
        assert answer.refusal[0] == "voice_not_found"


async def test_a_bad_frame_ends_the_speech_before_it(
    metered: HomeAssistant, meters: dict[str, Meter]
) -> None:
    meters["a"].allow(1)
    async with metered.client() as client:
        await client.write_event(Synthesize("Hello.").event())
        await event_of(client)
        assert client._writer is not None
        client._writer.write(b"?\n")
        meters["a"].free.set()
        answer = await heard_until(client, AudioStop.is_type)
    assert answer.refusal[0] == "invalid_value"
    await until(lambda: not metered.served.in_use("a"))


async def test_more_requests_than_may_wait_are_refused(
    metered: HomeAssistant, meters: dict[str, Meter]
) -> None:
    sent = line(type="synthesize", data={"text": "Hello."})
    meters["a"].free.set()  # a speech that is cut off ends with the engine's next chunk
    answer = await metered.exchange(sent * (MAX_WAITING + 2))
    code, text = answer.refusal
    assert code == "too_many_requests"
    assert text.endswith("try again in 1.0 s.")
    await until(lambda: not metered.served.in_use("a"))


async def test_a_worker_that_is_full_says_so(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a", resident_cap=4)
    async with running_wyoming_worker(manager, max_streams=1) as hass, hass.client() as client:
        await client.write_event(Synthesize("Hello.").event())
        await until(lambda: hass.served.streams("a"))
        assert (await hass.say("Me too.")).refusal[0] == "too_many_requests"
        meters["a"].free.set()
        assert (await heard_until(client, AudioStop.is_type)).audio


@pytest.fixture
def _no_collector() -> Iterator[None]:
    """Let nothing be freed but by the end of the last reference."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.parametrize("end", ["well", "engine", "leave"])
async def test_however_a_speech_ends_nothing_keeps_its_unloaded_model_alive(
    end: str, in_pieces: bool
) -> None:
    stage = Stage("a", "b")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_wyoming_worker(manager) as hass:
        await manager.load("b")
        await manager.release("b")
        say = hass.say_pieces if in_pieces else hass.say
        saying = asyncio.ensure_future(say("One sentence. Two.", SynthesizeVoice("b")))
        if end == "engine":
            stage["b"].synthesize.error = ValueError
        if end == "leave":
            stage["b"].synthesize.hold()
            await until(lambda: hass.served.streams("b"))
            saying.cancel()
            await asyncio.wait([saying])
        else:
            answer = await saying
            assert (answer.error is None) == (end == "well")
            if end == "engine":
                assert answer.refusal[0] == "synthesis_failed"
                assert "ValueError" in answer.refusal[1]
        stage.open_all()
        await until(lambda: not hass.served.in_use("b"))
        await manager.unload("b")
        await until(lambda: [adapter.spec.model_id for adapter in stage.living] == ["a"])


# Clients that do nothing


async def test_a_connection_that_asks_for_nothing_is_not_kept(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_wyoming_worker(manager, session_idle_ms=50) as hass:
        for sent in (b"", b'{"type": "syn', line(type="audio-chunk")):
            answer = await hass.exchange(sent)
            assert (answer.types, answer.was_closed) == ([], True)
        code, text = (await hass.exchange(line(type="synthesize-start"))).refusal
        assert code == "stalled"
        assert "send synthesize-chunk" in text


async def test_a_text_that_does_not_go_on_ends(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_wyoming_worker(manager, session_idle_ms=50) as hass:
        chunk = line(type="synthesize-chunk", data={"text": "Hello. And"})
        answer = await hass.exchange(line(type="synthesize-start") + chunk)
        assert answer.refusal[0] == "stalled"
        assert not hass.served.in_use("tone-440")


async def test_a_client_that_takes_no_audio_is_cut_off(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_wyoming_worker(manager, session_idle_ms=300) as hass:
        address = hass.server.address
        with socket.socket() as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            plain.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(plain, (address.host, address.port))
            sent = line(type="synthesize", data={"text": "Hello there. " * 1_500})
            await loop.sock_sendall(plain, sent)
            await until(lambda: hass.served.streams("tone-440"))
            await until(lambda: not hass.served.in_use("tone-440"))
            await until(lambda: not len(hass.server.connections))


async def test_idle_connections_make_room_and_those_that_speak_stay(
    metered_catalog: Catalog, meters: dict[str, Meter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wyoming_server, "MAX_CONNECTIONS", 4)
    manager = ModelManager(catalog=metered_catalog, default_model_id="a", resident_cap=4)
    async with running_wyoming_worker(manager) as hass, hass.client() as speaking:
        await speaking.write_event(Synthesize("Hello.").event())
        await until(lambda: hass.served.streams("a"))
        async with hass.client() as first, hass.client():
            assert await event_of(first) is None
            assert len(hass.server.connections) == 2
        meters["a"].free.set()
        assert (await heard_until(speaking, AudioStop.is_type)).audio
