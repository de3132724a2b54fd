"""Stock Piper, in the process that calls: `PiperVoice.load` and `.synthesize` as they come."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from benchmarks.rounds import Stopwatch

_kept: list[Any] = []


def arrive(path: Path, warmup: str, text: str) -> dict[str, float]:
    """Return the seconds of a load, of a load and a first utterance, and of load and sentence."""
    from piper import PiperVoice

    took = {}
    for name, said in (("load", ""), ("warmed", warmup), ("cold", text)):
        watch = Stopwatch()
        voice = PiperVoice.load(path)
        if said:
            next(iter(voice.synthesize(said)))
        took[name] = watch.read()
        del voice
        gc.collect()
    return took


def keep(path: Path) -> None:
    """Load a voice that stays, and have it speak."""
    from piper import PiperVoice

    _kept.append(PiperVoice.load(path))
    say("Ready.")


def drop() -> None:
    """Drop all voices that were kept."""
    _kept.clear()
    gc.collect()


def say(text: str) -> tuple[float, float]:
    """Speak with the voice kept last; return the seconds to the first chunk and to the last."""
    watch = Stopwatch()
    first = 0.0
    for _ in _kept[-1].synthesize(text):
        first = first or watch.read()
    return first, watch.read()
