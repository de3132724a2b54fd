"""Sentence borders: where they are, when they are known, and that the text stays as it is."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.speech.sentence_borders import LONGEST_SENTENCE, SentenceBorders, ends_with_mark

WORDS = [
    *("Dr", "Mr", "e.g", "i.e", "Fig", "No", "z", "B", "p.m", "am", "1", "2", "12", "2020"),
    *("3.14", "Hello", "world", "x", "I", "你好", "नमस्ते", "שלום", "😀", "\u200b", "*", "**"),
    *(
        ".",
        "..",
        "…",
        "!",
        "?",
        "!?",
        "。",
        "！",
        "।",
        "\n",
        "\n\n",
        "\r\n",
        "\n- ",
        "\n* ",
        "\n1. ",
    ),
    *(
        " ",
        "  ",
        "\t",
        '"',
        "”",
        ")",
        "(",
        "«",
        "»",
        "`",
        "_",
        "-",
        "—",
        "http://a.b/c?d=E",
        "a" * 300,
    ),
]
texts = st.lists(st.sampled_from(WORDS) | st.characters(codec="utf-8"), max_size=60).map("".join)


def cut(text: str, at: list[int]) -> list[str]:
    """Return `text` in pieces, cut at each of `at` that lies in it."""
    borders = sorted({0, len(text), *(place % (len(text) + 1) for place in at)})
    return [text[a:b] for a, b in pairwise(borders)]


def split(*pieces: str) -> list[str]:
    borders = SentenceBorders()
    return [s for piece in pieces for s in borders.add(piece)] + borders.finish()


def assert_as_written(sentences: list[str], text: str) -> None:
    """Fail unless `sentences` in order are `text`, but for blanks between them."""
    at = 0
    for sentence in sentences:
        found = text.index(sentence, at)
        between = text[at:found]
        assert all(c.isspace() or unicodedata.category(c) == "Cf" for c in between), between
        at = found + len(sentence)
    rest = text[at:]
    assert all(c.isspace() or unicodedata.category(c) == "Cf" for c in rest), rest


@given(text=texts, at=st.lists(st.integers(0, 2_000), max_size=12))
def test_sentences_are_the_text_itself_and_the_same_however_it_is_cut(
    text: str, at: list[int]
) -> None:
    sentences = split(text)
    assert_as_written(sentences, text)
    assert split(*cut(text, at)) == sentences
    assert split(*text) == sentences
    assert all(sentence and len(sentence) <= LONGEST_SENTENCE for sentence in sentences)


@pytest.mark.parametrize(
    "marked",
    [
        "2*3*4 = 24.¦ Run `rm *.txt` twice.",
        "1. Preheat the oven¦\n2. Mix the flour.¦\n3. Bake.",
        "You need:¦\n- eggs¦\n* milk¦\r\n  • flour",
        "Do this:¦\n1) Mix it.¦ 2. Bake it.",
        "a line that\ngoes on¦\n\nA paragraph¦\n \t\nand one more",
        "Use a newspaper, e.g. The Times, i.e. Monday's.",
        "See Fig. 3.¦ It is big.¦ Fig. 4 is not.",
        "Vol. 2 and eq. 3. both, cf. Smith et al. 2020.",
        "Ask no. 5.¦ No.¦ It is Dr. J. R. Smith Jr. of the U.S. Army.",
        "She left at 3 p.m.¦ He came on Dec. 3.¦ Then.",
        "It costs 3.50 or 1,000.25 or v1.2.3 today.¦ In 1984. 3 people.",
        'Is it?¦ 3 people say so!¦ "Why?" she asked.¦ «Oui.»¦ (Because.)',
        "Go to https://example.org/a?b=C.d or mail A.B@example.org.¦ Thanks.",
        "Wait... what?¦ I see… yes.¦ Well...¦ Now.",
        "Er kam am 3. Oktober.¦ Dann ging er, z. B. Katzen füttern.",
        "你好。¦“好。”¦他说……¦我不知道！",
        "यह।¦वह।¦ هل؟¦ نعم",
        "Great!¦ 😀 Then **bold.**¦ *So.*¦ ¿Qué?¦ ¡Sí!",
        "if (a != b) { return x?.y! } and so on.¦ Done",
    ],
)
def test_a_sentence_ends_where_a_reader_would_end_it(marked: str) -> None:
    sentences = [sentence.strip() for sentence in marked.split("¦")]
    assert split(marked.replace("¦", "")) == sentences


@pytest.mark.parametrize(
    ("text", "enough"),
    [
        ("It rains. We stay.", "It rains. W"),
        ("It rains! 3 of us stay.", "It rains! 3"),
        ('It rains. "We stay."', 'It rains. "W'),
        ("你好。再见。", "你好。再"),
        ("A paragraph\n\nand more", "A paragraph\n\n"),
        ("Preheat the oven\n2. Mix", "Preheat the oven\n2. "),
    ],
)
def test_a_sentence_is_there_as_soon_as_the_next_begins(text: str, enough: str) -> None:
    borders = SentenceBorders()
    for char in enough[:-1]:
        assert borders.add(char) == []
    assert borders.add(enough[-1]) == split(text)[:1]


def test_what_is_held_is_bounded_though_no_border_is_decided() -> None:
    borders = SentenceBorders()
    found = [s for _ in range(3_000) for s in borders.add("?\u200b(")]
    assert sum(map(len, found)) > 3 * 3_000 - 2 * LONGEST_SENTENCE


@pytest.mark.parametrize(
    "text", ["Yes.", "Yes!? ", 'He said "yes."', "Yes…)\n", "好。", "नमस्ते।", "**Yes!**"]
)
def test_a_text_that_ends_with_a_mark_is_known(text: str) -> None:
    assert ends_with_mark(text)


@pytest.mark.parametrize("text", ["", " ", "yes", "No. 5", "a,", "3.14", "(yes)", '"yes"'])
def test_a_text_that_ends_without_one_is_known_too(text: str) -> None:
    assert not ends_with_mark(text)
