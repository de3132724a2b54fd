"""Which voice a name and a language of Riva's clients mean."""

from __future__ import annotations

import dataclasses

import pytest

from greenroom import Catalog, InvalidInputError, ModelNotFoundError, ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.config.schema import OPENAI_NAMES
from greenroom.voice import ModelNames
from greenroom.worker.grpc.riva_voices import NamedVoice, RivaVoices
from greenroom.worker.voices_by_language import VoicesByLanguage

LANGUAGES = {
    "joe": ("en-US",),
    "alan": ("en-GB",),
    "thorsten": ("de-DE",),
    "anna": ("de-AT",),
    "v1.0": ("fr-FR", "es-ES"),
    "quiet": (),
}


def specs(*left_out: str) -> list[ModelSpec]:
    return [
        ModelSpec(name, ToneTTSAdapter, languages=languages, aliases=(f"{name}-too",))
        for name, languages in LANGUAGES.items()
        if name not in left_out
    ]


def voices(catalog: Catalog | None = None, *, default: str = "joe") -> RivaVoices:
    catalog = catalog or Catalog(specs())
    aliases = {**dict.fromkeys(OPENAI_NAMES), "Magpie-Multilingual.EN-US.Leo": "alan"}
    names = ModelNames(catalog, aliases, default)
    return RivaVoices(catalog, names, VoicesByLanguage(catalog, default), default)


@pytest.mark.parametrize(
    ("name", "model_id", "speaker"),
    [
        ("alan", "alan", ""),
        ("ALAN", "alan", ""),
        ("alan-too", "alan", ""),
        ("alan.", "alan", ""),
        ("alan.Mia", "alan", "Mia"),
        ("Alan-too.p225", "alan", "p225"),
        ("v1.0", "v1.0", ""),
        ("v1.0.7", "v1.0", "7"),
        ("Magpie-Multilingual.EN-US.Leo", "alan", ""),
    ],
)
def test_a_name_is_a_voice_or_a_voice_and_its_speaker(
    name: str, model_id: str, speaker: str
) -> None:
    assert voices().find(name, "") == NamedVoice(model_id, speaker)


@pytest.mark.parametrize(
    "name", ["nobody", "nobody.Mia", "ala.Mia", "..", ".Mia", "alloy.Mia", "../alan", "x" * 10_000]
)
def test_an_unknown_voice_is_never_another(name: str) -> None:
    with pytest.raises(ModelNotFoundError):
        voices().find(name, "")


@pytest.mark.parametrize("name", ["", "alloy", "Magpie-Multilingual.EN-US.Aria", "magpie-x"])
@pytest.mark.parametrize(
    ("language", "model_id"),
    [
        ("", "joe"),
        ("en-US", "joe"),
        ("EN_us", "joe"),
        ("en", "joe"),
        ("en-GB", "alan"),
        ("en-AU", "joe"),
        ("de-AT", "anna"),
        ("de-DE", "thorsten"),
        ("de", "thorsten"),
        ("de-CH", "thorsten"),
        ("es-ES", "v1.0"),
        ("es-MX", "v1.0"),
    ],
)
def test_without_a_voice_of_here_the_language_chooses(
    name: str, language: str, model_id: str
) -> None:
    assert voices().find(name, language) == NamedVoice(model_id)


def test_a_language_that_no_voice_speaks_is_refused_with_those_that_are_spoken() -> None:
    with pytest.raises(InvalidInputError, match=r"no voice speaks 'ja-JP'.*de-AT, de-DE"):
        voices().find("", "ja-JP")


def test_a_default_voice_that_tells_no_language_is_taken_where_no_other_speaks_it() -> None:
    chosen = voices(default="quiet")
    assert chosen.find("", "ja-JP") == NamedVoice("quiet")
    assert chosen.find("", "de-DE") == NamedVoice("thorsten")
    assert chosen.find("", "es-MX") == NamedVoice("v1.0")


def test_a_voice_that_speaks_another_language_is_refused_with_its_own() -> None:
    with pytest.raises(InvalidInputError, match="thorsten speaks de-DE, not 'en-US'"):
        voices().find("thorsten", "en-US")
    for language in ("de-DE", "de-CH", "de", ""):
        assert voices().find("thorsten", language) == NamedVoice("thorsten")
    assert voices().find("quiet", "ja-JP") == NamedVoice("quiet")


def test_a_voice_that_comes_later_is_found_by_its_language_and_one_that_goes_no_more() -> None:
    catalog = Catalog(specs("thorsten"))
    chosen = voices(catalog)
    assert chosen.find("", "de-DE") == NamedVoice("anna")
    catalog.adopt(Catalog(specs()))
    assert chosen.find("", "de-DE") == NamedVoice("thorsten")
    catalog.adopt(Catalog(specs("thorsten", "anna")))
    with pytest.raises(InvalidInputError, match="no voice speaks"):
        chosen.find("", "de-DE")
    changed = [dataclasses.replace(spec, languages=("de-DE",)) for spec in specs()]
    catalog.adopt(Catalog(changed))
    assert chosen.find("", "de-DE") == NamedVoice("joe")
