"""Text: whole sentences, early, whatever the pieces they come in."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import InvalidInputError
from greenroom.speech.sentence_borders import LONGEST_SENTENCE
from greenroom.speech.text import CheckedText, check_text, sentences

STORY = (
    "Dr. Ada Lovelace met Mr. Babbage at 3.14 p.m. on Monday. It was fun! Was it not? 你好。再见。"
)


async def pieces(parts: list[str]) -> AsyncIterator[str]:
    for part in parts:
        yield part


async def all_of(text: str | list[str]) -> list[str]:
    source = text if isinstance(text, str) else pieces(text)
    return [sentence async for sentence in sentences(CheckedText(source))]


async def test_sentences_are_found_and_abbreviations_are_not_their_end() -> None:
    assert await all_of(STORY) == [
        "Dr. Ada Lovelace met Mr. Babbage at 3.14 p.m. on Monday.",
        "It was fun!",
        "Was it not?",
        "你好。",
        "再见。",
    ]


@given(cuts=st.lists(st.integers(0, len(STORY)), max_size=20))
async def test_no_word_is_lost_or_doubled_however_the_text_is_cut(cuts: list[int]) -> None:
    borders = sorted({0, len(STORY), *cuts})
    parts = [STORY[a:b] for a, b in pairwise(borders)]
    spoken = " ".join(await all_of(parts))
    assert spoken.replace(" ", "") == STORY.replace(" ", "")


async def test_a_sentence_is_yielded_before_the_next_has_ended() -> None:
    asked: list[str] = []

    async def source() -> AsyncIterator[str]:
        for part in ("First one. S", "econd one. T", "hird one."):
            asked.append(part)
            yield part

    found = sentences(CheckedText(source()))
    assert await anext(found) == "First one."
    assert len(asked) == 1
    assert isinstance(found, AsyncGenerator)
    await found.aclose()


async def test_a_text_without_borders_is_cut_at_spaces_and_nothing_is_lost() -> None:
    words = [f"word{i}" for i in range(2_000)]
    found = await all_of(" ".join(words))
    assert " ".join(found).split() == words
    assert max(map(len, found)) <= LONGEST_SENTENCE + 256


async def test_a_text_without_spaces_is_cut_all_the_same() -> None:
    found = await all_of("x" * 5_000)
    assert "".join(found) == "x" * 5_000
    assert max(map(len, found)) <= LONGEST_SENTENCE + 256


async def test_the_time_per_character_does_not_grow_with_the_text() -> None:
    async def seconds(count: int) -> float:
        began = time.process_time()
        await all_of(["a"] * count)
        return time.process_time() - began

    await seconds(500)
    assert await seconds(16_000) < 40 * max(await seconds(1_600), 0.001)


@pytest.mark.parametrize("text", ["", "   ", "\n\n", "\t", "\u200b\ufeff"])
async def test_blank_text_has_no_sentences_and_cannot_be_spoken(text: str) -> None:
    assert await all_of([text]) == []
    with pytest.raises(InvalidInputError, match="empty"):
        CheckedText(text)


@pytest.mark.parametrize(
    "text", ["tab\tand\nnewline\r\n", "emoji 🙂", "¿Qué?", "a\x85b", "\ufeffbom"]
)
def test_ordinary_text_can_be_spoken(text: str) -> None:
    assert check_text(text) == text


@pytest.mark.parametrize("bad", ["\x00", "\x07", "\x1b[31m", "\x7f", "\x9f", "\ud800"])
def test_control_characters_and_surrogates_cannot(bad: str) -> None:
    with pytest.raises(InvalidInputError, match="position 3"):
        check_text("abc" + bad)


def test_the_limit_counts_characters() -> None:
    assert check_text("é" * 10, limit=10)
    with pytest.raises(InvalidInputError, match="11 characters, 10 are allowed"):
        check_text("é" * 11, limit=10)


def test_a_source_of_pieces_is_not_read_to_be_checked() -> None:
    CheckedText(pieces(["\x00"]))


async def test_a_first_piece_is_checked_at_once_and_counts() -> None:
    with pytest.raises(InvalidInputError, match="control character"):
        CheckedText(pieces([]), first="\x00")
    text = CheckedText(pieces(["cd", "ef"]), limit=5, first="ab")
    assert [await anext(text), await anext(text)] == ["ab", "cd"]
    with pytest.raises(InvalidInputError, match="add up to more than 5 characters"):
        await anext(text)


async def test_a_whole_text_is_one_piece() -> None:
    assert [piece async for piece in CheckedText(STORY)] == [STORY]
