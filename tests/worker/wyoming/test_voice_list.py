"""What clients are told of the voices: each that can be spoken with, and who speaks in it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from wyoming.tts import SynthesizeVoice

from greenroom import Catalog, ConfigError, ModelManager, ModelSpec
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.adapters.tone import ToneTTSAdapter
from tests.piper.synthetic_voice import write_voice
from tests.worker.wyoming.home_assistant import HomeAssistant, running_wyoming_worker


class Choir(ToneTTSAdapter):
    """Tones that are sung by somebody, or by nobody that can be named."""

    singers: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def check_spec(cls, spec: ModelSpec) -> None:
        if spec.model_id == "broken":
            raise ConfigError("its file is gone.")

    @classmethod
    def speakers(cls, spec: ModelSpec) -> Sequence[str]:
        found = cls.singers.get(spec.model_id, ())
        if isinstance(found, Exception):
            raise found
        return tuple(found)


def catalog_of(*specs: ModelSpec) -> Catalog:
    return Catalog([ModelSpec("tone-440", ToneTTSAdapter, options={"frequency": 440}), *specs])


def tone(name: str, *languages: str, adapter: type[ToneTTSAdapter] = Choir) -> ModelSpec:
    return ModelSpec(name, adapter, languages=languages, options={"frequency": 220})


async def test_every_voice_is_told_with_its_languages_and_the_default_comes_first(
    tone_catalog: Catalog,
) -> None:
    specs = [tone("b", "de-DE"), tone("a", "en-US", "en-GB")]
    manager = ModelManager(catalog=catalog_of(*specs), default_model_id="a")
    async with running_wyoming_worker(manager) as hass:
        voices = await hass.voices()
    assert list(voices) == ["a", "tone-440", "b"]
    assert voices["a"].languages == ["en-US", "en-GB"]
    assert voices["b"].languages == ["de-DE"]
    assert {voice.speakers for voice in voices.values()} == {None}


async def test_a_voice_that_cannot_be_loaded_is_not_offered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    singers = {"loud": RuntimeError("no"), "choir": ["Ann", "Bob"]}
    monkeypatch.setattr(Choir, "singers", singers)
    specs = [tone(name) for name in ("broken", "loud", "choir")]
    manager = ModelManager(catalog=catalog_of(*specs), default_model_id="tone-440")
    async with running_wyoming_worker(manager) as hass:
        voices = await hass.voices()
    assert set(voices) == {"tone-440", "choir"}
    assert [each.name for each in voices["choir"].speakers or ()] == ["Ann", "Bob"]


@pytest.mark.parametrize("odd", [[5], ["Ann", ""], ["\ud800"], ["\x1b[2J"], ["a" * 201]], ids=ascii)
async def test_speakers_that_have_no_names_are_not_told(
    odd: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Choir, "singers", {"choir": odd})
    manager = ModelManager(catalog=catalog_of(tone("choir")), default_model_id="tone-440")
    async with running_wyoming_worker(manager) as hass:
        assert (await hass.voices())["choir"].speakers is None


async def test_the_list_follows_the_catalog() -> None:
    catalog = catalog_of(tone("a"))
    manager = ModelManager(catalog=catalog, default_model_id="tone-440")
    async with running_wyoming_worker(manager) as hass:
        assert set(await hass.voices()) == {"tone-440", "a"}
        catalog.adopt(catalog_of(tone("b", "fr-FR")))
        assert set(await hass.voices()) == {"tone-440", "b"}
        assert (await hass.say("Hello.", SynthesizeVoice("b"))).audio
        assert (await hass.say("Hello.", SynthesizeVoice("a"))).refusal[0] == "voice_not_found"


async def test_many_who_ask_at_once_have_it_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def speakers(spec: ModelSpec) -> Sequence[str]:
        nonlocal asked
        asked += 1
        return ()

    monkeypatch.setattr(Choir, "speakers", speakers)
    manager = ModelManager(catalog=catalog_of(tone("a")), default_model_id="tone-440")
    async with running_wyoming_worker(manager) as hass:
        for each in await asyncio.gather(*(hass.voices() for _ in range(8))):
            assert set(each) == {"tone-440", "a"}
    assert asked == 1


async def test_the_speakers_of_a_piper_voice_are_told_and_speak(tmp_path: Path) -> None:
    paths = [write_voice(tmp_path, f"{n}-voice", speakers=n) for n in (1, 3)]
    named = [ModelSpec(path.stem, PiperTTSAdapter, path) for path in paths]
    manager = ModelManager(catalog=Catalog(named), default_model_id=named[1].model_id)
    async with running_wyoming_worker(manager) as hass:
        voices = await hass.voices()
        assert voices["1-voice"].speakers is None
        speakers = [each.name for each in voices["3-voice"].speakers or ()]
        assert speakers == ["speaker0", "speaker1", "speaker2"]
        for speaker in ("speaker2", "2"):
            answer = await hass.say("hello", SynthesizeVoice("3-voice", speaker=speaker))
            assert answer.audio
        await refused_speaker(hass)


async def refused_speaker(hass: HomeAssistant) -> None:
    for speaker in ("speaker3", "3", "-1", "٣", "9" * 99):
        answer = await hass.say("hello", SynthesizeVoice("3-voice", speaker=speaker))
        code, text = answer.refusal
        assert code == "invalid_value"
        assert "one of this voice's 3: speaker0, speaker1, speaker2" in text
