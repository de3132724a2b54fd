"""A request is checked once, whichever way it comes in: its text, its rate and its options."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from greenroom import AudioChunk, Catalog, ModelManager, ModelSpec, TTSAdapter
from greenroom.audio import framing
from greenroom.cli import main
from greenroom.speech import text as texts
from greenroom.v1 import tts_pb2
from tests.worker.http.http_client import running_http_worker
from tests.worker.worker_client import running_worker

PIECES = ("One. ", "Two, and ", "three.")
WHOLE = "".join(PIECES)
RATE = 24_000


class Checking(TTSAdapter):
    """Counts how often options are checked."""

    sample_rate = RATE
    checks: ClassVar[list[Mapping[str, Any]]] = []

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        cls.checks.append(dict(options))

    def load(self) -> None: ...
    def unload(self) -> None: ...
    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        yield AudioChunk(np.full(480, 0.5, np.float32), RATE)


@pytest.fixture
def manager() -> ModelManager:
    return ModelManager(catalog=Catalog([ModelSpec("a", Checking)]), default_model_id="a")


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each piece of text was looked at, and each rate."""
    seen: Counter[str] = Counter()
    check_text, sample_rate = texts.check_text, framing.SampleRate

    def counted(text: str, *, limit: int = texts.MAX_TEXT_CHARS) -> str:
        seen[text] += 1
        return check_text(text, limit=limit)

    class Rate(sample_rate):  # type: ignore[misc, valid-type]
        """Made at each check, and at nothing else."""

        def __new__(cls, value: int) -> Any:
            seen[f"{value} Hz"] += 1
            return super().__new__(cls, value)

    monkeypatch.setattr(texts, "check_text", counted)
    monkeypatch.setattr(framing, "SampleRate", Rate)
    return seen


def forget(checked: Counter[str]) -> None:
    """Count from here on: a load speaks a warmup, and checks the model's own options."""
    checked.clear()
    Checking.checks.clear()


async def pieces() -> AsyncIterator[str]:
    for piece in PIECES:
        yield piece


@pytest.mark.parametrize("whole", [True, False])
async def test_by_the_library(manager: ModelManager, checked: Counter[str], whole: bool) -> None:
    async with manager, manager.lease("a") as lease:
        forget(checked)
        text = WHOLE if whole else pieces()
        stream = lease.synthesize_stream(text, sample_rate=RATE, mood="calm")
        assert [frame.sample_rate async for frame in stream]
    assert checked == Counter([*([WHOLE] if whole else PIECES), f"{RATE} Hz"])
    assert Checking.checks == [{"mood": "calm"}]


@pytest.mark.parametrize("in_session", [True, False])
@pytest.mark.parametrize("whole", [True, False])
async def test_over_grpc(
    manager: ModelManager, checked: Counter[str], whole: bool, in_session: bool
) -> None:
    async with running_worker(manager) as served:
        forget(checked)
        voice: dict[str, Any] = {"model_id": "a", "sample_rate": RATE, "options": {"mood": "calm"}}
        first: dict[str, Any] = {"session_id": "s"} if in_session else voice
        if in_session:
            await served.start("s", **voice)
            # The load's own rate and options were checked before; a session's at its start.
            assert (checked.pop(f"{RATE} Hz"), Checking.checks) == (1, [{"mood": "calm"}])
            forget(checked)
        if whole:
            assert await served.speak(WHOLE, **first)
        else:
            chunks = [tts_pb2.TextChunk(text=piece) for piece in PIECES[1:]]
            head = tts_pb2.TextChunk(text=PIECES[0], **first)
            assert [frame async for frame in served.pieces(head, *chunks)]
    expected = Counter([WHOLE] if whole else PIECES)
    assert checked == (expected if in_session else expected + Counter([f"{RATE} Hz"]))
    assert Checking.checks == ([] if in_session else [{"mood": "calm"}])


@pytest.mark.parametrize(
    ("path", "body", "options"),
    [
        ("/v1/audio/speech", {"model": "a", "voice": "a", "input": WHOLE}, {}),
        ("/synthesize", {"voice": "a", "text": WHOLE, "speaker": "joe"}, {"speaker": "joe"}),
    ],
)
async def test_over_http(
    manager: ModelManager,
    checked: Counter[str],
    path: str,
    body: dict[str, Any],
    options: dict[str, Any],
) -> None:
    async with running_http_worker(manager) as web:
        forget(checked)
        assert (await web.post(path, body)).status_code == 200
    assert checked == Counter([WHOLE, f"{RATE} Hz"])
    assert Checking.checks == [options]


def test_by_the_command_line(
    checked: Counter[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    catalog = Catalog([ModelSpec("a", Checking)])
    monkeypatch.setattr(Catalog, "from_config", lambda _, **__: catalog)
    forget(checked)
    asked = ["-m", "a", "--rate", str(RATE), "--option", "mood=calm"]
    default = ["--set", "model_manager.default_model_id=a"]
    assert main(["say", WHOLE, "-o", str(tmp_path / "a.wav"), *asked, *default]) == 0
    assert checked == Counter([WHOLE, f"{RATE} Hz"])
    assert Checking.checks == [{"mood": "calm"}, {}]  # a load checks the model's own options
