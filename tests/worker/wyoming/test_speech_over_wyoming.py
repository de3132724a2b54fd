"""Speech over Wyoming, in the order in which Home Assistant calls."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import numpy as np
import pytest
from wyoming.audio import AudioStop
from wyoming.client import AsyncClient
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from greenroom import Catalog, ConfigError, ModelManager, ModelSpec
from greenroom.testing import Stage
from tests.audio_files import heard
from tests.waiting import until
from tests.worker.http.http_client import connected_http_client
from tests.worker.worker_client import Meter, running_worker
from tests.worker.wyoming.home_assistant import (
    HomeAssistant,
    event_of,
    heard_until,
    running_wyoming_worker,
)

AUDIO = ["audio-start", "audio-chunk", "audio-stop"]
REAL_VOICE = "piper-en-us-joe-medium"


@pytest.fixture
def manager(tone_catalog: Catalog) -> ModelManager:
    return ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)


async def test_a_whole_text_is_heard_to_its_audio_stop(manager: ModelManager) -> None:
    async with running_wyoming_worker(manager) as hass:
        answer = await hass.say("Hello there.", SynthesizeVoice("tone-220"))
        assert answer.types == AUDIO
        assert answer.rate == 22_050
        assert answer.sound.frequency == pytest.approx(220, abs=5)
        assert not hass.served.in_use("tone-220")


async def test_a_text_in_pieces_is_heard_once_to_its_synthesize_stopped(
    manager: ModelManager,
) -> None:
    async with running_wyoming_worker(manager) as hass:
        pieces = ["Hello", " there.", "", " And", " more."]
        answer = await hass.say_pieces(pieces, SynthesizeVoice("tone-220"))
        whole = await hass.say("Hello there. And more.", SynthesizeVoice("tone-220"))
        assert answer.types == [*AUDIO, "synthesize-stopped"]
        assert answer.sound.frequency == pytest.approx(220, abs=5)
        assert len(answer.audio) == len(whole.audio)
        assert not hass.served.in_use("tone-220")


async def test_the_first_sentence_is_heard_before_the_second_has_come() -> None:
    stage = Stage("a")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_wyoming_worker(manager) as hass, hass.client() as client:
        await client.write_event(SynthesizeStart().event())
        await client.write_event(SynthesizeChunk("One sentence. And").event())
        first = [await event_of(client) for _ in range(2)]
        assert [each.type for each in first if each] == AUDIO[:2]
        assert stage["a"].said == ["One sentence."]
        await client.write_event(SynthesizeChunk(" another.").event())
        await client.write_event(SynthesizeStop().event())
        rest = await heard_until(client, SynthesizeStopped.is_type)
        assert stage["a"].said == ["One sentence.", "And another."]
        assert rest.types[-2:] == ["audio-stop", "synthesize-stopped"]


async def test_a_text_that_has_begun_has_its_voice_got_ready_and_holds_nothing(
    tone_catalog: Catalog,
) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)
    async with running_wyoming_worker(manager, max_streams=1) as hass, hass.client() as client:
        await client.write_event(SynthesizeStart(SynthesizeVoice("tone-220")).event())
        await until(lambda: hass.served.states.get("tone-220") == "ready")
        assert not hass.served.in_use("tone-220")
        assert (await hass.say("Me first.")).audio, "the only stream is free"
        await client.write_event(SynthesizeChunk("Now I.").event())
        await client.write_event(SynthesizeStop().event())
        answer = await heard_until(client, SynthesizeStopped.is_type)
        assert answer.sound.frequency == pytest.approx(220, abs=5)


async def test_a_voice_is_found_by_name_alias_and_language() -> None:
    specs = [
        ModelSpec("en", "tone", languages=("en-US",), options={"frequency": 220}),
        ModelSpec("de-1", "tone", languages=("de-DE",), options={"frequency": 330}),
        ModelSpec("de-2", "tone", languages=("de-AT",), options={"frequency": 440}),
        ModelSpec(
            "sr", "tone", languages=("sr",), aliases=("sr_RS-x",), options={"frequency": 550}
        ),
    ]
    manager = ModelManager(catalog=Catalog(specs), default_model_id="en", resident_cap=8)
    asked = [
        (None, 220),
        (SynthesizeVoice(), 220),
        (SynthesizeVoice("SR_RS-X"), 550),
        (SynthesizeVoice("alloy"), 220),
        (SynthesizeVoice(language="de"), 330),
        (SynthesizeVoice(language="de_AT"), 440),
        (SynthesizeVoice(language="sr-Latn"), 550),
        (SynthesizeVoice(language="EN-us"), 220),
    ]
    async with running_wyoming_worker(manager) as hass:
        for voice, frequency in asked:
            answer = await hass.say("Hello there.", voice)
            assert answer.sound.frequency == pytest.approx(frequency, abs=5), voice


async def test_one_connection_has_what_it_asks_for_in_order(manager: ModelManager) -> None:
    async with running_wyoming_worker(manager) as hass, hass.client() as client:
        for event in (Synthesize("Hi."), Ping("a"), Describe(), Synthesize("Ho.")):
            await client.write_event(event.event())
        assert (await heard_until(client, AudioStop.is_type)).audio
        pong = await event_of(client)
        assert pong is not None
        assert Pong.from_event(pong).text == "a"
        told = await event_of(client)
        assert told is not None
        assert Info.is_type(told.type)
        assert (await heard_until(client, AudioStop.is_type)).audio


async def test_it_is_served_on_a_unix_socket_too(manager: ModelManager, tmp_path: Path) -> None:
    path = tmp_path / "wyoming"
    async with running_worker(manager, wyoming_listen=f"unix:{path}") as served:
        server = served.worker.wyoming_server
        assert server is not None
        async with AsyncClient.from_uri(server.url) as client:
            await client.write_event(Synthesize("Hello.").event())
            assert (await heard_until(client, AudioStop.is_type)).audio
    assert not path.exists()


async def test_texts_are_said_as_configured() -> None:
    stage = Stage("a")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    settings = {"text": "markdown", "pronunciations": {"all": {"nginx": "engine x"}}}
    async with running_wyoming_worker(manager, **settings) as hass:
        assert (await hass.say("*nginx*")).audio
        assert (await hass.say_pieces(["**ng", "inx** too."])).audio
        assert stage["a"].said == ["engine x", "engine x too."]


async def test_a_real_voice_sounds_as_it_does_over_http() -> None:
    catalog = await asyncio.to_thread(Catalog.discover)
    manager = ModelManager(catalog=catalog, default_model_id=REAL_VOICE)
    text = "Good evening. The kitchen light is on."
    async with running_worker(
        manager, wyoming_listen="127.0.0.1:0", http_listen="127.0.0.1:0"
    ) as served:
        hass = HomeAssistant(served)
        voices = await hass.voices()
        assert voices[REAL_VOICE].languages == ["en-US"]
        whole = await hass.say(text, SynthesizeVoice("en_US-joe-medium"))
        pieces = ["Good", " evening. The", " kitchen light is on."]
        streamed = await hass.say_pieces(pieces, SynthesizeVoice(REAL_VOICE))
        async with connected_http_client(served) as web:
            body = {"model": "tts-1", "voice": "alloy", "input": text, "response_format": "wav"}
            told = await web.post("/v1/audio/speech", {**body, "sample_rate": 22_050})
        same = heard(told.content, "wav")
    for sound in (whole.sound, streamed.sound):
        assert sound.rate == same.rate == 22_050
        assert sound.seconds == pytest.approx(same.seconds, rel=0.25)
        assert sound.loudness == pytest.approx(same.loudness, rel=0.25)
        assert np.abs(sound.samples).max() <= 1.0


async def test_others_are_answered_while_one_speaks() -> None:
    stage = Stage("a")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_wyoming_worker(manager) as hass, hass.client() as client:
        stage["a"].synthesize.hold()
        await client.write_event(Synthesize("Hello.").event())
        await until(lambda: hass.served.streams("a"))
        assert set(await hass.voices()) == {"a"}
        stage["a"].synthesize.open()
        assert (await heard_until(client, AudioStop.is_type)).audio


KEYS = [{"key": "12345678", "name": "kitchen"}]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"wyoming_listen": "0.0.0.0:10200"}, "can be reached by others"),
        ({"wyoming_listen": "0.0.0.0:10200", "api_keys": KEYS}, "Wyoming has no keys"),
        ({"wyoming_zeroconf": True}, "nothing to announce"),
        (
            {"wyoming_listen": "127.0.0.1:0", "wyoming_zeroconf": True},
            "others cannot reach 127.0.0.1:0",
        ),
    ],
)
async def test_what_cannot_be_meant_is_refused_at_the_start(
    manager: ModelManager, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        async with running_worker(manager, **settings):
            pass


async def test_what_is_open_to_all_is_said_at_the_start(
    tone_catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    for host, keys in itertools.product(("127.0.0.1", "0.0.0.0"), ([], KEYS)):
        caplog.clear()
        manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
        settings = {"wyoming_listen": f"{host}:0", "allow_unauthenticated": True, "api_keys": keys}
        async with running_worker(manager, **settings):
            pass
        found = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
        said = " ".join(each for each in found if host in each)
        assert ("whoever reaches it" in said) == (host == "0.0.0.0")
        assert ("every program of this machine" in said) == (host == "127.0.0.1" and bool(keys))


async def test_without_the_library_the_start_says_what_to_install(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.worker.settings_check.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"wyoming_listen: wyoming is not installed; run `pip"):
        async with running_worker(manager, wyoming_listen="127.0.0.1:0"):
            pass


async def test_speech_that_runs_ends_well_while_the_worker_drains() -> None:
    stage = Stage("a")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with (
        running_wyoming_worker(manager, drain_timeout_ms=30_000) as hass,
        hass.client() as client,
        hass.client() as idle,
    ):
        worker = hass.served.worker
        stage["a"].synthesize.hold()
        await client.write_event(Synthesize("Hello.").event())
        await until(lambda: hass.served.streams("a"))
        stopping = asyncio.ensure_future(worker.stop())
        await until(lambda: "Synthesis closing" in repr(worker.synthesis))
        code, text = (await hass.say("Me too.")).refusal
        assert (code, "ask another worker" in text) == ("shutting_down", True)
        stage["a"].synthesize.open()
        answer = await heard_until(client, AudioStop.is_type)
        assert answer.types == AUDIO
        assert await event_of(idle) is None
        await stopping


async def test_speech_that_outlasts_the_drain_is_cut_off_with_the_reason(
    metered_catalog: Catalog, meters: dict[str, Meter], caplog: pytest.LogCaptureFixture
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a", resident_cap=4)
    async with running_wyoming_worker(manager) as hass, hass.client() as client:
        await client.write_event(Synthesize("Hello.").event())
        await until(lambda: meters["a"].asked)
        stopping = asyncio.ensure_future(hass.served.worker.stop())
        await until(lambda: "1 streams are cut off" in caplog.text)
        meters["a"].free.set()
        answer = await heard_until(client, AudioStop.is_type)
        assert answer.refusal[0] == "shutting_down"
        await stopping
