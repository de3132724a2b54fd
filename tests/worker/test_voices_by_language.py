"""A language finds a voice, the same one for every protocol that names languages."""

from __future__ import annotations

import pytest

from greenroom import Catalog, ModelSpec
from greenroom.worker.voices_by_language import VoicesByLanguage, speaks

VOICES = {
    "amy": ("en-US",),
    "alan": ("en_GB",),
    "kerstin": ("de-DE",),
    "karl": ("de-AT",),
    "sara": ("sr",),
    "mute": (),
}


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(ModelSpec(name, "tone", languages=each) for name, each in VOICES.items())


@pytest.mark.parametrize(
    ("language", "found"),
    [
        ("en", "alan"),
        ("en-us", "amy"),
        ("EN_gb", "alan"),
        ("en-AU", "alan"),
        ("de", "kerstin"),
        ("de-AT", "karl"),
        ("de-CH", "kerstin"),
        ("sr-Latn", "sara"),
        ("tlh", None),
        ("", None),
    ],
)
def test_the_default_voice_comes_first_but_for_one_of_the_very_region(
    catalog: Catalog, language: str, found: str | None
) -> None:
    assert VoicesByLanguage(catalog, "alan").find(language) == found


def test_a_catalog_that_has_changed_is_looked_at_again(catalog: Catalog) -> None:
    voices = VoicesByLanguage(catalog, "amy")
    assert voices.find("fr") is None
    catalog.adopt(Catalog([*catalog, ModelSpec("siwis", "tone", languages=("fr-FR",))]))
    assert voices.find("fr") == "siwis"


def test_a_region_is_no_other_language() -> None:
    assert speaks(("en-US",), "en_GB")
    assert not speaks(("en-US",), "de")
    assert not speaks((), "en")
