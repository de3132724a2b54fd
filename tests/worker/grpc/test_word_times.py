"""Word times over gRPC: in the frames, for calls and for sessions, when they are asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom import Catalog, ModelManager, ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.v1 import tts_pb2
from tests.speech.telling_engine import TellingAdapter
from tests.worker.worker_client import WorkerClient, running_worker

TEXT = "One two, three."


@pytest.fixture
async def served() -> AsyncIterator[WorkerClient]:
    """A worker with a voice that knows its words, and one that does not."""
    specs = [ModelSpec("telling", TellingAdapter), ModelSpec("tone-440", ToneTTSAdapter)]
    manager = ModelManager(catalog=Catalog(specs), default_model_id="telling")
    async with running_worker(manager) as worker:
        yield worker


@pytest.mark.parametrize("in_session", [False, True])
async def test_each_word_comes_with_the_frame_that_it_begins_in(
    served: WorkerClient, in_session: bool
) -> None:
    first: dict[str, Any] = {"model_id": "telling"}
    if in_session:
        start = tts_pb2.StartSessionRequest(session_id="s", model_id="telling")
        await served.stub.StartSession(start)
        first = {"session_id": "s"}
    frames = await served.speak(TEXT, word_times=True, **first)
    assert all(frame.HasField("word_times") for frame in frames)
    words = [(frame.sequence_number, w) for frame in frames for w in frame.word_times.words]
    assert [word.text for _, word in words] == ["One", "two,", "three."]
    assert [number for number, _ in words] == [1, 6, 11]
    assert [word.start_s for _, word in words] == pytest.approx([0.0, 0.1, 0.2])
    assert [word.end_s for _, word in words] == pytest.approx([0.08, 0.18, 0.28])
    unasked = await served.speak(TEXT, **first)
    assert not any(frame.HasField("word_times") for frame in unasked)
    assert [frame.audio_data for frame in unasked] == [frame.audio_data for frame in frames]


async def test_a_voice_that_does_not_know_leaves_them_absent(served: WorkerClient) -> None:
    frames = await served.speak(TEXT, model_id="tone-440", word_times=True)
    assert frames
    assert not any(frame.HasField("word_times") for frame in frames)
