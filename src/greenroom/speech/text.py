"""From text to sentences: what may be spoken, sentence by sentence as it comes."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterable, AsyncIterator
from typing import Literal

from greenroom.errors import InvalidInputError
from greenroom.speech.pronunciation import AS_SPELLED, MAX_GROWTH, Pronunciation
from greenroom.speech.sentence_borders import LONGEST_SENTENCE, SentenceBorders, is_blank

TextForm = Literal["plain", "markdown"]
"""Whether a text is said as written, or what Markdown shows of it."""

MAX_TEXT_CHARS = 20_000
"""Longest text of one stream in characters: about twenty minutes of speech."""

_PIECE = 256
"""Characters in which borders are looked for at once: what is held is bounded after each."""

_SAID_MARKS = frozenset("#%&*@/\\§")
"""Punctuation, as Unicode has it, that is read aloud by its name."""

_EMOJI = (
    range(0x2300, 0x2400),
    range(0x2600, 0x27C0),
    range(0x2B00, 0x2C00),
    range(0x1F000, 0x20000),
)
"""The blocks of Unicode that emoji are in."""

_PAUSE = "."
"""For Markdown that shows nothing, such as a line across: a sentence without anything to say."""

_UNSPEAKABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")


def check_text(text: str, *, limit: int = MAX_TEXT_CHARS) -> str:
    """Return `text` if it can be spoken.

    Raises `InvalidInputError` for text that is not a string, is longer than `limit` characters,
    or has control characters or lone surrogates in it.
    """
    if not isinstance(text, str):
        raise InvalidInputError(
            f"text must be a string, or come from an async iterable, not be {type(text).__name__}."
        )
    if len(text) > limit:
        raise InvalidInputError(
            f"text has {len(text)} characters, {limit} are allowed; send it in parts."
        )
    found = _UNSPEAKABLE.search(text)
    if found:
        raise InvalidInputError(
            f"text has the control character U+{ord(found[0]):04X} at position {found.start()}; "
            "remove it."
        )
    return text


class CheckedText(AsyncIterator[str]):
    """The text of one stream, checked: all at once where it is whole, else each piece as it comes.

    A stream takes no other text, so none is spoken unchecked and none is checked twice. Iterate
    once: over the pieces of a whole text, which is one piece, or of a source.
    """

    def __init__(
        self,
        text: str | AsyncIterable[str],
        *,
        limit: int = MAX_TEXT_CHARS,
        first: str | None = None,
        form: TextForm = "plain",
    ) -> None:
        """`limit` is in characters over all pieces; `first` is the piece before those of a source.

        Raises `InvalidInputError` for a whole text that is empty or cannot be spoken, and for a
        first piece that cannot; no other piece is read yet.
        """
        self.source = text
        """The text as it was given."""
        self.is_whole = not isinstance(text, AsyncIterable)
        self.form = form
        """How it is read."""
        self.pronunciation = AS_SPELLED
        """How its words are said."""
        self._limit = limit
        self._said = 0
        self._beginning = first
        self._pieces: AsyncIterator[str] | None = None
        self._total = 0
        self._first = first
        if not isinstance(text, AsyncIterable):
            self._first = check_text(text, limit=limit)
            if is_blank(text):
                raise InvalidInputError("text is empty; send at least one word.")
        elif first is not None:
            check_text(first, limit=limit)

    def again(self) -> CheckedText:
        """Return the same text from its beginning; its source must be one that can be read again.

        It is checked again, too, as what a source gives is known only when it comes.
        """
        text = CheckedText(self.source, limit=self._limit, first=self._beginning, form=self.form)
        text.pronunciation = self.pronunciation
        return text

    def pronounce(self, pronunciation: Pronunciation) -> None:
        """Have its words said so; raises `InvalidInputError` where that makes it too long."""
        self.pronunciation = pronunciation
        if pronunciation.words and not isinstance(self.source, AsyncIterable):
            self._check_growth(len(pronunciation.say(self.source)))

    def say(self, sentence: str) -> list[str]:
        """Return what an engine is given for a sentence: it, or what its words are said as.

        In parts, where that is longer than a sentence may be. Raises `InvalidInputError` when the
        pronunciation makes the whole too long.
        """
        said = self.pronunciation.say(sentence)
        self._said += len(said)
        self._check_growth(self._said)
        if len(said) <= LONGEST_SENTENCE:
            return [said]
        borders = SentenceBorders()
        return [*borders.add(said), *borders.finish()]

    def _check_growth(self, length: int) -> None:
        most = MAX_GROWTH * self._limit
        if length > most:
            raise InvalidInputError(
                f"pronunciations make the text longer than {most} characters; shorten it or them."
            )

    async def __anext__(self) -> str:
        """Return the next piece.

        Raises `InvalidInputError` for one that makes the whole too long or cannot be spoken, and
        whatever the source raises.
        """
        if self._first is not None:
            piece, self._first = self._first, None
            self._total = len(piece)
            return piece
        if not isinstance(self.source, AsyncIterable):
            raise StopAsyncIteration
        if self._pieces is None:
            self._pieces = aiter(self.source)
        piece = check_text(await anext(self._pieces), limit=self._limit)
        self._total += len(piece)
        if self._total > self._limit:
            raise InvalidInputError(
                f"the pieces of text add up to more than {self._limit} characters; start another "
                "stream."
            )
        return piece


def has_words(text: str) -> bool:
    """Return whether there is a letter or a digit in it, without which most engines are silent."""
    return any(map(str.isalnum, text))


def is_sayable(text: str) -> bool:
    """Return whether there is more in it than pauses: a letter, a number, or a sign with a name.

    Punctuation alone is no speech: a voice that is given it says nothing, or babbles. Neither are
    emoji alone, though most engines say their names.
    """
    return any(map(_is_said, text))


def _is_said(char: str) -> bool:
    category = unicodedata.category(char)
    if category == "So":
        return not any(ord(char) in block for block in _EMOJI)
    return category[0] in "LN" or category in ("Sc", "Sm") or char in _SAID_MARKS


async def sentences(text: CheckedText) -> AsyncIterator[str]:
    """Yield each sentence of `text` as it was written, as soon as it is whole, never blank.

    Of Markdown, yield what it shows, block by block; a pause if that is nothing. Words that `text`
    has a pronunciation for are said so. Raises what the pieces of `text` raise.
    """
    borders = SentenceBorders()
    async for piece in text if text.form == "plain" else _shown(text):
        for start in range(0, len(piece), _PIECE):
            for sentence in borders.add(piece[start : start + _PIECE]):
                for said in text.say(sentence):
                    yield said
    for sentence in borders.finish():
        for said in text.say(sentence):
            yield said


async def _shown(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    from greenroom.speech.markdown import MarkdownReader  # its import takes 0.1 s

    reader = MarkdownReader()
    is_empty = shows_nothing = True
    async for piece in pieces:
        is_empty = is_empty and is_blank(piece)
        for start in range(0, len(piece), _PIECE):
            shown = reader.add(piece[start : start + _PIECE])
            shows_nothing = shows_nothing and is_blank(shown)
            yield shown
            await asyncio.sleep(0)  # reading takes milliseconds, and may give no sentence
    rest = reader.finish()
    yield _PAUSE if not is_empty and shows_nothing and is_blank(rest) else rest
