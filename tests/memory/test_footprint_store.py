"""FootprintStore: measured is better than stated, stated better than guessed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from greenroom import ModelSpec
from greenroom.adapter import Preparation
from greenroom.adapters.stated import form_of
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.memory import footprint_store as footprints_module
from greenroom.memory.footprint_store import FootprintStore
from greenroom.memory.heap import malloc_trim
from greenroom.memory.usage import MIB, Usage, resident_bytes


def known(specs: list[ModelSpec], path: Path) -> FootprintStore:
    footprints = FootprintStore(path)
    footprints.read()
    for spec in specs:
        footprints.inspect(spec)
    return footprints


def expected(footprints: FootprintStore, spec: ModelSpec) -> int:
    return footprints.expected(spec).footprint


def load(
    footprints: FootprintStore,
    spec: ModelSpec,
    megabytes: float,
    *,
    form: str = "",
    alone: bool = False,
) -> int:
    return footprints.add_measurement(spec, form, Usage(int(megabytes * MIB)), alone=alone)


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    file = tmp_path / "voice.onnx"
    file.write_bytes(bytes(1_000))
    return ModelSpec("a", ToneTTSAdapter, file)


def test_an_unmeasured_model_is_estimated_from_its_file(spec: ModelSpec, tmp_path: Path) -> None:
    assert expected(known([spec], tmp_path / "f.json"), spec) == 3_000


def test_a_folder_counts_all_its_files(spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "pack" / "deep").mkdir(parents=True)
    (tmp_path / "pack" / "deep" / "weights").write_bytes(bytes(500))
    folder = replace(spec, path=tmp_path / "pack")
    assert expected(known([folder], tmp_path / "f.json"), folder) == 1_500


@pytest.mark.parametrize("path", [None, "/no/such/file"])
def test_a_model_without_a_file_is_estimated_as_nothing(path: str | None, tmp_path: Path) -> None:
    spec = ModelSpec("a", ToneTTSAdapter, path)
    assert expected(known([spec], tmp_path / "f.json"), spec) == 0


def test_the_catalogs_figure_comes_before_the_estimate(spec: ModelSpec, tmp_path: Path) -> None:
    stated = replace(spec, footprint_mb=2.5)
    assert expected(known([stated], tmp_path / "f.json"), stated) == int(2.5 * MIB)


def test_a_measurement_comes_first_and_is_remembered(spec: ModelSpec, tmp_path: Path) -> None:
    stated = replace(spec, footprint_mb=2.5)
    footprints = known([stated], tmp_path / "deep" / "f.json")
    assert load(footprints, stated, 9) == 9 * MIB
    assert expected(footprints, stated) == 9 * MIB
    footprints.write()
    assert expected(known([stated], tmp_path / "deep" / "f.json"), stated) == 9 * MIB
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["f.json"]


def test_the_middle_one_of_the_latest_measurements_counts(spec: ModelSpec, tmp_path: Path) -> None:
    footprints = known([spec], tmp_path / "f.json")
    booked = [load(footprints, spec, size) // MIB for size in (180, 5, 984, 4, 3, 2, 9)]
    assert booked == [180, 5, 180, 5, 4, 3, 3]


def test_mapped_memory_is_remembered_apart_and_never_booked(
    spec: ModelSpec, tmp_path: Path
) -> None:
    footprints = known([spec], tmp_path / "f.json")
    assert footprints.mapped(spec, "") == 0
    footprints.add_measurement(spec, "", Usage(9 * MIB, 60 * MIB), alone=False)
    footprints.add_measurement(spec, "", Usage(9 * MIB, -1), alone=False)
    footprints.write()
    again = known([spec], tmp_path / "f.json")
    assert (expected(again, spec), again.mapped(spec, "")) == (9 * MIB, 60 * MIB)


@pytest.mark.parametrize("noise", [-5 * MIB, 0, MIB - 1])
def test_a_measurement_within_the_noise_counts_as_the_noise(
    spec: ModelSpec, tmp_path: Path, noise: int
) -> None:
    footprints = known([replace(spec, footprint_mb=180)], tmp_path / "f.json")
    assert footprints.add_measurement(spec, "", Usage(noise), alone=False) == MIB
    assert expected(footprints, spec) == MIB


def test_what_a_model_states_comes_before_what_was_measured(
    spec: ModelSpec, tmp_path: Path
) -> None:
    footprints = known([spec], tmp_path / "f.json")
    footprints.add_measurement(spec, "", Usage(180 * MIB, 5), alone=False)
    assert footprints.set_stated(spec, "", Usage(1_000, 2_000)) == 1_000
    footprints.write()
    again = known([spec], tmp_path / "f.json")
    assert (expected(again, spec), again.mapped(spec, "")) == (1_000, 2_000)


def test_an_unload_that_gives_back_less_corrects_the_latest_measurement(
    spec: ModelSpec, tmp_path: Path
) -> None:
    footprints = known([spec], tmp_path / "f.json")
    footprints.correct_last(spec, "", 200 * MIB)
    assert expected(footprints, spec) == 3_000
    load(footprints, spec, 900)
    footprints.write()
    footprints.correct_last(spec, "", 100 * MIB)
    assert expected(footprints, spec) == 100 * MIB
    footprints.write()
    assert expected(known([spec], tmp_path / "f.json"), spec) == 100 * MIB


def test_what_speaking_added_is_not_taken_for_what_a_load_needs(
    spec: ModelSpec, tmp_path: Path
) -> None:
    footprints = known([spec], tmp_path / "f.json")
    load(footprints, spec, 100)
    footprints.correct_last(spec, "", 984 * MIB)
    assert expected(footprints, spec) == 100 * MIB


class StatedForm(Preparation):
    """Prepares nothing; says which form comes next, or raises."""

    def __init__(self, form: str | Exception) -> None:
        self.form = form

    def is_prepared(self, spec: ModelSpec) -> bool | None:
        return None

    def command(self, spec: ModelSpec) -> Sequence[str]:
        raise NotImplementedError

    def next_form(self, spec: ModelSpec) -> str:
        if isinstance(self.form, Exception):
            raise self.form
        return self.form


def test_each_form_of_a_model_has_a_record_of_its_own(tmp_path: Path) -> None:
    stated = StatedForm("own file")

    class Twofold(ToneTTSAdapter):
        preparation: ClassVar[Preparation | None] = stated

    spec = ModelSpec("a", Twofold, footprint_mb=7)
    footprints = known([spec], tmp_path / "f.json")
    load(footprints, spec, 984, form="own file")
    assert expected(footprints, spec) == 984 * MIB
    stated.form = "prepared"
    footprints.inspect(spec)
    assert expected(footprints, spec) == 7 * MIB
    load(footprints, spec, 58, form="prepared")
    footprints.write()
    assert expected(known([spec], tmp_path / "f.json"), spec) == 58 * MIB


def test_an_adapter_that_cannot_say_its_form_has_one(tmp_path: Path) -> None:
    class Broken(ToneTTSAdapter):
        preparation: ClassVar[Preparation | None] = StatedForm(OSError("libcuda.so is missing"))

    spec = ModelSpec("a", Broken, footprint_mb=7)
    assert expected(known([spec], tmp_path / "f.json"), spec) == 7 * MIB


def test_only_the_catalogs_word_and_loads_with_nothing_else_in_memory_are_certain(
    spec: ModelSpec, tmp_path: Path
) -> None:
    footprints = known([spec], tmp_path / "f.json")
    assert footprints.expected(spec).least == 0
    for size, alone, least in ((900, False, 0), (800, True, 0), (850, True, 800 * MIB)):
        load(footprints, spec, size, alone=alone)
        assert footprints.expected(spec).least == least
    footprints.set_stated(spec, "", Usage(1_000))
    assert footprints.expected(spec).least == 800 * MIB
    stated = replace(spec, model_id="b", footprint_mb=2.5)
    footprints.inspect(stated)
    assert footprints.expected(stated).least is None


def test_a_model_that_could_not_be_looked_at_is_expected_to_take_nothing(
    spec: ModelSpec, tmp_path: Path
) -> None:
    footprints = FootprintStore(tmp_path / "f.json")
    assert expected(footprints, spec) == 0
    assert load(footprints, spec, 9) == 9 * MIB


def test_a_model_is_looked_at_again_when_it_may_have_changed(
    spec: ModelSpec, tmp_path: Path
) -> None:
    footprints = known([spec], tmp_path / "f.json")
    assert footprints.is_current(spec)
    footprints.mark_stale(spec)
    assert not footprints.is_current(spec)
    assert expected(footprints, spec) == 3_000
    footprints.inspect(spec)
    assert footprints.is_current(spec)


def test_what_another_process_measured_meanwhile_is_kept(spec: ModelSpec, tmp_path: Path) -> None:
    other = replace(spec, model_id="b")
    ours, theirs = (known([spec, other], tmp_path / "f.json") for _ in range(2))
    load(ours, spec, 9)
    load(theirs, other, 8)
    ours.write()
    theirs.write()
    again = known([spec, other], tmp_path / "f.json")
    assert (expected(again, spec), expected(again, other)) == (9 * MIB, 8 * MIB)


def test_a_forgotten_record_stays_forgotten_when_a_process_that_knew_it_ends(
    spec: ModelSpec, tmp_path: Path
) -> None:
    other = replace(spec, model_id="b")
    first = known([spec, other], tmp_path / "f.json")
    load(first, spec, 984)
    load(first, other, 5)
    first.write()
    worker = known([spec, other], tmp_path / "f.json")
    load(worker, other, 5)
    assert FootprintStore(tmp_path / "f.json").forget(["a", "nobody"]) == 1
    worker.write()
    again = known([spec, other], tmp_path / "f.json")
    assert (expected(again, spec), expected(again, other)) == (3_000, 5 * MIB)
    assert again.forget() == 1
    assert again.records() == []


def test_what_is_stated_again_is_not_written_again(spec: ModelSpec, tmp_path: Path) -> None:
    footprints = known([spec], tmp_path / "f.json")
    footprints.set_stated(spec, "", Usage(1_000, 2_000))
    footprints.write()
    (tmp_path / "f.json").unlink()
    footprints.set_stated(spec, "", Usage(1_000, 2_000))
    footprints.write()
    assert not (tmp_path / "f.json").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"model_id": 7},
        {"form": None},
        {"measured": None},
        {"measured": [{"anonymous": -1}]},
        {"measured": [{"anonymous": True}]},
        {"measured": [{"anonymous": "much"}]},
        {"measured": [{"anonymous": 1, "mapped": -1}]},
        {"stated": {"anonymous": 1.5}},
    ],
)
def test_a_record_that_makes_no_sense_is_as_good_as_none(
    spec: ModelSpec, tmp_path: Path, change: dict[str, object]
) -> None:
    footprints = known([spec], tmp_path / "f.json")
    load(footprints, spec, 9)
    footprints.write()
    (record,) = json.loads((tmp_path / "f.json").read_text())
    (tmp_path / "f.json").write_text(json.dumps([record | change]))
    again = known([spec], tmp_path / "f.json")
    assert expected(again, spec) == 3_000
    assert load(again, spec, 5) == 5 * MIB


def test_another_file_or_other_options_are_another_model(spec: ModelSpec, tmp_path: Path) -> None:
    footprints = known([spec], tmp_path / "f.json")
    load(footprints, spec, 9)
    footprints.write()
    other = replace(spec, options={"threads": 2})
    assert expected(known([other], tmp_path / "f.json"), other) == 3_000
    Path(str(spec.path)).write_bytes(bytes(2_000))
    assert expected(known([spec], tmp_path / "f.json"), spec) == 6_000


@pytest.mark.parametrize("content", ["", "[]", '{"a@x": "much", "b": -1, "c": true}', "\0", "{"])
def test_a_record_that_cannot_be_read_is_as_good_as_none(
    spec: ModelSpec, tmp_path: Path, content: str
) -> None:
    (tmp_path / "f.json").write_text(content)
    assert expected(known([spec], tmp_path / "f.json"), spec) == 3_000


def test_a_record_that_cannot_be_written_is_one_warning(
    spec: ModelSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    footprints = known([spec], tmp_path / "file" / "f.json")
    load(footprints, spec, 9)
    footprints.write()
    assert "footprints are not remembered" in caplog.text


def test_trimming_gives_freed_memory_back() -> None:
    blocks = [bytearray(1_000) for _ in range(100_000)]
    full = resident_bytes()
    blocks.clear()
    malloc_trim()
    assert resident_bytes() < full - 50_000_000


def test_a_model_whose_path_is_any_folder_is_looked_at_in_bounded_time(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (tmp_path / f"part-{number}").write_bytes(bytes(100))
    monkeypatch.setattr(footprints_module, "MAX_FILES_COUNTED", 3)
    folder = replace(spec, path=tmp_path)
    assert expected(known([folder], tmp_path / "f.json"), folder) <= 3 * 1_000 * 3


@pytest.mark.parametrize("content", ["[" * 100_000, "\0", "{", '{"a": ' * 5_000, "1" * 5_000])
def test_records_that_cannot_be_read_are_as_good_as_none(
    spec: ModelSpec, tmp_path: Path, content: str
) -> None:
    (tmp_path / "f.json").write_text(content)
    assert expected(known([spec], tmp_path / "f.json"), spec) == 3_000


@pytest.mark.parametrize("raised", [OSError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_adapter_that_raises_anything_when_asked_for_its_form_has_one(
    raised: type[BaseException],
) -> None:
    class Broken(ToneTTSAdapter):
        @property
        def form(self) -> str:
            raise raised

    assert form_of(Broken(ModelSpec("a", Broken))) == ""


def test_a_pipe_in_the_place_of_the_records_is_as_good_as_none(
    spec: ModelSpec, tmp_path: Path
) -> None:
    path = tmp_path / "f.json"
    os.mkfifo(path)
    assert expected(known([spec], path), spec) == 3_000


def test_what_is_measured_while_the_records_are_read_is_kept(
    spec: ModelSpec, tmp_path: Path
) -> None:
    path = tmp_path / "f.json"
    footprints = known([spec], path)
    load(footprints, spec, 100)
    footprints.read()
    assert expected(footprints, spec) == 100 * MIB
    footprints.write()
    assert expected(known([spec], path), spec) == 100 * MIB
