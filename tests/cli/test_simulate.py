"""`greenroom simulate`: several settings in a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from greenroom.cli import main

TRACE = "generate:models=10,rate=2,hours=0.02"


def test_each_of_the_settings_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", TRACE, "--vary", "resident_cap=2,10"]) == 0
    said = capsys.readouterr()
    head, two, ten = said.out.splitlines()
    assert head.split()[:4] == ["SETTINGS", "COLD", "LOADS", "OPTIMUM"]
    assert two.startswith("resident_cap=2 ")
    assert ten.split()[2:5] == ["10", "10", "0"]
    assert "requests for 10 models in 1m 1" in said.err


def test_settings_come_from_the_configuration_as_for_a_worker(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = ["--set", "model_manager.cap_policy=hard", "--set", "model_manager.ttl_ms=1000"]
    assert main(["simulate", TRACE, "--json", *settings]) == 0
    found = json.loads(capsys.readouterr().out)
    (column,) = found["columns"]
    assert column["name"] == "as configured"
    assert (column["settings"]["cap_policy"], column["settings"]["ttl_ms"]) == ("hard", 1000)
    assert column["outcome"]["requests"] == found["trace"]["requests"]
    assert column["outcome"]["most_residents"] <= 3


def test_the_comparison_is_drawn_with_every_figure_of_the_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "plot.svg"
    assert main(["simulate", TRACE, "--vary", "ttl_ms=0,900000", "--plot", str(file)]) == 0
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()[1:]]
    drawing = ElementTree.parse(file)
    texts = {element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")}
    for row in rows:
        cells = [cell.strip() for cell in row if cell.strip()]
        name, cold, loads, _, refused, _, _, _, p99, _, _, memory = cells
        assert {name, cold, loads, refused, p99, memory} <= texts


def test_a_plot_that_cannot_be_written_is_an_error_of_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["simulate", TRACE, "--plot", str(tmp_path / "none" / "plot.svg")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_what_a_published_trace_does_not_tell_can_be_assumed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("func_name,invoke_time_ms\nf,0\nf,9000\ng,\n")
    assert main(["simulate", str(file), "--assume", "load_s=2.5"]) == 0
    said = capsys.readouterr()
    assert "2.500 s" in said.out
    assert "left out: 1 rows with a hole" in said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate:rat=1"], "knows no 'rat'"),
        ([TRACE, "--assume", "colour=1"], "'colour'"),
        ([TRACE, "--vary", "colour=1,2"], "does not obey 'colour'"),
        ([TRACE, "--vary", "resident_cap=many"], "model_manager.resident_cap"),
    ],
)
def test_what_cannot_be_simulated_is_an_error_of_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["simulate", *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_values_that_are_missing_are_a_wrong_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["simulate", TRACE, "--vary", "resident_cap"]) == 2
    assert "--vary takes KEY=VALUE,VALUE" in capsys.readouterr().err
