"""What is found on disk, what the configuration adds, and that names are only looked up."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from greenroom.adapter import ModelSpec
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.catalog import registry
from greenroom.catalog.catalog import Catalog
from greenroom.config.schema import load_config
from greenroom.errors import ConfigError, ModelNotFoundError


def put_voice(place: Path, name: str, *, settings: bool = True) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    model = place / f"{name}.onnx"
    model.write_bytes(b"")
    if settings:
        model.with_name(f"{name}.onnx.json").write_text("{}")
    return model


def put_pack(root: Path, name: str, metadata: str = "", *, file: str = "model") -> Path:
    pack = root / "piper" / name
    put_voice(pack, file)
    if metadata:
        (pack / "metadata.yaml").write_text(metadata)
    return pack


def discovered(*roots: Path) -> Catalog:
    return Catalog.discover(*roots, adapters=[PiperTTSAdapter])


def configured(root: Path, *models: Mapping[str, Any]) -> Catalog:
    voices = {"directories": [str(root)], "packages": []}
    return Catalog.from_config(load_config(overrides={"voices": voices, "models": list(models)}))


def ids(catalog: Catalog) -> list[str]:
    return [spec.model_id for spec in catalog]


# The collection itself


def test_a_model_is_found_by_its_id_and_by_every_alias() -> None:
    amy = ModelSpec("amy", "tone", aliases=("en_US-amy", "a"))
    catalog = Catalog([amy, ModelSpec("joe", "tone")])
    assert [catalog.get(name) for name in ("amy", "en_US-amy", "a")] == [amy, amy, amy]
    assert "a" in catalog
    assert "b" not in catalog
    assert len(catalog) == 2
    assert repr(catalog) == "<Catalog of 2 models>"


def test_two_models_of_one_id_are_refused() -> None:
    with pytest.raises(ConfigError, match="two models have the id 'amy'; rename one"):
        Catalog([ModelSpec("amy", "tone"), ModelSpec("amy", "piper")])


@pytest.mark.parametrize("aliases", [("joe",), ("j",)])
def test_an_alias_means_one_model_only(aliases: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="already means 'joe'; choose another"):
        Catalog(
            [ModelSpec("joe", "tone", aliases=("j",)), ModelSpec("amy", "tone", aliases=aliases)]
        )


def test_an_alias_that_is_the_models_own_id_is_harmless() -> None:
    assert Catalog([ModelSpec("joe", "tone", aliases=("joe", "joe"))]).get("joe").model_id == "joe"


def test_an_unknown_id_names_the_near_ones_by_id_and_by_alias() -> None:
    catalog = Catalog(
        [
            ModelSpec("piper-en-us-amy-medium", "piper", aliases=("en_US-amy-medium",)),
            ModelSpec("piper-en-us-joe-medium", "piper", aliases=("en_US-joe-medium",)),
            ModelSpec("tone-440", "tone"),
        ]
    )
    assert catalog.near("piper-en-us-jo-medium")[0] == "piper-en-us-joe-medium"
    assert catalog.near("EN_us-AMY-medum")[0] == "piper-en-us-amy-medium"
    with pytest.raises(ModelNotFoundError, match="did you mean tone-440") as caught:
        catalog.get("tone-44")
    assert caught.value.near == ("tone-440",)
    assert caught.value.model_id == "tone-44"


@pytest.mark.parametrize(
    ("part", "near"),
    [
        ("joe", ("piper-en-us-joe-medium",)),
        ("Joe", ("piper-en-us-joe-medium",)),
        ("us_jo", ("piper-en-us-joe-medium",)),
        ("en-us", ("piper-en-us-amy-low", "piper-en-us-joe-medium")),
        ("440", ("tone-440",)),
        ("oe", ()),
        ("t", ()),
        ("-", ()),
    ],
)
def test_a_part_of_a_name_that_begins_with_a_word_names_the_whole(
    part: str, near: tuple[str, ...]
) -> None:
    catalog = Catalog(
        [
            ModelSpec("piper-en-us-joe-medium", "piper", aliases=("en_US-joe-medium",)),
            ModelSpec("piper-en-us-amy-low", "piper", aliases=("en_US-amy-low",)),
            ModelSpec("tone-440", "tone"),
        ]
    )
    assert catalog.near(part) == near


@pytest.mark.parametrize("name", ["", "x" * 201, "\0", "☃"])
def test_a_name_that_is_like_nothing_has_no_near_ones(name: str) -> None:
    catalog = Catalog([ModelSpec("amy", "tone")])
    assert catalog.near(name) == ()
    with pytest.raises(ModelNotFoundError, match="greenroom ls"):
        catalog.get(name)


@pytest.mark.parametrize(
    "name",
    [
        "piper-../../secret",
        "../secret",
        "piper/en-us-joe-medium",
        "/etc/passwd",
        "piper-en-us-joe-medium/../x",
        "piper-en-us-joe-medium\0",
        "Piper-En-Us-Joe-Medium",
        " piper-en-us-joe-medium",
    ],
)
def test_an_id_is_looked_up_and_never_joined_to_a_path(tmp_path: Path, name: str) -> None:
    put_voice(tmp_path / "secret", "secret")
    put_pack(tmp_path / "voicepacks", "en-us-joe-medium")
    with pytest.raises(ModelNotFoundError):
        discovered(tmp_path / "voicepacks").get(name)


# Discovery


def test_both_names_of_a_voice_in_pipers_naming_find_it(tmp_path: Path) -> None:
    model = put_voice(tmp_path / "en" / "en_US" / "joe" / "medium", "en_US-joe-medium")
    catalog = discovered(tmp_path)
    spec = catalog.get("piper-en-us-joe-medium")
    assert catalog.get("en_US-joe-medium") is spec
    assert (spec.path, spec.adapter, spec.languages) == (model, "piper", ("en-US",))


def test_a_pack_is_named_after_its_folder(tmp_path: Path) -> None:
    pack = put_pack(tmp_path, "en-us-joe-medium")
    (spec,) = discovered(tmp_path)
    assert (spec.model_id, spec.path) == ("piper-en-us-joe-medium", pack / "model.onnx")
    assert spec.aliases == ()
    assert spec.languages == ("en-US",)


def test_a_pack_with_a_file_in_pipers_naming_has_both_names(tmp_path: Path) -> None:
    put_pack(tmp_path, "german", file="de_DE-thorsten-high")
    catalog = discovered(tmp_path)
    assert catalog.get("de_DE-thorsten-high").model_id == "piper-german"
    assert catalog.get("piper-german").languages == ("de-DE",)


def test_a_pack_of_no_known_language_has_none(tmp_path: Path) -> None:
    put_pack(tmp_path, "robot")
    assert discovered(tmp_path).get("piper-robot").languages == ()


def test_a_pack_says_more_about_itself_in_its_metadata(tmp_path: Path) -> None:
    put_pack(
        tmp_path,
        "joe",
        "languages: [en-GB, en-US]\ntags: [warm]\nfootprint_mb: 120\nttl_ms: 0\n"
        "options: {speed: 0.9}\naliases: [uncle]\n",
    )
    spec = discovered(tmp_path).get("uncle")
    assert spec.languages == ("en-GB", "en-US")
    assert (spec.tags, spec.footprint_mb, spec.ttl_ms) == (("warm",), 120.0, 0)
    assert spec.options == {"speed": 0.9}


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ("a: [", "line 1: is not YAML"),
        ("- a", "must be a mapping"),
        ("colour: red", "colour: is not a key"),
        ("languages: en", "languages: must be a list"),
        ("aliases: uncle", "aliases: must be a list"),
        ("footprint_mb: large", "footprint_mb: must be a valid number"),
        ("options: fast", "options: must be a mapping"),
        ("options: {sped: 2}", "option 'sped' is not known"),
        ("options: {speed: 99}", "option 'speed' must be a number"),
        ("aliases: ['two words']", "printable and without spaces"),
        ("tags: [1, 1]", "tags[0]: must be a valid string"),
    ],
)
def test_a_pack_with_bad_metadata_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, metadata: str, words: str
) -> None:
    put_pack(tmp_path, "bad", metadata)
    put_pack(tmp_path, "good")
    assert ids(discovered(tmp_path)) == ["piper-good"]
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "left out" in record.getMessage()
    assert words in record.getMessage()
    assert "bad" in record.getMessage()


def test_a_file_without_its_json_is_no_voice(tmp_path: Path) -> None:
    put_voice(tmp_path, "detector", settings=False)
    assert ids(discovered(tmp_path)) == []


def test_places_that_are_not_there_have_no_voices(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert ids(discovered(tmp_path / "nothing", tmp_path / "file")) == []


def test_files_too_deep_below_a_place_are_not_looked_for(tmp_path: Path) -> None:
    put_voice(tmp_path.joinpath(*"abcdef"), "en_US-deep-low")
    put_voice(tmp_path.joinpath(*"abcdefg"), "en_US-deeper-low")
    assert ids(discovered(tmp_path)) == ["piper-en-us-deep-low"]


def test_of_two_voices_of_one_id_the_first_found_counts(tmp_path: Path) -> None:
    first = put_voice(tmp_path / "1", "en_US-joe-medium")
    put_voice(tmp_path / "2", "en_US-joe-medium")
    (spec,) = discovered(tmp_path / "1", tmp_path / "2")
    assert spec.path == first


def test_an_id_is_never_taken_by_somebody_elses_alias(tmp_path: Path) -> None:
    put_voice(tmp_path / "1", "piper-en-us-joe-medium")
    joe = put_voice(tmp_path / "2", "en_US-joe-medium")
    assert discovered(tmp_path / "1", tmp_path / "2").get("piper-en-us-joe-medium").path == joe


def test_an_alias_of_two_voices_is_the_first_ones(tmp_path: Path) -> None:
    put_pack(tmp_path, "one", "aliases: [uncle]")
    put_pack(tmp_path, "two", "aliases: [uncle, aunt]")
    catalog = discovered(tmp_path)
    assert catalog.get("uncle").model_id == "piper-one"
    assert catalog.get("aunt").model_id == "piper-two"


def test_the_installed_voice_is_found_without_configuration() -> None:
    spec = Catalog.discover().get("en_US-joe-medium")
    assert spec.model_id == "piper-en-us-joe-medium"
    assert Path(str(spec.path)).is_file()


def test_discovery_has_the_same_order_every_time(tmp_path: Path) -> None:
    for name in ("fr_FR-b-low", "de_DE-a-low", "en_US-c-low"):
        put_voice(tmp_path, name)
    assert ids(discovered(tmp_path)) == sorted(ids(discovered(tmp_path)))


def test_an_adapter_that_cannot_be_imported_does_not_hide_the_others(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    points = [
        EntryPoint("broken", "no_such_module_here:Adapter", registry.GROUP),
        EntryPoint("empty", "json:NoSuchAdapter", registry.GROUP),
        EntryPoint("tone", "greenroom.adapters.tone:ToneTTSAdapter", registry.GROUP),
    ]

    def found(**given: Any) -> EntryPoints:
        return EntryPoints(points).select(**given)

    monkeypatch.setattr(registry, "entry_points", found)
    registry.refresh()
    request.addfinalizer(registry.refresh)
    config = load_config(overrides={"model_manager": {"default_model_id": "tone-440"}})
    assert "tone-440" in Catalog.from_config(config)
    assert [r.getMessage().split("'")[1] for r in caplog.records] == ["broken", "empty"]
    with pytest.raises(ConfigError, match=r"models\.x\.adapter: adapter 'broken'"):
        configured(tmp_path, {"model_id": "x", "adapter": "broken"})


# What the configuration adds


def test_a_model_of_the_configuration_comes_after_what_was_found(tmp_path: Path) -> None:
    put_voice(tmp_path, "en_US-joe-medium")
    catalog = configured(tmp_path, {"model_id": "beep", "adapter": "tone", "device": "gpu"})
    assert ids(catalog)[0] == "piper-en-us-joe-medium"
    assert ids(catalog)[-1] == "beep"
    assert catalog.get("beep").device == "gpu"
    assert catalog.get("piper-en-us-joe-medium").device == "cpu"


def test_a_variant_is_the_same_file_with_its_own_settings(tmp_path: Path) -> None:
    put_pack(tmp_path, "joe", "options: {speed: 1.1, volume: 0.5}\ntags: [warm]\nttl_ms: 5")
    catalog = configured(
        tmp_path,
        {
            "model_id": "slow-joe",
            "variant_of": "piper-joe",
            "options": {"speed": 0.8},
            "ttl_ms": 0,
            "device": "cuda",
            "languages": ["en-IE"],
            "aliases": ["slow"],
        },
    )
    joe, slow = catalog.get("piper-joe"), catalog.get("slow")
    assert (slow.path, slow.adapter, slow.tags) == (joe.path, "piper", ("warm",))
    assert slow.options == {"speed": 0.8, "volume": 0.5}
    assert (slow.ttl_ms, slow.device, slow.languages) == (0, "cuda:0", ("en-IE",))
    assert joe.options == {"speed": 1.1, "volume": 0.5}


def test_a_variant_may_name_its_original_by_an_alias_or_an_earlier_variant(tmp_path: Path) -> None:
    put_voice(tmp_path, "en_US-joe-medium")
    catalog = configured(
        tmp_path,
        {"model_id": "a", "variant_of": "en_US-joe-medium", "options": {"speed": 2.0}},
        {"model_id": "b", "variant_of": "a", "options": {"volume": 0.1}},
    )
    assert catalog.get("b").options == {"speed": 2.0, "volume": 0.1}
    assert catalog.get("en_US-joe-medium").model_id == "piper-en-us-joe-medium"


def test_a_variant_under_the_same_id_takes_the_place_of_what_was_found(tmp_path: Path) -> None:
    put_voice(tmp_path, "en_US-joe-medium")
    name = "piper-en-us-joe-medium"
    catalog = configured(tmp_path, {"model_id": name, "variant_of": name, "ttl_ms": -1})
    assert ids(catalog).count(name) == 1
    assert catalog.get("en_US-joe-medium").ttl_ms == -1


def test_a_name_given_in_the_configuration_wins_over_one_that_was_found(tmp_path: Path) -> None:
    model = put_voice(tmp_path, "en_US-joe-medium")
    own = {"model_id": "en_US-joe-medium", "adapter": "piper", "path": str(model), "ttl_ms": 1}
    alias = {"model_id": "b", "variant_of": "tone-440", "aliases": ["en_US-joe-medium"]}
    assert configured(tmp_path, own).get("en_US-joe-medium").ttl_ms == 1
    assert configured(tmp_path, alias).get("en_US-joe-medium").model_id == "b"


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([{"model_id": "x", "adapter": "nobody"}], "models.x.adapter: no adapter is registered"),
        ([{"model_id": "x", "variant_of": "piper-jo"}], "models.x.variant_of: model 'piper-jo'"),
        ([{"model_id": "x", "variant_of": "piper-jo"}], "did you mean piper-joe?"),
        ([{"model_id": "x", "variant_of": "x"}], "models.x.variant_of: "),
        (
            [{"model_id": "x", "variant_of": "tone-440", "options": {"pitch": 2}}],
            "models.x.options: option 'pitch' is not known",
        ),
        (
            [{"model_id": "x", "adapter": "tone"}, {"model_id": "x", "adapter": "tone"}],
            "models.x: is there twice; rename one.",
        ),
        (
            [{"model_id": "x", "adapter": "tone", "aliases": ["piper-joe"]}],
            "alias 'piper-joe' of 'x' already means 'piper-joe'",
        ),
        (
            [
                {"model_id": "x", "adapter": "tone", "aliases": ["z"]},
                {"model_id": "y", "adapter": "tone", "aliases": ["z"]},
            ],
            "alias 'z' of 'y' already means 'x'",
        ),
    ],
)
def test_a_model_that_cannot_work_is_refused(
    tmp_path: Path, models: list[dict[str, Any]], words: str
) -> None:
    put_pack(tmp_path, "joe")
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, *models)
    assert words in str(caught.value)


def test_every_model_that_cannot_work_is_named(tmp_path: Path) -> None:
    bad = [{"model_id": name, "adapter": "nobody"} for name in "abc"]
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, *bad)
    assert [problem[:8] for problem in caught.value.problems] == [
        "models.a",
        "models.b",
        "models.c",
    ]


def test_classes_may_be_given_in_the_place_of_names() -> None:
    catalog = Catalog([ModelSpec("beep", ToneTTSAdapter)])
    assert registry.resolve(catalog.get("beep").adapter) is ToneTTSAdapter
