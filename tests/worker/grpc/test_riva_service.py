"""`nvidia.riva.tts`; Riva's own client and those built on it are run by `make conformance`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, ClassVar

import grpc
import numpy as np
import pytest

from greenroom import AudioChunk, Catalog, ModelManager, ModelSpec, TTSAdapter
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.testing import Stage
from greenroom.worker.grpc.riva_protos import riva_common_pb2, riva_tts_pb2
from greenroom.worker.grpc.riva_service import SERVICE
from tests.audio_files import heard
from tests.speech.telling_engine import TellingAdapter
from tests.waiting import until
from tests.worker.worker_client import (
    LIMIT_S,
    Meter,
    WorkerClient,
    metered,
    refused,
    running_worker,
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
TEXT = "Hello there, this is a tone."
PCM = riva_common_pb2.LINEAR_PCM

Request = riva_tts_pb2.SynthesizeSpeechRequest


def method(kind: Any, name: str, answer: Any = riva_tts_pb2.SynthesizeSpeechResponse) -> Any:
    return kind(
        f"/{SERVICE}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )


async def synthesize(served: WorkerClient, text: str = TEXT, **more: Any) -> Any:
    call = method(served.channel.unary_unary, "Synthesize")
    return await call(Request(text=text, **more), timeout=LIMIT_S)


def online(served: WorkerClient, *requests: Request) -> Any:
    """Begin to stream; without requests those are for the test to write."""
    call = method(served.channel.stream_stream, "SynthesizeOnline")
    return call(iter(requests), timeout=LIMIT_S) if requests else call(timeout=LIMIT_S)


async def streamed(served: WorkerClient, *requests: Request) -> bytes:
    return b"".join([answer.audio async for answer in online(served, *requests)])


async def configured(served: WorkerClient, model_name: str = "", **more: Any) -> Any:
    answer = riva_tts_pb2.RivaSynthesisConfigResponse
    call = method(served.channel.unary_unary, "GetRivaSynthesisConfig", answer)
    request = riva_tts_pb2.RivaSynthesisConfigRequest(model_name=model_name)
    return (await call(request, timeout=LIMIT_S, **more)).model_config


def frequency(pcm: bytes, rate: int) -> float:
    samples = np.frombuffer(pcm, "<i2").astype(float)
    return float(np.abs(np.fft.rfft(samples)).argmax()) * rate / len(samples)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
async def test_the_whole_text_is_samples_at_the_asked_rate(tones: WorkerClient, rate: int) -> None:
    answer = await synthesize(tones, voice_name="tone-220", sample_rate_hz=rate, encoding=PCM)
    assert len(answer.audio) / 2 / rate == pytest.approx(0.06 * len(TEXT), abs=0.03)
    assert frequency(answer.audio, rate) == pytest.approx(220, abs=2)
    assert not tones.in_use("tone-220")


async def test_a_request_with_nothing_but_text_is_the_default_voice_in_samples_at_22050_hz(
    tones: WorkerClient,
) -> None:
    answer = await synthesize(tones)
    assert len(answer.audio) / 2 / 22_050 == pytest.approx(0.06 * len(TEXT), abs=0.03)
    assert frequency(answer.audio, 22_050) == pytest.approx(440, abs=2)
    assert not answer.HasField("id")


@pytest.mark.parametrize(
    ("encoding", "name", "rate"),
    [
        (riva_common_pb2.FLAC, "flac", 22_050),
        (riva_common_pb2.OGGOPUS, "opus", 48_000),
        (riva_common_pb2.MULAW, "mulaw", 8_000),
        (riva_common_pb2.ALAW, "alaw", 8_000),
    ],
)
async def test_every_encoding_is_heard_whole_and_streamed(
    tones: WorkerClient, encoding: int, name: str, rate: int
) -> None:
    asked: dict[str, Any] = {"voice_name": "tone-220", "encoding": encoding}
    whole = (await synthesize(tones, **asked)).audio
    for audio in (whole, await streamed(tones, Request(text=TEXT, **asked))):
        sound = heard(audio, name)
        assert sound.rate == rate
        assert sound.frequency == pytest.approx(220, abs=3)
        assert sound.seconds == pytest.approx(0.06 * len(TEXT), abs=0.1)


async def test_every_answer_has_the_requests_id(tones: WorkerClient) -> None:
    named = riva_common_pb2.RequestId(value="turn 7")
    assert (await synthesize(tones, id=named)).id.value == "turn 7"
    answers = [each async for each in online(tones, Request(text=TEXT, id=named))]
    assert answers
    assert {answer.id.value for answer in answers} == {"turn 7"}


@pytest.mark.parametrize("encoding", [PCM, riva_common_pb2.OGGOPUS])
async def test_words_are_told_in_milliseconds_of_the_calls_audio_where_asked_and_known(
    encoding: int,
) -> None:
    specs = [ModelSpec("telling", TellingAdapter), ModelSpec("tone-440", ToneTTSAdapter)]
    manager = ModelManager(catalog=Catalog(specs), default_model_id="telling")
    async with running_worker(manager) as served:
        asked: dict[str, Any] = {"enable_word_time_offsets": True, "encoding": encoding}
        whole = await synthesize(served, "One two. Three.", **asked)
        streams = [
            each
            async for each in online(
                served, Request(text="One two.", **asked), Request(text="Three.", **asked)
            )
        ]
        for answers in ([whole], streams):
            words = [word for answer in answers for word in answer.meta.words]
            assert [(word.word, word.start_time, word.end_time) for word in words] == [
                ("One", 0, 80),
                ("two.", 100, 180),
                ("Three.", 450, 530),
            ]
        assert not (await synthesize(served, "One two.")).HasField("meta")
        asked["voice_name"] = "tone-440"
        assert not (await synthesize(served, "One two.", **asked)).HasField("meta")


async def test_audio_leaves_as_it_is_made_and_a_cancelled_call_gives_its_lease_back(
    metered_worker: WorkerClient, meters: dict[str, Meter]
) -> None:
    call = online(metered_worker, Request(text=TEXT, voice_name="b", sample_rate_hz=48_000))
    meters["b"].allow(2)
    audio = b""
    while len(audio) < 2 * 9_600:
        audio += (await call.read()).audio
    assert meters["b"].made == 2
    assert metered_worker.refcount("b") == 1
    call.cancel()
    for _ in range(3):  # so that the worker has heard of it: else the engine waits for one more
        await metered_worker.round_trip()
    meters["b"].allow(1)
    await until(lambda: not metered_worker.in_use("b"))


async def test_a_cancelled_call_for_the_whole_gives_its_lease_back(
    metered_worker: WorkerClient, meters: dict[str, Meter]
) -> None:
    call = method(metered_worker.channel.unary_unary, "Synthesize")(
        Request(text=TEXT, voice_name="b"), timeout=LIMIT_S
    )
    await until(lambda: metered_worker.streams("b") == 1)
    call.cancel()
    for _ in range(3):  # so that the worker has heard of it: else the engine waits for one more
        await metered_worker.round_trip()
    meters["b"].allow(1)
    await until(lambda: not metered_worker.in_use("b"))


async def test_a_client_that_knows_one_request_only_hears_the_stream(tones: WorkerClient) -> None:
    call = method(tones.channel.unary_stream, "SynthesizeOnline")
    audio = [each.audio async for each in call(Request(text=TEXT), timeout=LIMIT_S)]
    assert b"".join(audio) == (await synthesize(tones)).audio


@pytest.fixture
async def staged() -> AsyncIterator[tuple[WorkerClient, Stage]]:
    """A worker with a fake voice that notes what it has said."""
    stage = Stage("a")
    manager = ModelManager(catalog=stage.catalog, default_model_id="a")
    async with running_worker(manager) as served:
        yield served, stage


async def test_a_sentence_is_spoken_before_the_next_request_comes(
    staged: tuple[WorkerClient, Stage],
) -> None:
    served, stage = staged
    call = online(served)
    await call.write(Request(text="Hello there."))
    assert (await call.read()).audio
    assert stage["a"].said == ["Hello there."]
    await call.write(Request(text="This one is"))
    await call.write(Request(text="cut in two."))
    await call.done_writing()
    while await call.read() is not grpc.aio.EOF:
        pass
    assert stage["a"].said == ["Hello there.", "This one is cut in two."]


async def test_requests_without_a_text_before_and_between_others_are_as_good_as_none(
    staged: tuple[WorkerClient, Stage],
) -> None:
    served, stage = staged
    texts = ["", " \n", "Hello", "", "there."]
    assert await streamed(served, *(Request(text=text) for text in texts))
    assert stage["a"].said == ["Hello there."]


async def test_a_later_request_may_repeat_how_the_first_one_wants_to_be_spoken(
    tones: WorkerClient,
) -> None:
    asked: dict[str, Any] = {"voice_name": "tone-220", "encoding": PCM, "sample_rate_hz": 16_000}
    one = await streamed(tones, Request(text="Hello. ", **asked))
    two = await streamed(tones, *[Request(text="Hello.", **asked)] * 2, Request(text=""))
    assert len(two) == pytest.approx(2 * len(one), abs=1_280)
    with refused(INVALID, "voice_name: one call speaks in one way"):
        await streamed(tones, Request(text="Hi.", **asked), Request(text="Hi.", voice_name="a"))
    with refused(INVALID, "SSML"):
        await streamed(tones, Request(text="Hi.", **asked), Request(text="<speak>Hi.</speak>"))
    await until(lambda: not tones.in_use("tone-220"))


async def test_a_text_may_be_exactly_as_long_as_is_allowed(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_worker(manager, max_text_chars=20) as served:
        assert await streamed(served, Request(text="Hello, hello, hello."))
        assert await streamed(served, Request(text="Hello, hello, hello?"), Request())
        with refused(INVALID, "21 characters"):
            await streamed(served, Request(text="Hello, hello, hello!!"))
        with refused(INVALID, "more than 20 characters"):
            await streamed(served, Request(text="Hello, hello"), Request(text="hello, hello."))


async def test_a_client_that_sends_no_text_is_cut_off(tone_catalog: Catalog) -> None:
    manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
    async with running_worker(manager, session_idle_ms=100) as served:
        silent = online(served)
        await silent.write(Request(text=" "))
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "no text came in time"):
            await silent.read()


async def test_more_audio_than_one_answer_can_have_is_refused_and_can_be_streamed() -> None:
    catalog, meters = metered("a", chunks=600)
    meters["a"].free.set()
    manager = ModelManager(catalog=catalog, default_model_id="a")
    async with running_worker(manager) as served:
        with refused(INVALID, "too many for one answer; ask SynthesizeOnline"):
            await synthesize(served, sample_rate_hz=48_000)
        await until(lambda: not served.in_use("a"))
        audio = await streamed(served, Request(text=TEXT, sample_rate_hz=48_000))
        assert len(audio) == 600 * 9_600


_ZERO_SHOT = riva_tts_pb2.ZeroShotData(audio_prompt=b"\x00" * 100)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"text": ""}, "text is empty"),
        ({"text": " \n"}, "text is empty"),
        ({"text": "a" * 20_001}, "20000"),
        ({"text": "ring\x07"}, "U+0007"),
        ({"text": "<speak>Hello.</speak>"}, "SSML is not spoken"),
        ({"encoding": 7}, "encoding 7 is not known"),
        ({"encoding": riva_common_pb2.MULAW, "sample_rate_hz": 22_050}, "mulaw cannot have 22050"),
        ({"encoding": riva_common_pb2.OGGOPUS, "sample_rate_hz": 44_100}, "opus cannot have 44100"),
        ({"sample_rate_hz": 7_999}, "sample_rate 7999"),
        ({"sample_rate_hz": -1}, "sample_rate -1"),
        ({"sample_rate_hz": 2**31 - 1}, "sample_rate 2147483647"),
        ({"zero_shot_data": _ZERO_SHOT}, "no engine here clones voices"),
        ({"id": riva_common_pb2.RequestId(value="x" * 201)}, "id has more than 200"),
        ({"custom_dictionary": "tomato"}, "custom_dictionary: 'tomato'"),
        ({"custom_dictionary": "a  b," * 500_000}, "500001 entries; 500 are allowed"),
        ({"custom_dictionary": "a" * 3_000_000 + "  b"}, "is no word of 1 to 100 characters"),
        ({"custom_dictionary": "tomato  təmɑːtəʊ"}, "reads no [[phonemes]]"),
        ({"custom_configuration": {"exaggeration_factor": "1.5"}}, "'exaggeration_factor'"),
        ({"custom_configuration": {"speed": "9"}}, "option 'speed' must be a number"),
        ({"voice_name": "tone-220.Mia"}, "option 'speaker' is not known"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
async def test_what_cannot_be_spoken_is_refused_before_a_model_is_loaded(
    tones: WorkerClient, asked: dict[str, Any], words: str
) -> None:
    request = Request(**{"text": TEXT, "voice_name": "tone-220", **asked})
    before = tones.states
    with refused(INVALID, words):
        await method(tones.channel.unary_unary, "Synthesize")(request, timeout=LIMIT_S)
    with refused(INVALID, words):
        await streamed(tones, request)
    assert tones.states == before


@pytest.mark.parametrize("name", ["tone-22", "../tone-220", "nobody", "x" * 10_000])
async def test_an_unknown_voice_is_not_found(tones: WorkerClient, name: str) -> None:
    with refused(grpc.StatusCode.NOT_FOUND, "not in the catalog"):
        await synthesize(tones, voice_name=name)
    with refused(grpc.StatusCode.NOT_FOUND, "not in the catalog"):
        await streamed(tones, Request(text=TEXT, voice_name=name))
    with refused(grpc.StatusCode.NOT_FOUND, "not in the catalog"):
        await configured(tones, name)


class _Noting(TTSAdapter):
    """Reads phonemes, and notes what it is given."""

    reads_phonemes: ClassVar[bool] = True
    sample_rate = 16_000
    given: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def load(self) -> None:
        pass

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        self.given.append((text, dict(options)))
        yield AudioChunk(np.full(8_000, 0.5, np.float32), 16_000)

    def unload(self) -> None:
        pass


@pytest.fixture
async def noting() -> AsyncIterator[WorkerClient]:
    """A worker with an English and a German voice that note what they are given."""
    specs = [
        ModelSpec("joe", _Noting, languages=("en-US", "en-GB")),
        ModelSpec("thorsten", _Noting, languages=("de-DE",)),
        ModelSpec("quiet", _Noting),
    ]
    manager = ModelManager(catalog=Catalog(specs), default_model_id="joe")
    async with running_worker(manager) as served:
        _Noting.given.clear()
        yield served


async def test_words_of_the_dictionary_are_said_by_their_phonemes(noting: WorkerClient) -> None:
    words = "NVIDIA  ɛn.vɪ.diː.ʌ,tomato  tˈɑːməʊ"
    await synthesize(noting, "A tomato of NVIDIA", custom_dictionary=words)
    await streamed(noting, Request(text="Tomato.", custom_dictionary=words))
    assert [text for text, _ in _Noting.given] == [
        "A [[tˈɑːməʊ]] of [[ɛnvɪdiːʌ]]",
        "[[tˈɑːməʊ]].",
    ]


async def test_speaker_and_configuration_reach_the_engine_as_options(noting: WorkerClient) -> None:
    more = {"speed": "1.25", "speaker": "nobody"}
    await synthesize(noting, "Hi.", voice_name="joe.p225", custom_configuration=more)
    assert _Noting.given == [("Hi.", {"speed": 1.25, "speaker": "p225"})]


async def test_the_language_chooses_the_voice_and_its_refusal_says_what_there_is(
    noting: WorkerClient,
) -> None:
    await synthesize(noting, "Hallo.", language_code="de-DE")
    assert "thorsten" in noting.states
    await streamed(noting, Request(text="Hi.", voice_name="Magpie-Multilingual.EN-US.Leo"))
    with refused(INVALID, "no voice speaks 'ja-JP'", "de-DE, en-GB, en-US"):
        await synthesize(noting, language_code="ja-JP")
    with refused(INVALID, "thorsten speaks de-DE"):
        await streamed(noting, Request(text="Hi.", voice_name="thorsten", language_code="en-US"))


async def test_the_configuration_has_an_entry_for_each_language_of_each_voice(
    noting: WorkerClient,
) -> None:
    told = [(each.model_name, dict(each.parameters)) for each in await configured(noting)]
    assert told == [
        ("joe", {"voice_name": "joe", "language_code": "en-US"}),
        ("joe", {"voice_name": "joe", "language_code": "en-GB"}),
        ("thorsten", {"voice_name": "thorsten", "language_code": "de-DE"}),
        ("quiet", {"voice_name": "quiet"}),
    ]
    (only,) = await configured(noting, "Thorsten")
    assert only.model_name == "thorsten"


async def test_speech_needs_a_key_and_the_configuration_where_discovery_does(
    tone_catalog: Catalog,
) -> None:
    keys = [{"key": "speak-secret-1", "name": "kitchen", "max_streams": 1}]
    for public in (True, False):
        manager = ModelManager(catalog=tone_catalog, default_model_id="tone-440")
        async with running_worker(manager, api_keys=keys, public_discovery=public) as served:
            with refused(grpc.StatusCode.UNAUTHENTICATED, "API keys"):
                await synthesize(served)
            with refused(grpc.StatusCode.UNAUTHENTICATED, "API keys"):
                await online(served).read()
            key = [("authorization", "Bearer speak-secret-1")]
            call = method(served.channel.unary_unary, "Synthesize")
            assert (await call(Request(text=TEXT), metadata=key, timeout=LIMIT_S)).audio
            assert await configured(served, metadata=key)
            if public:
                assert await configured(served)
                continue
            with refused(grpc.StatusCode.UNAUTHENTICATED, "API keys"):
                await configured(served)


async def test_one_stream_more_than_allowed_is_refused_with_a_time(
    metered_catalog: Catalog, meters: dict[str, Meter]
) -> None:
    manager = ModelManager(catalog=metered_catalog, default_model_id="a")
    async with running_worker(manager, max_streams=1) as served:
        first = online(served, Request(text=TEXT, voice_name="a"))
        await until(lambda: served.streams("a") == 1)
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "1 streams") as advice:
            await synthesize(served)
        assert advice == [1.0]
        meters["a"].free.set()
        while await first.read() is not grpc.aio.EOF:
            pass
        assert (await synthesize(served)).audio


_OTHER = """
from google.protobuf import descriptor_pb2, descriptor_pool
def other():
    file = descriptor_pb2.FileDescriptorProto(
        name="riva/proto/riva_tts.proto", package="nvidia.riva.tts", syntax="proto3"
    )
    file.message_type.add(name="SynthesizeSpeechRequest")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
def ours():
    from greenroom.worker.grpc.riva_protos import riva_tts_pb2
    assert riva_tts_pb2.SynthesizeSpeechRequest(text="Hi.").SerializeToString() == b"\\n\\x03Hi."
"""


@pytest.mark.parametrize("order", ["ours(); other(); ours()", "other(); ours()"])
def test_rivas_own_client_may_live_in_the_same_process(order: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{_OTHER}{order}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
