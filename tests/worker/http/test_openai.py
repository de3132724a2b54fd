"""`POST /v1/audio/speech` over a real socket: six formats, events, names, options."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.speech.sentence import SILENCE_S
from greenroom.testing import Stage
from tests.audio_files import heard
from tests.waiting import until
from tests.worker.http.http_client import HttpClient, connected_http_client, running_http_worker
from tests.worker.worker_client import Meter, WorkerClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "Hello there, this is a tone."
SECONDS = len(TEXT) * 0.06
ASKED = {"model": "tts-1", "input": TEXT, "voice": "alloy"}
MEDIA = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


def asked(**more: Any) -> dict[str, Any]:
    return {**ASKED, **more}


async def speak(web: HttpClient, **more: Any) -> Any:
    """Return the answer to a request that must succeed."""
    answer = await web.post("/v1/audio/speech", asked(**more))
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize("name", MEDIA)
async def test_every_format_is_what_its_content_type_says(web: HttpClient, name: str) -> None:
    answer = await speak(web, response_format=name)
    assert answer.headers["content-type"] == MEDIA[name]
    sound = heard(answer.content, name)
    assert (sound.rate, sound.channels) == (48_000 if name == "opus" else 24_000, 1)
    assert SECONDS - 0.03 <= sound.seconds <= SECONDS + 0.12
    assert sound.frequency == pytest.approx(440, abs=3)
    assert web.served.refcount("tone-440") == 0


async def test_mp3_is_the_default_and_null_is_as_good_as_absent(web: HttpClient) -> None:
    nothing = dict.fromkeys(
        ("response_format", "speed", "stream_format", "sample_rate", "keep_alive", "instructions")
    )
    assert (await speak(web)).headers["content-type"] == "audio/mpeg"
    assert (await speak(web, **nothing)).headers["content-type"] == "audio/mpeg"


@pytest.mark.parametrize("text", [".", "...", "!?", "😀 👍🏽"])
async def test_text_with_nothing_to_say_is_a_short_silence(web: HttpClient, text: str) -> None:
    answer = await speak(web, input=text, response_format="pcm")
    assert len(answer.content) == pytest.approx(2 * 24_000 * SILENCE_S, abs=2 * 24_000 * 0.021)
    assert not any(answer.content)
    assert heard((await speak(web, input=text)).content, "mp3").seconds > 0


async def test_markdown_is_said_without_its_marks_when_the_request_says_so(web: HttpClient) -> None:
    as_written = (await speak(web, input="**Hi** `a`", response_format="pcm")).content
    shown = (await speak(web, input="**Hi** `a`", response_format="pcm", text="markdown")).content
    words = (await speak(web, input="Hi a", response_format="pcm", text="plain")).content
    assert shown == words
    assert len(as_written) > len(words)
    assert (await web.post("/v1/audio/speech", asked(text="ssml"))).status_code == 400


async def test_pcm_is_24_khz_16_bit_mono_without_a_header(web: HttpClient) -> None:
    answer = await speak(web, response_format="pcm")
    assert len(answer.content) / 2 / 24_000 == pytest.approx(SECONDS, abs=0.02)
    assert answer.headers["x-sample-rate"] == "24000"
    assert answer.headers["x-channels"] == "1"
    assert answer.headers["x-sample-width"] == "2"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-request-id"].startswith("req_")


async def test_no_audio_is_lost_between_streamed_pieces(web: HttpClient) -> None:
    whole = (await speak(web, response_format="pcm")).content
    async with web.client.stream(
        "POST", "/v1/audio/speech", json=asked(response_format="pcm")
    ) as answer:
        streamed = b"".join([piece async for piece in answer.aiter_raw()])
    assert streamed == whole


@pytest.mark.parametrize("name", MEDIA)
@pytest.mark.parametrize("stream_format", ["audio", "sse"])
async def test_first_bytes_leave_before_the_synthesis_ends(
    metered_catalog: Catalog, meters: dict[str, Meter], name: str, stream_format: str
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        body = asked(voice="b", response_format=name, stream_format=stream_format)
        meters["b"].allow(3)
        async with web.client.stream("POST", "/v1/audio/speech", json=body) as answer:
            pieces = answer.aiter_raw()
            first = await anext(pieces)
            assert first
            assert meters["b"].made <= 4
            assert web.served.refcount("b") == 1
            meters["b"].free.set()
            async for _ in pieces:
                pass
        assert meters["b"].made == 100


def events(text: str) -> list[dict[str, Any]]:
    """Return the events of a whole answer, which has nothing else in it."""
    parts = text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    return [json.loads(part.removeprefix("data: ")) for part in parts]


@pytest.mark.parametrize("name", MEDIA)
async def test_events_carry_the_asked_format_and_end_with_the_usage(
    web: HttpClient, name: str
) -> None:
    answer = await speak(web, stream_format="sse", response_format=name)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *deltas, done = events(answer.text)
    assert deltas
    assert all(set(delta) == {"type", "audio"} for delta in deltas)
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    sound = heard(b"".join(base64.b64decode(delta["audio"]) for delta in deltas), name)
    assert sound.seconds == pytest.approx(SECONDS, abs=0.12)
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["input_tokens"] == 7
    assert usage["output_tokens"] == pytest.approx(SECONDS * 50, abs=1)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 48_000])
async def test_a_sample_rate_may_be_asked_for(web: HttpClient, rate: int) -> None:
    answer = await speak(web, response_format="wav", sample_rate=rate)
    sound = heard(answer.content, "wav")
    assert sound.rate == rate
    assert sound.seconds == pytest.approx(SECONDS, abs=0.02)


@pytest.mark.parametrize(("speed", "factor"), [(0.25, 4), (0.5, 2), (1, 1), (2, 0.5), (4.0, 0.25)])
async def test_speed_changes_how_long_it_takes_to_say(
    web: HttpClient, speed: Any, factor: float
) -> None:
    answer = await speak(web, response_format="pcm", speed=speed)
    assert len(answer.content) / 48_000 == pytest.approx(SECONDS * factor, abs=0.02)


async def test_a_speed_of_one_is_the_models_own_and_others_are_relative_to_it() -> None:
    catalog = Catalog([ModelSpec("slow", "tone", options={"speed": 0.5})])
    manager = ModelManager(catalog=catalog, default_model_id="slow")
    async with running_http_worker(manager) as web:
        for speed, factor in ((None, 2.0), (1.0, 2.0), (2.0, 1.0)):
            answer = await speak(web, response_format="pcm", speed=speed)
            assert len(answer.content) / 48_000 == pytest.approx(SECONDS * factor, abs=0.02)
        refusal = await web.post("/v1/audio/speech", asked(speed=0.3))
        assert refusal.status_code == 400
        assert refusal.json()["error"]["param"] == "speed"


@pytest.mark.parametrize(
    ("field", "text", "number"),
    [
        ("speed", "2", 2),
        ("speed", " 0.5 ", 0.5),
        ("volume", "0.25", 0.25),
        ("sample_rate", "8000", 8000),
    ],
)
async def test_a_number_may_come_as_text(
    web: HttpClient, field: str, text: str, number: float
) -> None:
    said = (await speak(web, response_format="pcm", **{field: text})).content
    assert said == (await speak(web, response_format="pcm", **{field: number})).content
    assert said != (await speak(web, response_format="pcm")).content


async def test_words_and_names_may_come_in_any_case(web: HttpClient) -> None:
    plain = await speak(web, voice="tone-220", response_format="wav", text="markdown")
    loud = await speak(
        web,
        model="TTS-1",
        voice="Tone-220",
        response_format="WAV",
        stream_format="Audio",
        text="Markdown",
    )
    assert loud.content == plain.content
    assert await pitch(web, voice="ALLOY") == pytest.approx(440, abs=3)


async def test_a_name_that_two_models_have_in_some_case_is_neither() -> None:
    catalog = Catalog([ModelSpec(name, "tone") for name in ("Joe", "joe", "amy")])
    async with running_http_worker(ModelManager(catalog=catalog, default_model_id="amy")) as web:
        assert (await web.post("/v1/audio/speech", asked(voice="JOE"))).status_code == 400
        for voice in ("Joe", "joe", "AMY"):
            assert (await web.post("/v1/audio/speech", asked(voice=voice))).status_code == 200


async def test_options_of_the_voice_reach_the_engine() -> None:
    stage = Stage("a")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    wanted = {
        "volume": 0.5,
        "speaker": "joe",
        "sentence_silence": 0.25,
        "noise_scale": 0,
        "noise_w_scale": 0.1,
        "length_scale": 1.5,
    }
    async with running_http_worker(manager) as web:
        await speak(web, speed=2, **wanted)
        assert stage["a"].options == [{**wanted, "speed": 2}]
        await speak(web, **dict.fromkeys(wanted))
        assert stage["a"].options[-1] == {}


async def test_volume_is_how_loud_the_voice_is(web: HttpClient) -> None:
    loud, soft = [
        heard((await speak(web, response_format="wav", volume=v)).content, "wav").loudness
        for v in (1.0, 0.25)
    ]
    assert loud == pytest.approx(4 * soft, rel=0.01)


@pytest.mark.parametrize(
    ("name", "media", "codec"),
    [
        ("mulaw", "audio/basic", "mulaw"),
        ("ULAW", "audio/basic", "mulaw"),
        ("ulaw_8000", "audio/basic", "mulaw"),
        ("g711_alaw", "audio/x-alaw-basic", "alaw"),
        ("alaw", "audio/x-alaw-basic", "alaw"),
        ("wav_ulaw", "audio/wav", "wav"),
        ("wav_alaw", "audio/wav", "wav"),
    ],
)
async def test_telephones_have_g711_at_8_khz(
    web: HttpClient, name: str, media: str, codec: str
) -> None:
    answer = await speak(web, response_format=name)
    assert answer.headers["content-type"] == media
    assert (answer.headers["x-sample-rate"], answer.headers["x-sample-width"]) == ("8000", "1")
    sound = heard(answer.content, codec)
    assert (sound.rate, sound.channels) == (8_000, 1)
    assert sound.seconds == pytest.approx(SECONDS, abs=0.02)
    assert sound.frequency == pytest.approx(440, abs=3)


async def test_an_address_is_enough_to_hear_a_text(web: HttpClient) -> None:
    query = {"input": TEXT, "voice": "tone-220", "response_format": "wav", "speed": "2"}
    posted = (await speak(web, **{**query, "speed": 2})).content
    for path in ("/v1/audio/speech", "/audio/speech"):
        answer = await web.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        assert answer.content == posted
    for names, frequency in [({}, 440), ({"model": "tone-247"}, 247), ({"voice": "nova"}, 440)]:
        params = {"input": TEXT, "response_format": "wav", **names}
        answer = await web.client.get("/v1/audio/speech", params=params)
        assert heard(answer.content, "wav").frequency == pytest.approx(frequency, abs=3)


@pytest.mark.parametrize(
    ("change", "param"),
    [({"input": ""}, "input"), ({"voice": "zork"}, "voice"), ({"speed": "9"}, "speed")],
    ids=repr,
)
async def test_a_query_is_checked_like_a_body(
    web: HttpClient, change: dict[str, str], param: str
) -> None:
    params = {"input": TEXT, **change}
    answer = await web.client.get("/v1/audio/speech", params=params)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert (await web.client.head("/v1/audio/speech", params=params)).status_code == 400


async def test_head_says_what_would_come_and_speaks_nothing(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    async with running_http_worker(manager) as web:
        for path in ("/v1/audio/speech", "/audio/speech"):
            params = {"input": TEXT, "response_format": "Opus", "voice": "b"}
            answer = await web.client.head(path, params=params)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "audio/opus"
            assert answer.headers["x-sample-rate"] == "48000"
            assert answer.content == b""
            assert "content-length" not in answer.headers  # 0 would be a file to play with nothing
        assert "b" not in web.served.states


async def test_an_address_may_lack_v1_or_end_with_a_slash(web: HttpClient) -> None:
    for path in ("/audio/speech", "/v1/audio/speech/", "/audio/speech/"):
        assert (await web.post(path, ASKED)).status_code == 200
    for path in ("/v1/models/", "/v1/audio/voices/", "/health/", "/v1/", "/"):
        assert (await web.client.get(path)).status_code == 200


async def test_what_clients_merge_into_the_request_is_ignored(web: HttpClient) -> None:
    await speak(
        web,
        instructions="Speak like a pirate.",
        lang_code="a",
        stream=True,
        normalization_options={"normalize": True},
        return_timestamps=None,
    )


async def pitch(web: HttpClient, **more: Any) -> float:
    answer = await speak(web, response_format="wav", **more)
    return heard(answer.content, "wav").frequency


async def test_names_of_openai_and_of_the_catalog_find_their_model(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440", resident_cap=8)
    aliases = {"nova": "tone-247", "house": "tone-277", "tts-1-hd": "tone-294"}
    async with running_http_worker(manager, aliases=aliases) as web:
        for model, voice, frequency in [
            ("tts-1", "alloy", 440),
            ("gpt-4o-mini-tts", "cedar", 440),
            ("tts-1", "nova", 247),
            ("house", "house", 277),
            ("tts-1-hd", "alloy", 294),
            ("tts-1-hd", "nova", 247),
            ("tone-220", "alloy", 220),
            ("tone-220", "nova", 220),
            ("tts-1", "tone-330", 330),
            ("tone-220", "tone-330", 330),
            ("tts-1", {"id": "tone-330"}, 330),
            ("tts-1", {"id": "nova", "name": "more"}, 247),
        ]:
            found = await pitch(web, model=model, voice=voice)
            assert found == pytest.approx(frequency, abs=3), (model, voice)


@pytest_asyncio.fixture(loop_scope="module")
async def brief(tone_catalog: Catalog) -> AsyncIterator[HttpClient]:
    """A worker whose models may leave at once."""
    manager = ModelManager(
        catalog=tone_catalog, default_model_id="tone-440", min_residency_ms=0, resident_cap=8
    )
    async with running_http_worker(manager) as made:
        yield made


@pytest.mark.parametrize(
    ("keep_alive", "seconds"), [("5m", 300), ("1h30m", 5_400), (60, 60), ("90", 90), (7e3, 7_000)]
)
async def test_keep_alive_says_how_long_the_model_stays(
    brief: HttpClient, keep_alive: Any, seconds: float
) -> None:
    await speak(brief, voice="tone-220", keep_alive=keep_alive)
    (found,) = [r for r in brief.manager.list_resident() if r.model_id == "tone-220"]
    assert found.expires_in_s is not None
    assert seconds - 30 < found.expires_in_s <= seconds


async def test_keep_alive_may_be_for_ever_or_not_at_all(brief: HttpClient) -> None:
    await speak(brief, voice="tone-220", keep_alive=-1)
    await speak(brief, voice="tone-247", keep_alive="-1m")
    await speak(brief, voice="tone-277", keep_alive=0)
    await until(lambda: "tone-277" not in brief.served.states)
    assert {r.model_id: r.expires_in_s for r in brief.manager.list_resident()} == {
        "tone-440": None,
        "tone-220": None,
        "tone-247": None,
    }


async def test_a_holder_is_shown_by_who_called(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    key = {"key": "12345678", "name": "kitchen"}
    async with (
        running_http_worker(manager, api_keys=[key]) as web,
        connected_http_client(web.served, "12345678") as me,
    ):
        meters["a"].allow(1)
        async with me.client.stream(
            "POST", "/v1/audio/speech", json=asked(response_format="pcm")
        ) as answer:
            await anext(answer.aiter_raw())
            (found,) = manager.list_resident()
            (owner,) = found.owners
            assert owner.startswith("http call of kitchen at 127.0.0.1:")
        meters["a"].free.set()


async def test_grpc_and_http_speak_with_one_and_the_same_model(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_http_worker(manager) as web:
        served: WorkerClient = web.served
        frames = await served.speak(TEXT, sample_rate=24_000)
        grpc = b"".join(frame.audio_data for frame in frames)
        assert (await speak(web, response_format="pcm")).content == grpc
        assert web.manager.statistics().loads == 1
