"""Tell when each written word is heard, from the samples that the voice gives each phoneme."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenroom.adapters.piper.heard_borders import HeardBorders
from greenroom.adapters.piper.word_borders import (
    PAUSES,
    SHADES,
    STRESS,
    Phonemize,
    WordSpan,
    whole_span,
    word_spans,
)
from greenroom.audio.frames import WordTime

_BEGIN, _PAD, _END = "^", "_", "$"
"""Piper's names for what is before, between and after phonemes."""

_FRICATIVES = frozenset("szʃʒfvθðxçɕʂ")
"""What goes on through the id after it; other sounds end half through. Measured on the energy of
122 words before a pause: the border is 1 ms late on average, `benchmarks/words.py`."""

_LONGEST_WAIT_S = 1.0
"""What takes longer, as several words may, is told when it begins, by its phonemes: before a pause
they tell the end of a stop to 0.11 s, of all else to 35 ms."""

_ESPEAK, _TEXT = "espeak", "text"
_DIACRITISED = "ar"
"""Arabic is given vowels by a model that hears whole sentences, so a word alone says little."""


class WordClock:
    """The words of one text, as its samples come.

    `run` announces the phonemes that are said next, `next` tells the words of each chunk. In the
    midst of speech a word's border is that of its phonemes, exact to one of the voice's frames; it
    ends with the id between its last phoneme and what follows, or amid it. Beside a pause, as at
    the beginning and the end, it is where the audio is heard, in the first phoneme or the last two
    and the pause: such a word is told with the chunk whose audio shows its end. All in samples at
    the voice's rate.
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
        self._phonemes = list(chain.from_iterable(sentences))
        self._edges: list[tuple[int, int]] = []
        """Where each phoneme that was announced begins and ends."""
        self._run_first = 0
        """The first phoneme of the present run."""
        self._audio = HeardBorders(config.sample_rate, 0, 0)
        """That of the present run."""
        self._at = 0
        """Samples of the chunks that were told."""
        self._before = -1
        """The last phoneme of the word that was told last."""
        self._end = 0
        """Where that ends."""
        self._start: int | None = None
        """Where the next word starts, as soon as that is known."""
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
            begin, end = int(ends[0]), int(ends[-1])
            self._audio = HeardBorders(self._config.sample_rate, begin, end)
            self._run_first = len(self._edges)
            if not self._is_exact:
                self._edges += [(begin, end)] * len(phonemes)
                return
            id_map = self._config.phoneme_id_map
            at = len(id_map[_BEGIN]) + len(id_map[_PAD])
            for phoneme in phonemes:
                own, pad = len(id_map.get(phoneme, ())), len(id_map[_PAD])
                last = at + own + pad if own else at
                middle = (
                    ends[last] if phoneme in _FRICATIVES else (ends[at + own] + ends[last]) // 2
                )
                self._edges.append((int(ends[at]), int(middle)))
                at = last

        return take_lengths

    def next(self, samples: NDArray[np.float32]) -> tuple[WordTime, ...]:
        """Return the words that are known and were not told yet, with a chunk of such samples.

        In seconds from the chunk's first sample on.
        """
        words = []
        rate = self._config.sample_rate
        self._audio.add(samples)
        while self._spans and (border := self._borders_of(self._spans[0])) is not None:
            span = self._spans.popleft()
            start, end = border
            self._before, self._end, self._start = span.last, end, None
            words.append(WordTime(span.text, (start - self._at) / rate, (end - self._at) / rate))
        self._at += samples.size
        return tuple(words)

    def _borders_of(self, span: WordSpan) -> tuple[int, int] | None:
        """Return where the next word starts and ends; `None` if that is not known yet."""
        if not self._is_exact:
            if span.last >= len(self._edges):
                return None
            return self._edges[span.first][0], self._edges[span.last][1]
        if self._start is None and span.first < len(self._edges):
            self._start = self._start_of(span)
        if self._start is None or span.last >= len(self._edges):
            return None
        end = self._end_of(span, self._start)
        return None if end is None else (self._start, max(self._start, end))

    def _start_of(self, span: WordSpan) -> int | None:
        start, audio = max(self._edges[span.first][0], self._end), self._audio
        if span.first < self._run_first:
            return start  # of a run that had no audio
        within = max(audio.begin, self._end), max(start, self._end_of_first_sound(span))
        if self._before < self._run_first:
            return audio.first(start, within)
        return audio.start(start, within) if self._has_pause(self._before, span.first) else start

    def _end_of(self, span: WordSpan, start: int) -> int | None:
        end, audio = max(self._edges[span.last][1], start), self._audio
        following = self._spans[1] if len(self._spans) > 1 else None
        if following is None or following.first >= len(self._edges):
            latest = audio.end
        elif self._has_pause(span.last, following.first):
            latest = self._end_of_first_sound(following)
        else:
            return end
        earliest = max(start, self._begin_of_last_sounds(span))
        heard = audio.stop(end, (earliest, latest))
        is_long = end - start > _LONGEST_WAIT_S * self._config.sample_rate
        return end if heard is None and is_long and start < audio.known_to else heard

    def _end_of_first_sound(self, span: WordSpan) -> int:
        places = range(span.first, span.last)
        after = next((at for at in places if self._phonemes[at] not in STRESS), span.last) + 1
        return self._edges[after][0] if after < len(self._edges) else self._audio.end

    def _begin_of_last_sounds(self, span: WordSpan) -> int:
        """Return where the last two begin; of "salt." the "l" is silent before the "t" begins."""
        places = range(span.last, max(span.first, self._run_first) - 1, -1)
        sounds = [at for at in places if self._phonemes[at] not in STRESS | SHADES][:2]
        return self._edges[sounds[-1] if sounds else span.last][0]

    def _has_pause(self, before: int, after: int) -> bool:
        return any(phoneme in PAUSES for phoneme in self._phonemes[before + 1 : after])


def _ids(config: Any, phonemes: Sequence[str]) -> list[int]:
    """Return the ids of a sentence as those of espeak are made: something between any two."""
    id_map: Mapping[str, Sequence[int]] = config.phoneme_id_map
    if not {_BEGIN, _PAD, _END} <= id_map.keys():
        return []
    inner = chain.from_iterable(
        (*id_map[phoneme], *id_map[_PAD]) for phoneme in phonemes if phoneme in id_map
    )
    return [*id_map[_BEGIN], *id_map[_PAD], *inner, *id_map[_END]]
