"""A voice in memory: how soon it speaks, and how long a paragraph takes.

Stock Piper makes sentences at 22 kHz; ours are frames of 20 ms at 48 kHz, through the manager.
Both work in a process of their own, in turn.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import ours, theirs
from benchmarks.apart import Apart
from benchmarks.figures import Effort, Figure
from benchmarks.rounds import interleaved
from benchmarks.voice_files import prepared_files
from benchmarks.voices import LONG_SENTENCE, PARAGRAPH, SENTENCE

_REPEATS = 3
"""Sentences right after one another, of which the last one counts."""


def measure(effort: Effort) -> list[Figure]:
    """Return first audio and whole paragraph against stock Piper."""
    (voice,) = prepared_files(1)
    sentence, paragraph = LONG_SENTENCE, PARAGRAPH
    if effort.short:
        sentence = paragraph = SENTENCE
    with Apart() as stock, Apart() as greenroom:
        stock(theirs.keep, voice)
        greenroom(ours.begin, [voice])
        greenroom(ours.keep, voice)
        cases = {
            "theirs": functools.partial(
                asyncio.to_thread, stock, _theirs, sentence, paragraph, effort.quiet_s
            ),
            "ours": functools.partial(
                asyncio.to_thread, greenroom, _ours, voice, sentence, paragraph, effort.quiet_s
            ),
        }
        asyncio.run(interleaved(1, cases))
        took = asyncio.run(interleaved(effort.rounds, cases))
        greenroom(ours.end)

    def row(name: str, step: str, at_most: float) -> Figure:
        mine, other = (tuple(each[step] for each in took[who]) for who in ("ours", "theirs"))
        return Figure(name, mine, "s", "synthesize", other, at_most, "ratio")

    return [
        row(f"first audio of {len(sentence)} characters", "first", 0.50),
        row(f"… after {effort.quiet_s:g} s of silence", "rested", 0.50),
        row(f"the whole of {len(paragraph)} characters", "whole", 1.0),
    ]


def _theirs(sentence: str, paragraph: str, quiet_s: float) -> dict[str, float]:
    time.sleep(quiet_s)
    return _spoken(theirs.say, sentence, paragraph)


def _ours(voice: Path, sentence: str, paragraph: str, quiet_s: float) -> dict[str, float]:
    took = _spoken(functools.partial(ours.say, voice), sentence, paragraph)
    time.sleep(quiet_s)
    return took


def _spoken(
    say: Callable[[str], tuple[float, float]], sentence: str, paragraph: str
) -> dict[str, float]:
    rested, _ = say(sentence)
    first = [say(sentence)[0] for _ in range(_REPEATS)][-1]
    return {"rested": rested, "first": first, "whole": say(paragraph)[1]}
