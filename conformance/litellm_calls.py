"""Calls of LiteLLM's SDK, run in its own environment: prints JSON.

Arguments: the worker's address, a text, the code of the recipe.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import litellm
import openai

URL, TEXT, RECIPE = sys.argv[1:]
ASKED: dict[str, Any] = {"api_base": f"{URL}/v1", "api_key": "any", "num_retries": 0}


def refusal(**asked: Any) -> dict[str, Any] | None:
    try:
        litellm.speech(**{"model": "openai/tts-1", "voice": "alloy", "input": TEXT, **asked})
    except openai.BadRequestError as error:  # LiteLLM's own errors are these too
        return {"status": error.status_code, "message": str(error)}
    return None


def formats() -> None:
    for name in ("mp3", "opus", "aac", "flac", "wav", "pcm"):
        answer = litellm.speech(
            model="openai/gpt-4o-mini-tts",
            voice="coral",
            input=TEXT,
            response_format=name,
            speed=1.25,
            **ASKED,
        )
        Path(f"speech.{name}").write_bytes(answer.content)


async def awaited() -> None:
    answer = await litellm.aspeech(model="openai/tts-1", voice="alloy", input=TEXT, **ASKED)
    Path("awaited.mp3").write_bytes(answer.content)


formats()
asyncio.run(awaited())
exec(RECIPE, {})
print(json.dumps({"refusal": refusal(voice="tone-22", **ASKED)}))
