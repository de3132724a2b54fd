"""How words are said: maps from words to another spelling of them, or to phonemes.

A word is found where it stands by itself, with whatever it is written of: `C++`, `New York`,
`東京`. One in small letters is found in any case, one with a capital only as it is written. The
longest that begins first is replaced, and what replaced it is not looked at again: no map can make
a text grow without end, and all of it takes one walk over the text, however many words there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from greenroom.errors import InvalidInputError

MAX_WORDS = 5_000
"""Words of one map: some 25 ms of a processor to build."""

_LONGEST_WORD = 100
_LONGEST_SPELLING = 300
"""Characters."""

MAX_GROWTH = 4
"""A text may become this many times as long as a text may be: `www` is said in ten letters."""

_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
"""Scripts that write words without spaces between: Thai, Lao, Burmese, Khmer, Kana, Han."""

_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    "\u0900-\u0963\u0966-\u0dff\u1ab0-\u1aff\u1dc0-\u1dff\u200c\u200d\u20d0-\u20ff\ufe00-\ufe0f"
)
"""Accents and vowel signs that belong to the letter before them, and whole scripts that have such
(of India, without their full stops)."""

_TOKEN = re.compile(
    rf"\[\[[^\[\]]*\]\]|[{_SPACELESS}]|(?:[^\W{_SPACELESS}]|[{_MARKS}])+|\s+|.", re.DOTALL
)
"""Phonemes, which are said as they are; a letter of a script without spaces; a word; spaces; else
one character."""

PHONEMES = "[["
"""What phonemes begin with; `]]` ends them."""

_END = ""
"""Where a word ends in a tree of tokens; no token is empty."""

_Tree = dict[str, Any]


class Pronunciation:
    """One map of words, ready to be used. Equal to another with the same words."""

    def __init__(self, words: Mapping[str, str], *, limit: int = MAX_WORDS) -> None:
        """Raises `InvalidInputError` for more words than `limit`, and for one that is none."""
        if len(words) > limit:
            raise InvalidInputError(f"there are {len(words)} pronunciations; {limit} are allowed.")
        self.words: Mapping[str, str] = dict(words)
        """Each word with what is said for it."""
        self._trees: tuple[tuple[_Tree, bool], ...] = (({}, False), ({}, True))
        """Each with whether it is for any case; what is in an earlier one goes before."""
        for word, said in words.items():
            self._add(word, said)

    def over(self, other: Pronunciation) -> Pronunciation:
        """Return both maps as one: words that both have are said as in this one."""
        if not self.words or not other.words:
            return self if self.words else other
        both = Pronunciation({})
        both.words = {**other.words, **self.words}
        both._trees = (*self._trees, *other._trees)
        return both

    def _add(self, word: str, said: str) -> None:
        tokens = _TOKEN.findall(word.strip()) if len(word) <= _LONGEST_WORD else []
        if not tokens or not _is_plain(word):
            raise InvalidInputError(
                f"pronunciations: {word[:40]!r} is no word of 1 to {_LONGEST_WORD} characters."
            )
        if not said.strip() or len(said) > _LONGEST_SPELLING or not _is_plain(said):
            raise InvalidInputError(
                f"pronunciations: {word[:40]!r} needs something to say, of 1 to "
                f"{_LONGEST_SPELLING} characters, not {said[:40]!r}."
            )
        small = word == word.lower()
        node, _ = self._trees[small]
        for token in tokens:
            node = node.setdefault(_folded(token) if small else _spaced(token), {})
        node[_END] = said

    def say(self, text: str) -> str:
        """Return `text` with each of its words that is in the map replaced."""
        if not self.words:
            return text
        tokens = _TOKEN.findall(text)
        forms = list(map(_spaced, tokens)), list(map(_folded, tokens))
        parts, at = [], 0
        while at < len(tokens):
            end, said = at + 1, tokens[at]
            longest = at
            for tree, any_case in self._trees:
                found = _longest(tree, forms[any_case], at)
                if found is not None and found[0] > longest:
                    end, said = found
                    longest = end
            parts.append(said)
            at = end
        return "".join(parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pronunciation) and self.words == other.words

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Pronunciation of {len(self.words)} words>"


AS_SPELLED = Pronunciation({})
"""Nothing is replaced."""


def _longest(tree: _Tree, tokens: list[str], at: int) -> tuple[int, str] | None:
    """Return where the longest word that begins at a token ends, and what is said for it."""
    found, node = None, tree
    while at < len(tokens):
        node = node.get(tokens[at], {})
        if not node:
            break
        at += 1
        if _END in node:
            found = at, node[_END]
    return found


def _spaced(token: str) -> str:
    """Return a token as it is compared: any spaces are one, any apostrophe is straight."""
    return " " if token.isspace() else "'" if token == "’" else token


def _folded(token: str) -> str:
    return _spaced(token).lower()


def _is_plain(text: str) -> bool:
    return all(char.isprintable() or char in "\u200c\u200d\u00ad" for char in text)


class Pronunciations:
    """The maps of a configuration, by language; `all` is for every voice."""

    def __init__(self, maps: Mapping[str, Mapping[str, str]]) -> None:
        """`maps` are checked already: of at most `MAX_WORDS` words each."""
        self._maps = {_tag(language): words for language, words in maps.items()}
        self._made: dict[tuple[tuple[str, ...], bool], Pronunciation] = {}

    def of(self, languages: tuple[str, ...], *, phonemes: bool) -> Pronunciation:
        """Return what counts for a voice of some `languages`, the most special map first.

        `phonemes` says whether its engine reads them: where it does not, words with phonemes are
        said as they are spelled.
        """
        if not self._maps:
            return AS_SPELLED
        key = languages, phonemes
        if key not in self._made:
            self._made[key] = self._merged(languages, phonemes=phonemes)
        return self._made[key]

    def _merged(self, languages: tuple[str, ...], *, phonemes: bool) -> Pronunciation:
        words: dict[str, str] = {}
        for tag in ["all", *(tag for each in reversed(languages) for tag in _widening(each))]:
            words.update(self._maps.get(tag, {}))
        kept = {w: said for w, said in words.items() if phonemes or PHONEMES not in said}
        return Pronunciation(kept, limit=len(kept))


def _tag(language: str) -> str:
    return language.lower().replace("_", "-")


def _widening(language: str) -> list[str]:
    """Return the tags that a language is meant by, the widest first: `en`, `en-us`."""
    parts = _tag(language).split("-")
    return ["-".join(parts[:count]) for count in range(1, len(parts) + 1)]
