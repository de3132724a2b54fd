"""Tell when each written word is heard, from the samples that the voice gives each phoneme."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenroom.adapters.piper.word_borders import Phonemize, WordSpan, whole_span, word_spans
from greenroom.audio.frames import WordTime

_BEGIN, _PAD, _END = "^", "_", "$"
"""Piper's names for what is before, between and after phonemes."""

_FRICATIVES = frozenset("szʃʒfvθðxçɕʂ")
"""What goes on through the id after it; other sounds end half through. Measured on the energy of
122 words before a pause: the border is 1 ms late on average, `benchmarks/word_times.py`."""

_ESPEAK, _TEXT = "espeak", "text"
_DIACRITISED = "ar"
"""Arabic is given vowels by a model that hears whole sentences, so a word alone says little."""


class WordClock:
    """The words of one text, as its samples come.

    `run` announces the phonemes that are said next, `next` tells the words of each chunk. All in
    samples at the voice's rate, exact to one of its frames. A word ends with the id between its
    last phoneme and what follows, or amid it.
    """

    def __init__(
        self,
        text: str,
        sentences: Sequence[Sequence[str]],
        config: Any,
        phonemize: Phonemize,
        to_ids: Callable[[list[str]], list[int]],
    ) -> None:
        """`config` is Piper's own of the voice; `to_ids` returns the ids of phonemes."""
        self._config = config
        self._edges: list[tuple[int, int]] = []
        """Where each phoneme that was announced begins and ends."""
        self._at = 0
        """Samples of the chunks that were told."""
        self._is_exact = all(
            _ids(config, sentence) == to_ids(list(sentence)) for sentence in sentences
        )
        kind = str(config.phoneme_type.value)
        has_words = kind == _TEXT or (kind == _ESPEAK and config.espeak_voice != _DIACRITISED)
        self._spans: deque[WordSpan] = deque(
            word_spans(text, sentences, phonemize)
            if self._is_exact and has_words
            else whole_span(text, sentences)
        )

    def run(self, phonemes: Sequence[str]) -> Callable[[NDArray[np.int64]], None]:
        """Return what takes the samples of each id of `phonemes`, which are said next."""

        def take_lengths(lengths: NDArray[np.int64]) -> None:
            ends = self._at + np.concatenate(([0], np.cumsum(lengths)))
            if not self._is_exact:
                self._edges += [(int(ends[0]), int(ends[-1]))] * len(phonemes)
                return
            id_map = self._config.phoneme_id_map
            at = len(id_map[_BEGIN]) + len(id_map[_PAD])
            for phoneme in phonemes:
                own, pad = len(id_map.get(phoneme, ())), len(id_map[_PAD])
                last = at + own + pad if own else at
                end = ends[last] if phoneme in _FRICATIVES else (ends[at + own] + ends[last]) // 2
                self._edges.append((int(ends[at]), int(end)))
                at = last

        return take_lengths

    def next(self, samples: int) -> tuple[WordTime, ...]:
        """Return the words that are known and were not told yet, for a chunk of so many samples."""
        words = []
        rate = self._config.sample_rate
        while self._spans and self._spans[0].last < len(self._edges):
            span = self._spans.popleft()
            start, end = self._edges[span.first][0], self._edges[span.last][1]
            words.append(WordTime(span.text, (start - self._at) / rate, (end - self._at) / rate))
        self._at += samples
        return tuple(words)


def _ids(config: Any, phonemes: Sequence[str]) -> list[int]:
    """Return the ids of a sentence as those of espeak are made: something between any two."""
    id_map: Mapping[str, Sequence[int]] = config.phoneme_id_map
    if not {_BEGIN, _PAD, _END} <= id_map.keys():
        return []
    inner = chain.from_iterable(
        (*id_map[phoneme], *id_map[_PAD]) for phoneme in phonemes if phoneme in id_map
    )
    return [*id_map[_BEGIN], *id_map[_PAD], *inner, *id_map[_END]]
