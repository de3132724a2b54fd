"""Markdown: what is said of it, whole or in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.speech.markdown import MarkdownReader
from greenroom.speech.text import CheckedText, sentences


def said(*pieces: str) -> str:
    reader = MarkdownReader()
    return "".join([*map(reader.add, pieces), reader.finish()])


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("This is **very *nice*** and ~~old~~ `x*y`.", "This is very nice and old x*y."),
        ("# Title #\n\nText\nmore", "Title\n\nText\nmore"),
        ("- eggs\n- milk\n  - *fresh*\n      * cold", "eggs\n\nmilk\n\nfresh\n\ncold"),
        ("1. Mix\n2. Bake\n10) Eat", "1. Mix\n\n2. Bake\n\n10) Eat"),
        ("See [the *page*](http://a.b/c_d_e) ![a cat](x.png).", "See the page a cat."),
        ("```python\na = b * c\n\n# d\n```\nDone", "a = b * c\n\n# d\n\nDone"),
        ("| a | b |\n|---|:-:|\n| *1* | 2 |", "a, b\n\n1, 2"),
        ("> Quoted. *Text*.\n\n***\n\n---", "Quoted. Text."),
        ("2*3*4 = 24 &amp; a_b_c \\*", "234 = 24 & a_b_c *"),
        ("one<br>two <!-- no --> <b>three</b>", "one\ntwo  three"),
        ("plain text, 5 < 6 and 7 > 3", "plain text, 5 < 6 and 7 > 3"),
    ],
)
def test_what_is_said_is_the_words_without_the_marks(written: str, words: str) -> None:
    assert said(written).strip() == words
    assert said(*written).strip() == words


@given(written=st.text("ab *_`#-1.>|~[]()<!\n", max_size=80), at=st.integers(0, 80))
def test_the_same_is_said_however_it_is_cut(written: str, at: int) -> None:
    whole = said(written)
    assert said(*written) == whole
    assert said(written[:at], written[at:]) == whole


def test_an_item_is_said_when_the_next_one_begins() -> None:
    reader = MarkdownReader()
    assert reader.add("- **one**\n- tw") == ""
    assert reader.add("o\n") == "one\n\n"


def test_what_is_held_is_bounded() -> None:
    reader = MarkdownReader()
    spoken = sum(len(reader.add("word " * 10)) for _ in range(1_000))
    assert spoken > 40_000
    reader.add("```\n")
    spoken = sum(len(reader.add("code * 2\n")) for _ in range(5_000))
    assert spoken > 40_000


def test_a_long_paragraph_is_cut_between_words() -> None:
    words = [f"word{i}" for i in range(2_000)]
    assert said(" ".join(words)).split() == words
    assert said("```\n" + " * ".join(words)).split() == " * ".join(words).split()


def test_a_long_paragraph_is_cut_between_sentences_if_it_has_any() -> None:
    paragraph = "**So** it goes, and on. " * 200
    parts = said(paragraph).split("\n\n")
    assert len(parts) > 3
    assert all(part.endswith("and on.") for part in parts if part)


async def test_sentences_of_markdown_come_without_its_marks() -> None:
    async def pieces() -> AsyncIterator[str]:
        for piece in ("# Soup\n1. **Mix", "** it. Then\n2. wait"):
            yield piece

    for text in (pieces(), "# Soup\n1. **Mix** it. Then\n2. wait"):
        spoken = [s async for s in sentences(CheckedText(text, form="markdown"))]
        assert spoken == ["Soup", "1. Mix it.", "Then", "2. wait"]
    assert [s async for s in sentences(CheckedText("***", form="markdown"))] == ["."]
