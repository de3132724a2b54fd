"""When words are heard, against the energy of the audio, and what it costs to say so.

Fifty sentences in the voice's own noise, so that no two rounds are alike. Looked at are words next
to a pause, as only there the audio itself shows where a word begins or ends: the distance to the
sound's begin or end, at 40 dB below what is loud, by another measure than the voice's own. A word
that ends in a stop ("t", "k", "p") has a silence of its own before the pause, of which its phonemes
tell no length, so those are figures apart.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import median, quantiles
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Effort, Figure
from benchmarks.voices import piper_voices
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.audio.frames import WordTime

SENTENCES = """Hello there, my friend.
The quick brown fox jumps over the lazy dog.
In 1999, there were 42 of them; none was left.
Stop, please!
Yes, no, maybe, perhaps.
She asked, quietly, whether the train had left.
It cost three dollars, or four.
Open the door; then, sit down.
When the rain came, we ran home.
After dinner, they played cards until midnight.
My name is Joe, and I live in Boston.
First, boil the water; second, add the salt.
He was tired, hungry, and a little sad.
Well, that was easy.
If you want to go, go now.
The meeting is at ten, not eleven.
Apples, pears, plums and cherries were on the table.
To be honest, I have no idea.
Please call me tomorrow, or write me a letter.
The doctor, who was new in town, smiled.
London, Paris, and Rome are lovely cities.
On Monday, the shop opens at nine.
Thank you very much, see you soon.
Without a word, she closed the book.
It was late, so we took a taxi.
Is it raining, or is it snowing?
The answer, of course, was yes.
Look, a shooting star!
For example, the number seven is prime.
One, two, three, four, five.
The old man sat by the fire, thinking of the sea.
I came, I saw, I conquered.
However, nobody knew the reason.
Good morning, everyone, and welcome.
The more you know, the less you fear.
Turn left, drive two miles, then turn right.
As far as I can see, all is well.
Dear Sir, I am writing about the room.
Nobody moved, nobody spoke.
The report, in short, is wrong.
We need milk, bread, and a dozen eggs.
Tonight, the sky is clear.
No, I do not think so.
The house on the hill, the old one, is empty.
Come in, take a seat, and tell me everything.
Suddenly, the lights went out.
In the end, they were both right.
Sorry, what did you say?
Slowly, very slowly, the door opened.
Good night, sleep well.""".splitlines()

_SHOULD_S = 0.03
_PAUSE_S = 0.1
_STOP = re.compile(r"([tkp]|[tkp]e)\W*$")

Samples = NDArray[np.float32]
Interval = tuple[float, float]


def measure(effort: Effort) -> list[Figure]:
    """Return the distances of borders to the sound, and the processor time of finding them."""
    adapter = PiperTTSAdapter(piper_voices(1)[0])
    adapter.load()
    try:
        if not adapter.has_word_times:
            return [Figure("voices that know their words", (0.0,), "", at_most=None)]
        rounds = [_distances(adapter, effort) for _ in range(min(effort.rounds, 3))]
        return [*_figures(rounds), _cost(adapter, effort)]
    finally:
        adapter.unload()


def heard(
    adapter: PiperTTSAdapter, text: str, options: Mapping[str, Any]
) -> tuple[list[WordTime], Samples]:
    """Return the words of `text`, in seconds from its first sample, and the samples."""
    words, samples, at = [], [], 0
    for chunk in adapter.synthesize(text, {**options, "word_times": True}):
        assert chunk.words is not None
        begin = at / chunk.sample_rate
        times = (
            (w.text, round(begin + w.start_s, 6), round(begin + w.end_s, 6)) for w in chunk.words
        )
        words += [WordTime(*each) for each in times]
        samples.append(chunk.samples)
        at += chunk.samples.size
    return words, np.concatenate(samples)


def sounding(samples: Samples, rate: int) -> list[Interval]:
    """Return from when to when it sounds, in seconds.

    That is where it is within 40 dB of its loud parts, in windows of 5 ms; silences of less than
    80 ms belong to speech.
    """
    window, step = round(0.005 * rate), rate // 1_000
    summed = np.cumsum(np.concatenate([[0.0], samples.astype(float) ** 2]))
    level = np.sqrt((summed[window:] - summed[:-window])[::step] / window)
    at = (np.flatnonzero(level > np.percentile(level, 95) * 0.01) * step + window / 2) / rate
    gaps = np.flatnonzero(np.diff(at) > 0.08)
    return list(zip(at[[0, *(gaps + 1)]].tolist(), at[[*gaps, -1]].tolist(), strict=True))


def pause_between(sounds: list[Interval], word: WordTime, following: WordTime) -> Interval | None:
    """Return the silence between two words, if there is one."""
    middle = (word.end_s + following.start_s) / 2
    for (_, end), (begin, _) in pairwise(sounds):
        if end < middle < begin and begin - end >= _PAUSE_S:
            return end, begin
    return None


def _distances(adapter: PiperTTSAdapter, effort: Effort) -> dict[str, list[float]]:
    """Return how far borders beside pauses are from the sound's, in seconds, by their kind."""
    found: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for text in SENTENCES[: effort.count(len(SENTENCES), least=2)]:
        words, samples = heard(adapter, text, {})
        sounds = sounding(samples, adapter.sample_rate)
        found["start"].append(abs(words[0].start_s - sounds[0][0]))
        _add_end(found, words[-1], sounds[-1][1], "last")
        for word, following in pairwise(words):
            pause = pause_between(sounds, word, following)
            if pause is not None and word.text[-1] in ",;":
                _add_end(found, word, pause[0], "end")
                found["start"].append(abs(following.start_s - pause[1]))
    return found


_KINDS = {
    "start": "a word begins after a pause",
    "end": "a word ends before a pause",
    "last": "the last word ends",
    "stop": "a word ends in a stop",
}


def _add_end(found: dict[str, list[float]], word: WordTime, end: float, kind: str) -> None:
    found["stop" if _STOP.search(word.text) else kind].append(abs(word.end_s - end))


def _figures(rounds: list[dict[str, list[float]]]) -> list[Figure]:
    def row(kind: str, name: str, value: Callable[[list[float]], float], unit: Any) -> Figure:
        values = tuple(value(each[kind]) for each in rounds if each[kind])
        counts = ", ".join(f"{len(each[kind])}" for each in rounds)
        return Figure(f"{_KINDS[kind]}: {name}", values, unit, note=f"of {counts} borders")

    def late(distances: list[float]) -> float:
        return float(sum(distance > _SHOULD_S for distance in distances))

    def p95(distances: list[float]) -> float:
        return quantiles(distances, n=20, method="inclusive")[-1] if distances[1:] else distances[0]

    return [
        each
        for kind in _KINDS
        if any(found[kind] for found in rounds)
        for each in (
            row(kind, "distance to the sound, median", median, "s"),
            row(kind, "p95", p95, "s"),
            row(kind, "more than 30 ms", late, ""),
        )
    ]


def _cost(adapter: PiperTTSAdapter, effort: Effort) -> Figure:
    """Return the processor time until the first chunk of a sentence, with words and without."""
    took: dict[bool, list[float]] = {True: [], False: []}
    for text in SENTENCES[: effort.count(20, least=1)]:
        for wanted in (False, True):
            options = {"word_times": True} if wanted else {}
            began = time.thread_time()
            spoken = iter(adapter.synthesize(text, options))
            next(spoken)
            took[wanted].append(time.thread_time() - began)
            for _ in spoken:
                pass
    name = "processor time of a sentence's first chunk, with words"
    return Figure(name, tuple(took[True]), "s", "without", tuple(took[False]))
