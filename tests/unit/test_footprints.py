"""Footprints: measured is better than stated, stated better than guessed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from greenroom import ModelSpec
from greenroom import footprints as footprints_module
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.footprints import Footprints
from greenroom.memory import MIB, Usage, resident_bytes, trim


def known(specs: list[ModelSpec], path: Path) -> Footprints:
    footprints = Footprints(specs, path)
    footprints.read()
    return footprints


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    file = tmp_path / "voice.onnx"
    file.write_bytes(bytes(1_000))
    return ModelSpec("a", ToneTTSAdapter, file)


def test_an_unmeasured_model_is_estimated_from_its_file(spec: ModelSpec, tmp_path: Path) -> None:
    assert known([spec], tmp_path / "f.json").expected(spec) == 3_000


def test_a_folder_counts_all_its_files(spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "pack" / "deep").mkdir(parents=True)
    (tmp_path / "pack" / "deep" / "weights").write_bytes(bytes(500))
    folder = replace(spec, path=tmp_path / "pack")
    assert known([folder], tmp_path / "f.json").expected(folder) == 1_500


@pytest.mark.parametrize("path", [None, "/no/such/file"])
def test_a_model_without_a_file_is_estimated_as_nothing(path: str | None, tmp_path: Path) -> None:
    spec = ModelSpec("a", ToneTTSAdapter, path)
    assert known([spec], tmp_path / "f.json").expected(spec) == 0


def test_the_catalogs_figure_comes_before_the_estimate(spec: ModelSpec, tmp_path: Path) -> None:
    stated = replace(spec, footprint_mb=2.5)
    assert known([stated], tmp_path / "f.json").expected(stated) == int(2.5 * MIB)


def test_a_measurement_comes_first_and_is_remembered(spec: ModelSpec, tmp_path: Path) -> None:
    stated = replace(spec, footprint_mb=2.5)
    footprints = known([stated], tmp_path / "deep" / "f.json")
    assert footprints.record(stated, Usage(9 * MIB)) == 9 * MIB
    assert footprints.expected(stated) == 9 * MIB
    footprints.write()
    assert known([stated], tmp_path / "deep" / "f.json").expected(stated) == 9 * MIB
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["f.json"]


def test_the_largest_of_the_latest_measurements_counts(spec: ModelSpec, tmp_path: Path) -> None:
    footprints = known([spec], tmp_path / "f.json")
    booked = [footprints.record(spec, Usage(size * MIB)) for size in (180, 5, 4, 3, 2, 9)]
    assert booked == [size * MIB for size in (180, 180, 180, 5, 4, 9)]


def test_mapped_memory_is_remembered_apart_and_never_booked(
    spec: ModelSpec, tmp_path: Path
) -> None:
    footprints = known([spec], tmp_path / "f.json")
    assert footprints.mapped(spec) == 0
    footprints.record(spec, Usage(9 * MIB, 60 * MIB))
    footprints.record(spec, Usage(8 * MIB, -1))
    footprints.write()
    again = known([spec], tmp_path / "f.json")
    assert (again.expected(spec), again.mapped(spec)) == (9 * MIB, 60 * MIB)


@pytest.mark.parametrize("noise", [-5 * MIB, 0, MIB - 1])
def test_a_measurement_within_the_noise_counts_as_the_noise(
    spec: ModelSpec, tmp_path: Path, noise: int
) -> None:
    footprints = known([replace(spec, footprint_mb=180)], tmp_path / "f.json")
    assert footprints.record(spec, Usage(noise)) == MIB
    assert footprints.expected(spec) == MIB


def test_what_a_model_states_replaces_what_was_measured(spec: ModelSpec, tmp_path: Path) -> None:
    footprints = known([spec], tmp_path / "f.json")
    footprints.record(spec, Usage(180 * MIB, 5))
    assert footprints.state(spec, Usage(1_000, 2_000)) == 1_000
    footprints.write()
    again = known([spec], tmp_path / "f.json")
    assert (again.expected(spec), again.mapped(spec)) == (1_000, 2_000)


def test_an_unload_that_gives_back_more_corrects_the_latest_measurement(
    spec: ModelSpec, tmp_path: Path
) -> None:
    footprints = known([spec], tmp_path / "f.json")
    footprints.outgrown(spec, 200 * MIB)
    assert footprints.expected(spec) == 3_000
    footprints.record(spec, Usage(90 * MIB, 7))
    footprints.write()
    footprints.outgrown(spec, 80 * MIB)
    assert footprints.expected(spec) == 90 * MIB
    footprints.outgrown(spec, 150 * MIB)
    footprints.write()
    again = known([spec], tmp_path / "f.json")
    assert (again.expected(spec), again.mapped(spec)) == (150 * MIB, 7)
    assert [again.record(spec, Usage(5 * MIB)) // MIB for _ in range(3)] == [150, 150, 5]


def test_an_unload_does_not_correct_what_a_model_states(spec: ModelSpec, tmp_path: Path) -> None:
    footprints = known([spec], tmp_path / "f.json")
    footprints.state(spec, Usage(5 * MIB))
    footprints.outgrown(spec, 150 * MIB)
    assert footprints.expected(spec) == 5 * MIB


def test_what_is_stated_again_is_not_written_again(spec: ModelSpec, tmp_path: Path) -> None:
    footprints = known([spec], tmp_path / "f.json")
    footprints.state(spec, Usage(1_000, 2_000))
    footprints.write()
    (tmp_path / "f.json").unlink()
    footprints.state(spec, Usage(1_000, 2_000))
    footprints.write()
    assert not (tmp_path / "f.json").exists()


def test_a_record_of_the_first_version_is_one_measurement(spec: ModelSpec, tmp_path: Path) -> None:
    footprints = known([spec], tmp_path / "f.json")
    key = footprints._key_of(spec)
    (tmp_path / "f.json").write_text(json.dumps({key: 180 * MIB}))
    old = known([spec], tmp_path / "f.json")
    assert (old.expected(spec), old.mapped(spec)) == (180 * MIB, 0)
    assert [old.record(spec, Usage(5 * MIB)) // MIB for _ in range(3)] == [180, 180, 5]


@pytest.mark.parametrize(
    "entry", ["much", -1, True, None, [], [7], [{}], [{"anonymous": 1, "mapped": -1}], {"a": 1}]
)
def test_an_entry_that_makes_no_sense_is_as_good_as_none(
    spec: ModelSpec, tmp_path: Path, entry: object
) -> None:
    key = known([spec], tmp_path / "f.json")._key_of(spec)
    (tmp_path / "f.json").write_text(json.dumps({key: entry}))
    footprints = known([spec], tmp_path / "f.json")
    assert footprints.expected(spec) == 3_000
    assert footprints.record(spec, Usage(5 * MIB)) == 5 * MIB


def test_another_file_or_other_options_are_another_model(spec: ModelSpec, tmp_path: Path) -> None:
    footprints = known([spec], tmp_path / "f.json")
    footprints.record(spec, Usage(9 * MIB))
    footprints.write()
    other = replace(spec, options={"threads": 2})
    assert known([other], tmp_path / "f.json").expected(other) == 3_000
    Path(str(spec.path)).write_bytes(bytes(2_000))
    assert known([spec], tmp_path / "f.json").expected(spec) == 6_000


@pytest.mark.parametrize("content", ["", "[]", '{"a@x": "much", "b": -1, "c": true}', "\0", "{"])
def test_a_record_that_cannot_be_read_is_as_good_as_none(
    spec: ModelSpec, tmp_path: Path, content: str
) -> None:
    (tmp_path / "f.json").write_text(content)
    assert known([spec], tmp_path / "f.json").expected(spec) == 3_000


def test_a_record_that_cannot_be_written_is_one_warning(
    spec: ModelSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    footprints = known([spec], tmp_path / "file" / "f.json")
    footprints.record(spec, Usage(9 * MIB))
    footprints.write()
    assert "footprints are not remembered" in caplog.text


def test_trimming_gives_freed_memory_back() -> None:
    blocks = [bytearray(1_000) for _ in range(100_000)]
    full = resident_bytes()
    blocks.clear()
    trim()
    assert resident_bytes() < full - 50_000_000


def test_only_models_that_are_loaded_cost_more_than_a_look_at_their_file(
    spec: ModelSpec, tmp_path: Path
) -> None:
    class Options(dict[str, float]):
        read = 0

        def items(self) -> Any:
            Options.read += 1
            return super().items()

    specs = [replace(spec, model_id=f"m{number}", options=Options(x=1.0)) for number in range(50)]
    footprints = known(specs, tmp_path / "f.json")
    assert Options.read == 0
    for _ in range(3):
        footprints.expected(specs[7])
    assert Options.read == 1


def test_a_model_whose_path_is_any_folder_is_looked_at_in_bounded_time(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (tmp_path / f"part-{number}").write_bytes(bytes(100))
    monkeypatch.setattr(footprints_module, "FILES_LOOKED_AT", 3)
    folder = replace(spec, path=tmp_path)
    assert known([folder], tmp_path / "f.json").expected(folder) <= 3 * 1_000 * 3


@pytest.mark.parametrize("content", ["[" * 100_000, "\0", "{", '{"a": ' * 5_000, "1" * 5_000])
def test_records_that_cannot_be_read_are_as_good_as_none(
    spec: ModelSpec, tmp_path: Path, content: str
) -> None:
    (tmp_path / "f.json").write_text(content)
    assert known([spec], tmp_path / "f.json").expected(spec) == 3_000
