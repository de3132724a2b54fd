"""The peer of speech over HTTP: `python -m benchmarks.replay PORT FILE` sends recorded bytes.

FastAPI with a `StreamingResponse`, as their manuals show it, by the parts of uvicorn that the
worker uses. Nothing is looked up, spoken or encoded, and nobody is waited for: what is left is the
floor of an answer in so many pieces.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from benchmarks.listener import SPEECH

Recorded = Mapping[str, tuple[bytes, ...]]
"""The pieces of an answer, by its format."""


class Asked(BaseModel):
    """What of a request is looked at."""

    model: str
    voice: str
    input: str
    response_format: str


def create_app(recorded: Recorded) -> FastAPI:
    """Return the application."""
    app = FastAPI()

    @app.post(SPEECH)
    async def speak(asked: Asked) -> StreamingResponse:
        return StreamingResponse(_each(recorded[asked.response_format]), media_type="audio/pcm")

    return app


async def _each(pieces: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def main(port: str, file: str) -> None:
    """Serve until a signal comes."""
    recorded: Recorded = pickle.loads(Path(file).read_bytes())
    uvicorn.run(
        create_app(recorded),
        host="127.0.0.1",
        port=int(port),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
