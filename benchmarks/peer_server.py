"""A voice behind FastAPI, as a self-hoster writes it: `benchmarks.peer_server PORT VOICE`.

One process with uvicorn, one voice in memory, and a generator in a thread of Starlette's pool: what
the engine yields is sent at once, as pcm. `ENGINES` says how each engine is used: as its own manual
has it, with its own defaults.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from benchmarks.listener import SPEECH
from greenroom.concurrency.cores import cores


class Asked(BaseModel):
    """What of a request is looked at."""

    input: str


@dataclass(frozen=True, slots=True)
class Engine:
    """A voice in memory."""

    sample_rate: int
    """Hz."""
    speak: Callable[[str], Iterator[bytes]]
    """Yields 16-bit mono as it is made; may be called by several threads."""


def piper_tts(path: str, threads: int | None) -> Engine:
    """Load a voice with `piper-tts`: a chunk for each sentence."""
    from piper import PiperVoice

    voice = PiperVoice.load(path)
    if threads is not None:
        voice.session = _session(path, threads)

    def speak(text: str) -> Iterator[bytes]:
        for chunk in voice.synthesize(text):
            yield chunk.audio_int16_bytes

    return Engine(voice.config.sample_rate, speak)


def streaming_vits(path: str, threads: int | None) -> Engine:
    """Load a voice with `streaming-vits`: a sentence comes in chunks that grow.

    How large they are is calibrated for this machine, which its manual asks for once a device. How
    much the decoder has to see around a chunk depends on the voice alone; these margins are what
    its calibration finds for the benchmarks' voice, in a minute and a half.
    """
    from streaming_vits import StreamingTTS
    from streaming_vits.calibrate import calibrate

    tts = StreamingTTS(path, threads=threads or cores(), verbose=False)
    tts.profile.left, tts.profile.right = 34, 28
    tts.profile = calibrate(tts, skip_margins=True, verbose=False)

    def speak(text: str) -> Iterator[bytes]:
        for chunk in tts.stream(text):
            yield (np.clip(chunk.audio, -1.0, 1.0) * 32_767).astype("<i2").tobytes()

    return Engine(tts.sample_rate, speak)


ENGINES: dict[str, Callable[[str, int | None], Engine]] = {
    "piper-tts": piper_tts,
    "streaming-vits": streaming_vits,
}
"""How a voice file is loaded, with so many threads inside a run; `None` is the default."""


def create_app(engine: Engine) -> FastAPI:
    """Return the application."""
    app = FastAPI()

    @app.post(SPEECH)
    def speak(asked: Asked) -> StreamingResponse:
        return StreamingResponse(
            engine.speak(asked.input),
            media_type="audio/pcm",
            headers={"x-sample-rate": str(engine.sample_rate)},
        )

    return app


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peer_server")
    parser.add_argument("port", type=int)
    parser.add_argument("voice", help="the path of a voice's .onnx file")
    parser.add_argument("--engine", choices=ENGINES, default="piper-tts")
    parser.add_argument("--threads", type=int, help="inside a run of the network")
    chosen = parser.parse_args()
    app = create_app(ENGINES[chosen.engine](chosen.voice, chosen.threads))
    uvicorn.run(app, host="127.0.0.1", port=chosen.port, log_config=None, access_log=False)


def _session(path: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
