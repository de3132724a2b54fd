"""What speaks in the benchmarks: the real voice under several names, and stock Piper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from greenroom import Catalog, ModelSpec
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.config.schema import DEFAULT_MODEL_ID

SENTENCE = "The green room is where a voice waits until it is called."

LONG_SENTENCE = (
    "The green room is where a voice waits until it is called, and where nobody waits for long."
)

PARAGRAPH = (
    "The green room is where a voice waits until it is called. "
    "It has read its lines, it has cleared its throat, and nobody has to wait for it. "
    "When the play goes on without it for long enough, it may go home. "
    "Whoever needs the room next finds it swept, and the lights are out in the meantime."
)


def piper_voices(count: int, **options: Any) -> list[ModelSpec]:
    """Return `count` models of the same real voice file, `voice-0` and so on."""
    voice = Catalog.discover(adapters=[PiperTTSAdapter]).get(DEFAULT_MODEL_ID)
    merged = {**voice.options, **options}
    return [
        replace(voice, model_id=f"voice-{number}", aliases=(), options=merged)
        for number in range(count)
    ]


def stock_piper() -> Any:
    """Load the same file with `piper-tts` as it comes."""
    from piper import PiperVoice

    (voice,) = piper_voices(1)
    return PiperVoice.load(str(voice.path))
