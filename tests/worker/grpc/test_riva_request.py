"""Riva's dictionaries and SSML, without a worker."""

from __future__ import annotations

import pytest

from greenroom import InvalidInputError
from greenroom.worker.grpc.riva_request import check_is_plain, pronunciations_in


def test_a_dictionary_is_words_and_phonemes() -> None:
    assert pronunciations_in("") == pronunciations_in(" , ") == {}
    assert pronunciations_in("NVIDIA  ɛn.vɪ.diː.ʌ,tomato  tˈɑː məʊ, New York   nuː.jɔːk ,") == {
        "NVIDIA": "[[ɛnvɪdiːʌ]]",
        "tomato": "[[tˈɑː məʊ]]",
        "New York": "[[nuːjɔːk]]",
    }


@pytest.mark.parametrize(
    "said",
    ["tomato", "tomato təmeɪtoʊ", "tomato  ", "ok  oʊkeɪ,tomato", "a  b]] c [[d", "a  {@AH0}"],
)
def test_an_entry_without_phonemes_is_refused(said: str) -> None:
    with pytest.raises(InvalidInputError, match=r"custom_dictionary: .*two spaces.*IPA"):
        pronunciations_in(said)


def test_a_giant_dictionary_is_refused_before_it_is_taken_apart() -> None:
    assert len(pronunciations_in(",".join(f"w{number}  x" for number in range(500)))) == 500
    with pytest.raises(InvalidInputError, match="has 4000001 entries; 500 are allowed"):
        pronunciations_in("," * 4_000_000)


@pytest.mark.parametrize(
    "text",
    [
        "<speak>Hello.</speak>",
        '\n <speak version="1.1">Hello.</speak>',
        '<?xml version="1.0"?>\n<speak>Hello.</speak>',
        "<speak/>",
    ],
)
def test_ssml_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="SSML is not spoken"):
        check_is_plain(text)


@pytest.mark.parametrize(
    "text", ["Hello.", "a < b", "<speaker>", "Say <speak>.", "<p>Hello.</p>", "<?xml", "speak>"]
)
def test_any_other_text_is_said_as_it_is(text: str) -> None:
    check_is_plain(text)
