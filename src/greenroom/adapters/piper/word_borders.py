"""Find which phonemes of a text each written word has.

Piper has espeak say a sentence as a whole. Words are separated by spaces in what comes back, but
"of the" is one word there, "1999" three, and "the" sounds otherwise before a vowel. So each written
word is put into phonemes once more, alone, and the two are compared. A border between two written
words is known where what is beside it is found again; words between two known borders stay
together as one span, which is coarse but true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate, pairwise

Phonemize = Callable[[str], Sequence[Sequence[str]]]
"""Returns the phonemes of a text, sentence by sentence."""

_WORD = re.compile(r"(?:\[\[.*?\]\]|\S)+")
"""A written word: up to the spaces around it. Phonemes in double brackets are one."""

_SIGNS = ".,;:!?…\"'`()“”„‘’«»—–-"
"""Signs at a word's ends that change nothing of how it is said."""

_PLAIN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_ALONE = "\n\n"
"""What is between words so that each is a sentence."""

PAUSES = frozenset('.,;:!?…—–"“”„«»()¡¿、，；：。！？،؛؟।')
"""What stands in phonemes for a pause; it is part of no word."""

STRESS = frozenset("ˈˌ")
"""Marks of the sound that follows."""

SHADES = frozenset("ːˑʲ'’-‿")
"""Marks of the sound before: length and linking. Like stress, they differ between a word alone and
the same in a sentence, and are not compared."""

_MOST_COMPARED = 250_000
"""Pairs of sounds that are compared; words that have more stay together."""

_ALIKE = 0.4
"""How much of what several words sound like alone must be found again for borders among them."""


@dataclass(frozen=True, slots=True)
class WordSpan:
    """Written words, mostly one, and the phonemes that they are said with."""

    text: str
    first: int
    last: int
    """Phonemes of the text, counted over its sentences in a row; both are the words' own."""


def word_spans(
    text: str, sentences: Sequence[Sequence[str]], phonemize: Phonemize
) -> list[WordSpan]:
    """Return the spans of `text`, in order, which is said with the phonemes of `sentences`.

    What is not said, such as a dash, is in none of them.
    """
    words = list(_WORD.finditer(text))
    spoken = _Sounds.of(sentences)
    if not words or not spoken.sounds:
        return []
    alone = list(_alone([word[0] for word in words], phonemize))
    return [
        WordSpan(
            text[words[group.first].start() : words[group.last].end()],
            spoken.firsts[group.begin],
            spoken.lasts[group.end - 1],
        )
        for group in _groups(alone, _borders(alone, spoken))
    ]


def whole_span(text: str, sentences: Sequence[Sequence[str]]) -> list[WordSpan]:
    """Return all of `text` as one span, from its first sound to its last."""
    spoken = _Sounds.of(sentences)
    words = text.strip()
    return [WordSpan(words, spoken.firsts[0], spoken.lasts[-1])] if words and spoken.sounds else []


@dataclass(frozen=True, slots=True)
class _Sounds:
    """What is heard of phonemes: those that are no pauses, spaces or marks of others."""

    sounds: tuple[str, ...]
    firsts: tuple[int, ...]
    lasts: tuple[int, ...]
    """Which phonemes each sound has, with its marks, counted over all sentences."""
    starts: tuple[int, ...]
    """Where words begin among the sounds."""

    @classmethod
    def of(cls, sentences: Sequence[Sequence[str]]) -> _Sounds:
        sounds: list[str] = []
        firsts: list[int] = []
        lasts: list[int] = []
        starts: list[int] = []
        place = 0
        for sentence in sentences:
            is_first, stress = True, None
            for phoneme in sentence:
                if phoneme.isspace() or phoneme in PAUSES:
                    is_first, stress = True, None
                elif phoneme in STRESS:
                    stress = place if stress is None else stress
                elif phoneme in SHADES:
                    if not is_first and stress is None:
                        lasts[-1] = place
                else:
                    if is_first:
                        starts.append(len(sounds))
                    sounds.append(phoneme)
                    firsts.append(place if stress is None else stress)
                    lasts.append(place)
                    is_first, stress = False, None
                place += 1
        return cls(tuple(sounds), tuple(firsts), tuple(lasts), tuple(starts))

    @property
    def words(self) -> list[tuple[str, ...]]:
        """The sounds of each word."""
        return [self.sounds[a:b] for a, b in pairwise((*self.starts, len(self.sounds)))]


def _alone(words: Sequence[str], phonemize: Phonemize) -> Iterator[_Sounds]:
    """Yield what each word sounds like alone; plain ones are put into phonemes all at once."""
    bare = [word.strip(_SIGNS) for word in words]
    plain = [number for number, word in enumerate(bare) if _PLAIN.fullmatch(word)]
    said = phonemize(_ALONE.join(bare[number] for number in plain)) if plain else ()
    known = dict(zip(plain, said, strict=True)) if len(said) == len(plain) else {}
    for number, word in enumerate(words):
        yield _Sounds.of([known[number]] if number in known else phonemize(word))


def _borders(alone: Sequence[_Sounds], spoken: _Sounds) -> list[int | None]:
    """Return for each written word, and for the end, at which sound it begins; `None` is unknown.

    1. What is found on either side, without anything between, is the border.
    2. What is between, such as a sound that links the two, is of the word that it is spoken in; a
       word of its own is the written one there that is nothing alone, such as a dash.
    3. What is found on one side is the border, if a spoken word ends there too, and what is on the
       other side stands against something.
    """
    ends = (0, *accumulate(len(word.sounds) for word in alone))
    found = _Found.of(alone, spoken)
    begins = {*spoken.starts, len(spoken.sounds)}
    borders: list[int | None] = [0]
    for number, at in enumerate(ends[1:-1], 1):
        left, right = found.end_of(at - 1), found.begin_of(at)
        border: int | None = None
        if left is not None and right is not None:
            if left == right:
                border = left  # 1
            elif (left in begins) != (right in begins):
                border = left if left in begins else right  # 2
            elif left in begins and at in (ends[number - 1], ends[number + 1]):
                border = right if at == ends[number - 1] else left  # 2
        elif left is not None and left in begins and found.may_end(at - 1, beside=at):
            border = left  # 3
        elif right is not None and right in begins and found.may_end(at, beside=at - 1):
            border = right  # 3
        borders.append(border)
    return [*borders, len(spoken.sounds)]


@dataclass(frozen=True, slots=True)
class _Found:
    """Where the sounds of the words alone are found in what is spoken."""

    places: list[int | None]
    is_single: list[bool]
    """Whether a sound was found with neither neighbour: that may be chance."""
    is_opposed: list[bool]
    """Whether a sound that was not found stands against others, which may be what it became."""
    end: int

    @classmethod
    def of(cls, alone: Sequence[_Sounds], spoken: _Sounds) -> _Found:
        words = [part for word in alone for part in word.words]
        sounds = tuple(sound for word in alone for sound in word.sounds)
        owners = [number for number, word in enumerate(alone) for _ in word.sounds]
        begins = (0, *accumulate(map(len, words)))
        starts = (*spoken.starts, len(spoken.sounds))
        count = len(sounds)
        found = cls([None] * count, [False] * count, [False] * count, len(spoken.sounds))
        before = place = 0
        matched = SequenceMatcher(None, words, spoken.words, autojunk=False)
        for block in matched.get_matching_blocks():
            begin, start = begins[block.a], starts[block.b]
            found._compare(
                sounds[before:begin],
                spoken.sounds[place:start],
                before,
                place,
                is_one_word=before < begin and owners[before] == owners[begin - 1],
            )
            before, place = begins[block.a + block.size], starts[block.b + block.size]
            found._note(begin, start, before - begin)
        return found

    def _compare(
        self,
        alone: Sequence[str],
        spoken: Sequence[str],
        before: int,
        place: int,
        *,
        is_one_word: bool,
    ) -> None:
        """Look for sounds, from `before` on, among those spoken from `place` on."""
        if not alone or not spoken or len(alone) * len(spoken) > _MOST_COMPARED:
            return
        matched = SequenceMatcher(None, alone, spoken, autojunk=False)
        if not is_one_word and matched.ratio() < _ALIKE:
            return
        self.is_opposed[before : before + len(alone)] = [True] * len(alone)
        for block in matched.get_matching_blocks():
            self._note(before + block.a, place + block.b, block.size)

    def _note(self, begin: int, place: int, size: int) -> None:
        for number in range(size):
            self.places[begin + number] = place + number
            self.is_single[begin + number] = size == 1

    def end_of(self, sound: int) -> int | None:
        """Return where the sound ends; before the first one that is the beginning."""
        if sound < 0:
            return 0
        place = self.places[sound]
        return None if place is None else place + 1

    def begin_of(self, sound: int) -> int | None:
        """Return where the sound begins; after the last one that is the end."""
        return self.places[sound] if sound < len(self.places) else self.end

    def may_end(self, sound: int, *, beside: int) -> bool:
        """Whether a word may end or begin at a sound, with what is `beside` it not found."""
        return not self.is_single[sound] and self.is_opposed[beside]


@dataclass(frozen=True, slots=True)
class _Group:
    """Written words that stay together, and the sounds that are theirs, up to before `end`."""

    first: int
    last: int
    begin: int
    end: int


def _groups(alone: Sequence[_Sounds], borders: Sequence[int | None]) -> Iterator[_Group]:
    """Yield groups of words between known borders; without those at its ends that are not said."""
    begin, first = 0, 0
    for number in range(1, len(borders)):
        end = borders[number]
        if end is None:
            continue
        is_said = end > begin
        if not is_said and any(word.sounds for word in alone[first:number]):
            continue  # something that sounds alone is not found: it stays with what follows
        if is_said:
            said = [n for n in range(first, number) if alone[n].sounds] or [first, number - 1]
            yield _Group(said[0], said[-1], begin, end)
        begin, first = end, number
