"""The default model: the one that is named, or the only one there is; else an error that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from greenroom import Catalog, ConfigError, ModelSpec
from greenroom.catalog.default_voice import check_ids, unknown_ids, with_default
from greenroom.config.schema import Config, load_config

NO_VOICES: dict[str, Any] = {"voices": {"directories": [], "packages": []}}


def catalog_of(*names: str) -> Catalog:
    return Catalog([ModelSpec(name, "tone") for name in names])


def test_the_only_voice_there_is_becomes_the_default() -> None:
    config = with_default(load_config(), catalog_of("amy"))
    assert config.model_manager.default_model_id == "amy"
    check_ids(config.model_manager, catalog_of("amy"))


@pytest.mark.parametrize("names", [("amy", "bob"), (), ("amy", "piper-en-us-joe-medium")])
def test_of_several_voices_or_none_nothing_is_chosen(names: tuple[str, ...]) -> None:
    assert with_default(load_config(), catalog_of(*names)) == load_config()


def test_a_default_that_is_named_is_taken_at_its_word() -> None:
    config = load_config(overrides={"model_manager": {"default_model_id": "ann"}})
    assert with_default(config, catalog_of("amy")) is config
    with pytest.raises(ConfigError, match="default_model_id: model 'ann' is not in the catalog"):
        check_ids(config.model_manager, catalog_of("amy"))


def test_without_a_voice_the_error_says_what_to_install() -> None:
    (problem,) = unknown_ids(Config().model_manager, catalog_of())
    assert problem.startswith("default_model_id: no voice was found; `pip install ")


def test_with_other_voices_than_the_usual_one_the_error_names_them() -> None:
    (problem,) = unknown_ids(Config().model_manager, catalog_of("amy", "bob"))
    assert problem.endswith("is not there, and no other is named; there are amy, bob.")


def test_tones_are_in_no_catalog_whose_configuration_names_none(tmp_path: Path) -> None:
    assert list(Catalog.from_config(load_config(overrides=NO_VOICES))) == []
    assert not [spec for spec in Catalog.discover(tmp_path) if spec.adapter == "tone"]


@pytest.mark.parametrize(
    "naming",
    [
        {"model_manager": {"default_model_id": "tone-440"}},
        {"model_manager": {"preload_model_ids": ["tone-220"]}},
        {"models": [{"model_id": "high", "variant_of": "tone-440"}]},
    ],
)
def test_one_tone_that_is_named_brings_all_of_them(naming: dict[str, object]) -> None:
    catalog = Catalog.from_config(load_config(overrides={**NO_VOICES, **naming}))
    assert {"tone-220", "tone-440"} <= {spec.model_id for spec in catalog}
