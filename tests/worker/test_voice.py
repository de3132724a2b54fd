"""What a caller asks for: strings become what the engine understands, or are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from greenroom import (
    Catalog,
    InvalidInputError,
    ModelNotFoundError,
    ModelSpec,
    SynthesisError,
    TTSAdapter,
)
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.testing import Stage
from greenroom.voice import VoiceChooser


class Naming(TTSAdapter):
    """An adapter that has speakers with names."""

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        for key, value in options.items():
            if key not in ("speaker", "speed") or (key == "speed" and isinstance(value, str)):
                raise InvalidInputError(f"option {key!r} cannot be {value!r}.")

    def load(self) -> None: ...
    def unload(self) -> None: ...
    def synthesize(self, text: str, options: Mapping[str, Any]) -> Any: ...


@pytest.fixture
def chooser() -> VoiceChooser:
    specs = ModelSpec("a", Naming, aliases=("first",)), ModelSpec("b", PiperTTSAdapter)
    return VoiceChooser(Catalog(specs), "first")


def test_nothing_asked_for_is_the_default_at_48_khz(chooser: VoiceChooser) -> None:
    voice = chooser.choose()
    assert (voice.model_id, voice.options, voice.sample_rate) == ("a", {}, 48_000)


def test_an_alias_and_the_id_are_the_same_voice(chooser: VoiceChooser) -> None:
    assert chooser.choose("first") == chooser.choose("a")


def test_an_unknown_id_names_near_ones(chooser: VoiceChooser) -> None:
    with pytest.raises(ModelNotFoundError, match="did you mean a"):
        chooser.choose("firsd")


def test_a_text_option_stays_text_even_if_it_looks_like_a_number(chooser: VoiceChooser) -> None:
    options = chooser.choose("a", {"speaker": "3922", "speed": "1.5"}).options
    assert options == {"speaker": "3922", "speed": 1.5}
    assert chooser.choose("b", {"speaker": "7", "speed": "2"}).options == {
        "speaker": "7",
        "speed": 2,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("-2", -2),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("joe", "joe"),
        ("", ""),
        ("nan", "nan"),
        ("inf", "inf"),
        ("1e999", "1e999"),
    ],
)
def test_an_adapter_that_checks_nothing_gets_numbers(text: str, value: object) -> None:
    chooser = VoiceChooser(Stage("a").catalog, "a")
    chosen = chooser.choose("a", {"x": text}).options["x"]
    assert chosen == value
    assert type(chosen) is type(value)


@pytest.mark.parametrize(
    "options",
    [{"speed": "fast"}, {"pitch": "1"}, {"sample_rate": "8000"}, {"text": "x"}, {"self": "x"}],
)
def test_what_the_adapter_does_not_take_is_refused(
    chooser: VoiceChooser, options: dict[str, str]
) -> None:
    with pytest.raises(InvalidInputError):
        chooser.choose("a", options)


@pytest.mark.parametrize(
    "options",
    [
        {f"o{n}": "1" for n in range(33)},
        {"x" * 201: "1"},
        {"x": "1" * 201},
    ],
    ids=["many", "long name", "long value"],
)
def test_options_are_bounded_whatever_the_adapter_takes(options: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError):
        VoiceChooser(Stage("a").catalog, "a").choose("a", options)


def test_as_many_and_as_long_options_as_allowed_are_taken() -> None:
    chooser = VoiceChooser(Stage("a").catalog, "a")
    options = {f"o{n:0199}": "x" * 200 for n in range(32)}
    assert chooser.choose("a", options).options == options


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, GeneratorExit, RuntimeError])
def test_a_check_of_options_that_raises_anything_fails_that_call_only(
    chooser: VoiceChooser, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException]
) -> None:
    def check(options: object) -> None:
        raise raised("no licence")

    monkeypatch.setattr(Naming, "check_options", check)
    for text in ("1.5", "fast"):
        with pytest.raises(SynthesisError, match=f"{raised.__name__}: no licence"):
            chooser.choose("a", {"speed": text})
