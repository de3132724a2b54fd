"""`nvidia-riva-client`: whole and streamed speech, voices, dictionaries, encodings, keys."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import riva.client
from riva.client.proto.riva_tts_pb2 import RivaSynthesisConfigRequest

from conformance.started import HERE, PARAGRAPH, TEXT, Started, started
from tests.audio_files import heard

pytestmark = pytest.mark.client("nvidia-riva-client")

VOICE = "piper-en-us-joe-medium"


def service(worker: Started, **more: Any) -> riva.client.SpeechSynthesisService:
    return riva.client.SpeechSynthesisService(riva.client.Auth(uri=worker.grpc, **more))


def seconds_of(audio: bytes, rate: int = 22_050) -> float:
    samples = np.frombuffer(audio, "<i2").astype(float)
    assert np.sqrt((samples**2).mean()) > 500
    return len(samples) / rate


def test_default_arguments_speak_whole_and_streamed(worker: Started) -> None:
    made = service(worker)
    assert 1.5 < seconds_of(made.synthesize(TEXT).audio) < 4
    streamed = [answer.audio for answer in made.synthesize_online(TEXT)]
    assert 1.5 < seconds_of(b"".join(streamed)) < 4


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_every_rate(worker: Started, rate: int) -> None:
    answer = service(worker).synthesize(TEXT, VOICE, sample_rate_hz=rate)
    assert 1.5 < seconds_of(answer.audio, rate) < 4


@pytest.mark.parametrize(
    ("encoding", "rate"), [("FLAC", 22_050), ("OGGOPUS", 48_000), ("MULAW", 8_000), ("ALAW", 8_000)]
)
def test_every_encoding(worker: Started, encoding: str, rate: int) -> None:
    number = riva.client.AudioEncoding.Value(encoding)
    answer = service(worker).synthesize(TEXT, encoding=number, sample_rate_hz=rate)
    sound = heard(answer.audio, {"OGGOPUS": "opus"}.get(encoding, encoding.lower()))
    assert 1.5 < sound.seconds < 4
    assert sound.loudness > 0.02


def test_the_first_audio_comes_while_the_rest_is_made(worker: Started) -> None:
    call = service(worker).synthesize_online(PARAGRAPH)
    assert next(call).audio
    assert worker.streams() == 1
    call.cancel()
    worker.until_quiet()


def test_texts_of_a_list_are_spoken_one_after_the_other(worker: Started) -> None:
    call = service(worker).synthesize_online([TEXT, TEXT])
    assert 3 < seconds_of(b"".join(answer.audio for answer in call)) < 8


def test_voices_are_listed_with_their_languages(worker: Started) -> None:
    found = service(worker).stub.GetRivaSynthesisConfig(RivaSynthesisConfigRequest())
    voices = {each.parameters["voice_name"]: each.parameters for each in found.model_config}
    assert voices[VOICE]["language_code"] == "en-US"
    assert "tone-220" in voices


def test_a_custom_dictionary_is_said(worker: Started) -> None:
    made = service(worker)
    plain = made.synthesize("I say tomato.").audio
    long = made.synthesize("I say tomato.", custom_dictionary={"tomato": "təˈmɑː.toʊ " * 6}).audio
    assert seconds_of(long) > 1.5 * seconds_of(plain)


def test_refusals_say_what_to_do(worker: Started) -> None:
    made = service(worker)
    with pytest.raises(grpc.RpcError, match="did you mean tone-220") as unknown:
        made.synthesize(TEXT, "tone-22")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError, match="no voice speaks 'ja-JP'"):
        list(made.synthesize_online(TEXT, language_code="ja-JP"))
    with pytest.raises(grpc.RpcError, match="SSML is not spoken"):
        made.synthesize(f"<speak>{TEXT}</speak>")


def test_a_key_is_sent_as_metadata(cache: Path) -> None:
    with started(cache, worker__api_keys=json.dumps([{"key": "the-right-key"}])) as worker:
        right = service(worker, metadata_args=[["authorization", "Bearer the-right-key"]])
        assert 1.5 < seconds_of(right.synthesize(TEXT).audio) < 4
        with pytest.raises(grpc.RpcError, match="API keys") as refused:
            service(worker).synthesize(TEXT)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_the_example_of_the_documents_speaks(
    worker: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (HERE.parent / "docs" / "riva.md").read_text(encoding="utf-8")
    example = re.findall(r"```python\n(import riva.*?)```", page, re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    exec(example.replace("127.0.0.1:50051", worker.grpc), {})
    assert 0.4 < heard((tmp_path / "speech.wav").read_bytes(), "wav").seconds < 2
