"""Words are said as a map says, wherever they stand by themselves, and nothing else changes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import InvalidInputError
from greenroom.speech.pronunciation import MAX_WORDS, Pronunciation, Pronunciations
from greenroom.speech.sentence_borders import LONGEST_SENTENCE
from greenroom.speech.text import CheckedText, sentences
from tests.speech.test_said_as_written import TEXTS

WORDS = {
    "nginx": "engine x",
    "US": "U S",
    "New York": "Noo York",
    "new": "nyoo",
    "C++": "C plus plus",
    "O'Brien": "oh bryan",
    "東京": "とうきょう",
    "नमस्ते": "namaste",
    "café": "kaffay",
    "Wyoming": "[[waɪˈoʊmɪŋ]]",
}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Use nginx, Nginx or NGINX.", "Use engine x, engine x or engine x."),
        ("The US told us.", "The U S told us."),
        ("A new New York, new\nyork, New\n York.", "A nyoo Noo York, nyoo\nyork, Noo York."),
        ("News renew newly_new new-new", "News renew newly_new nyoo-nyoo"),
        ("C, C++ and C+++.", "C, C plus plus and C plus plus+."),
        ("O'Brien's, O’Brien’s", "oh bryan's, oh bryan’s"),
        ("東京都に東京", "とうきょう都にとうきょう"),
        ("नमस्ते नमस्तेजी", "namaste नमस्तेजी"),
        ("cafés, café, cafe\u0301.", "cafés, kaffay, cafe\u0301."),
        ("[[nginx]] [nginx] [[nginx", "[[nginx]] [engine x] [[engine x"),
        ("Wyoming.", "[[waɪˈoʊmɪŋ]]."),
        ("", ""),
    ],
)
def test_a_word_is_found_where_it_stands_by_itself(text: str, said: str) -> None:
    assert Pronunciation(WORDS).say(text) == said


def test_what_was_put_in_is_not_replaced_again() -> None:
    assert Pronunciation({"a": "b", "b": "a a"}).say("a b") == "b a a"


@given(
    words=st.dictionaries(
        st.text("abAB '-é東\u0301", min_size=1, max_size=4).filter(str.strip),
        st.just("abba"),
        max_size=8,
    ),
    text=st.text("abAB '-é東\u0301[]", max_size=40),
)
def test_only_whole_words_change_and_all_else_stays_in_order(
    words: dict[str, str], text: str
) -> None:
    said = Pronunciation(dict.fromkeys(words, "☃")).say(text)
    rest = 0
    for part in said.split("\u2603"):
        at = text.index(part, rest)
        rest = at + len(part)
    assert Pronunciation({word: word.strip() for word in words}).say(text).lower().split() == (
        text.lower().split()
    )


@pytest.mark.parametrize("text", TEXTS)
async def test_a_map_changes_nothing_of_a_text_that_has_none_of_its_words(text: str) -> None:
    plain = [sentence async for sentence in sentences(CheckedText(text))]
    checked = CheckedText(text)
    checked.pronounce(Pronunciation({"qwertz": "x", "Zz Zz": "y"}))
    assert [sentence async for sentence in sentences(checked)] == plain


def test_one_map_goes_before_another_and_the_longer_word_before_both() -> None:
    asked, configured = (
        Pronunciation({"a": "1", "a b": "2"}),
        Pronunciation({"a": "3", "c": "4", "a b c": "5"}),
    )
    both = asked.over(configured)
    assert both.say("a, a b, c, a b c") == "1, 2, 4, 5"
    assert both == Pronunciation({"a": "1", "a b": "2", "c": "4", "a b c": "5"})


@pytest.mark.parametrize(
    "words",
    [
        {"": "x"},
        {" ": "x"},
        {"x": ""},
        {"x": " \u00a0"},
        {"x" * 101: "y"},
        {"x": "y" * 301},
        {"a\x00": "b"},
        {"a": "b\nc"},
        {"a": "\ud800"},
        {str(number): "x" for number in range(10_000)},
    ],
    ids=lambda words: f"{len(words)} {next(iter(words.items()))!r:.30}",
)
def test_what_is_no_map_of_words_is_refused(words: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError, match="pronunciations"):
        Pronunciation(words)


def test_the_time_depends_on_the_text_and_not_on_how_many_words_there_are() -> None:
    def seconds(count: int, text: str) -> float:
        chained = {" ".join(["a"] * (1 + n % 40)) + f" {n}": "x" for n in range(count)}
        pronunciation = Pronunciation(chained)
        began = time.process_time()
        pronunciation.say(text)
        return time.process_time() - began

    text = "a " * 10_000
    seconds(40, text)
    assert seconds(MAX_WORDS, text) < 20 * max(seconds(40, text), 0.001)
    assert seconds(40, "[[" * 10_000) < 1


async def pieces(parts: list[str]) -> AsyncIterator[str]:
    for part in parts:
        yield part


async def test_a_sentence_that_becomes_too_long_is_said_in_parts() -> None:
    text = CheckedText("a " * 300)
    text.pronounce(Pronunciation({"a": "bcd efg"}))
    found = [sentence async for sentence in sentences(text)]
    assert " ".join(found) == " ".join(["bcd efg"] * 300)
    assert max(map(len, found)) <= LONGEST_SENTENCE < len(" ".join(found))


async def test_a_text_that_grows_too_much_is_refused_before_it_is_spoken() -> None:
    much = Pronunciation({"a": "b" * 300})
    with pytest.raises(InvalidInputError, match="longer than 4000 characters"):
        CheckedText("a " * 100, limit=1_000).pronounce(much)
    text = CheckedText(pieces(["a. A "] * 100), limit=1_000)
    text.pronounce(much)
    with pytest.raises(InvalidInputError, match="longer than 4000 characters"):
        [sentence async for sentence in sentences(text)]


async def test_a_text_that_is_begun_again_is_said_alike() -> None:
    text = CheckedText("a")
    text.pronounce(Pronunciation({"a": "b"}))
    assert [sentence async for sentence in sentences(text)] == ["b"]
    assert [sentence async for sentence in sentences(text.again())] == ["b"]


def test_maps_are_for_languages_and_the_most_special_counts() -> None:
    maps = Pronunciations(
        {
            "all": {"x": "0", "y": "0", "z": "0", "p": "[[p]]"},
            "en": {"y": "1", "z": "1"},
            "en_GB": {"z": "2"},
            "de": {"y": "3"},
        }
    )

    def said(*languages: str) -> str:
        return maps.of(languages, phonemes=True).say("x y z p")

    assert said("en-GB") == "0 1 2 [[p]]"
    assert said("en-us") == "0 1 1 [[p]]"
    assert said("en") == "0 1 1 [[p]]"
    assert said("de-DE") == "0 3 0 [[p]]"
    assert said("de", "en-GB") == "0 3 2 [[p]]"
    assert said("eng") == said() == "0 0 0 [[p]]"
    assert maps.of(("en",), phonemes=False).say("x y z p") == "0 1 1 p"
    assert maps.of(("en",), phonemes=True) is maps.of(("en",), phonemes=True)
