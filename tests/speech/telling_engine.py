"""An engine that knows its words: each takes 0.1 s, and a quarter second of silence follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from greenroom.adapter import TTSAdapter
from greenroom.audio.frames import AudioChunk, WordTime

RATE = 16_000


class TellingAdapter(TTSAdapter):
    """A chunk for each word, told of all words with the first; then one of silence."""

    told: Any = None
    """What it tells in the place of that."""

    def load(self) -> None:
        self.sample_rate = RATE

    @property
    def has_word_times(self) -> bool:
        return True

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        words = text.split()
        times = tuple(WordTime(w, n / 10, n / 10 + 0.08) for n, w in enumerate(words))
        if self.told is not None:
            times = self.told
        assert options.get("word_times") in (None, True)
        asked = "word_times" in options
        for number in range(len(words)):
            samples = np.full(RATE // 10, 0.5, np.float32)
            yield AudioChunk(samples, RATE, () if number and asked else times if asked else None)
        yield AudioChunk(np.zeros(RATE // 4, np.float32), RATE, () if asked else None)

    def unload(self) -> None:
        pass
