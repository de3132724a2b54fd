"""Published traces from a path: what each format tells, and what is left out of one with faults."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from greenroom.errors import TraceError
from greenroom.simulation.csv_trace import Assumptions, parse_assumptions
from greenroom.simulation.trace import DEFAULT_LOAD_S, Trace
from greenroom.simulation.trace_sources import read_trace

GENTD26 = "gmt_create,exec_time_seconds,checkpoint_model_version_id,num_lora"
AZURE = "func_name,invoke_time_ms"
SERVEGEN = "client,window_start_s,rate_per_s,cv,family,p1,p2"
HOLES, BACK = "rows with a hole or what is no number", "rows whose time runs back"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def read(folder: Path, *lines: str, name: str = "trace.csv", **assumed: float) -> Trace:
    file = folder / name
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_trace(str(file), Assumptions(**assumed))


def test_gentd26_has_a_model_for_each_base_model(folder: Path) -> None:
    found = read(
        folder,
        GENTD26,
        "2024-11-15 16:57:50,32.0,M0001,0",
        "2024-11-15 16:58:00,2.5,M0000,1",
        footprint_mb=2,
    )
    assert [model.model_id for model in found.models] == ["M0000", "M0001"]
    assert (found.at.tolist(), found.model.tolist()) == ([0.0, 10.0], [1, 0])
    assert found.speech_s.tolist() == [32.0, 2.5]
    assert (found.models[0].loads_s, found.models[0].footprint) == ((DEFAULT_LOAD_S,), 2 << 20)


def test_gentd26s_loads_are_drawn_from_the_file_beside_it(folder: Path) -> None:
    (folder / "a_basemodel_load_ms.csv").write_text("timestamp_anon,value\n1,2000\n2,\n3,4000\n")
    rows = (GENTD26, "2024-11-15 16:57:50,32.0,M0001,0")
    found = read(folder, *rows, name="a_lora_request_trace.csv")
    assert set(found.models[0].loads_s) == {2.0, 4.0}


def test_azures_cold_starts_are_loads(folder: Path) -> None:
    (folder / "metadata.csv").write_text(
        "func_name,cold_dur_ms,warm_dur_ms,mem_mb\nf,1500,250,3\ng,,100,\n"
    )
    found = read(folder, AZURE, "f,6", "g,51", "h,60", load_s=7, speech_s=5, footprint_mb=2)
    assert found.at.tolist() == [0.0, 0.045, 0.054]
    f, g, h = found.models
    assert (f.loads_s, f.footprint) == ((1.25,), 3 << 20)
    assert (g.loads_s, g.footprint) == ((7.0,), 2 << 20)
    assert h.loads_s == (7.0,)
    assert found.speech_s.tolist() == [0.25, 0.1, 5.0]


def test_servegens_clients_ask_at_the_rates_that_were_seen(folder: Path) -> None:
    rows = (
        "a/0,0,2.0,1,Gamma,0.5,9",
        "a/0,600,0.5,1,Weibull,0.4,9",
        "b/0,0,1.0,1,Weibull,1.0,9",
    )
    counts = np.array([0.0, 0.0, 0.0])
    for seed in range(20):
        found = read(folder, SERVEGEN, *rows, speech_s=4, seed=seed)
        first = found.at < 600
        counts += [
            ((found.model == 0) & first).sum(),
            ((found.model == 0) & ~first).sum(),
            (found.model == 1).sum(),
        ]
        assert np.all(np.diff(found.at) >= 0)
        assert found.at[-1] < 1200
    assert counts / 20 == pytest.approx([1200, 300, 600], rel=0.15)
    assert [model.model_id for model in found.models] == ["a/0", "b/0"]
    assert set(found.speech_s) == {4.0}
    fewer = read(folder, SERVEGEN, *rows, scale=0.1)
    assert len(fewer) == pytest.approx(210, rel=0.5)
    again = read(folder, SERVEGEN, *rows, scale=0.1)
    assert np.array_equal(again.at, fewer.at)


def test_only_so_many_hours_are_played(folder: Path) -> None:
    found = read(folder, AZURE, "f,0", "f,3600000", "f,7200000", hours=1.5)
    assert len(found) == 2
    rows = ("a,0,1,1,Gamma,1,1", "a,7200,1,1,Gamma,1,1")
    assert read(folder, SERVEGEN, *rows, hours=1).at[-1] < 600


def test_a_packed_file_is_read_like_any_other(folder: Path) -> None:
    (folder / "trace.csv.gz").write_bytes(gzip.compress(f"{AZURE}\nf,6\n".encode()))
    assert len(read_trace(str(folder / "trace.csv.gz"))) == 1


@pytest.mark.parametrize(
    ("head", "good", "bad", "counted"),
    [
        (GENTD26, "2024-11-15 16:57:50,32,M1,0", "2024-11-15 16:57:51,,M1,0", HOLES),
        (GENTD26, "2024-11-15 16:57:50,32,M1,0", "2024-11-15 16:57:51,32,,0", HOLES),
        (GENTD26, "2024-11-15 16:57:50,32,M1,0", "yesterday,32,M1,0", HOLES),
        (GENTD26, "2024-11-15 16:57:50,32,M1,0", "2024-11-15 16:57:51", HOLES),
        (GENTD26, "2024-11-15 16:57:50,32,M1,0", "2024-11-15 16:57:51,-3,M1,0", HOLES),
        (GENTD26, "2024-11-15 16:57:50,32,M1,0", "2024-11-15 16:57:49,32,M1,0", BACK),
        (AZURE, "f,6", "f,", HOLES),
        (AZURE, "f,6", ",7", HOLES),
        (AZURE, "f,6", "f,inf", HOLES),
        (AZURE, "f,6", "f,5", BACK),
        (SERVEGEN, "a,600,1,1,Gamma,1,1", "a,1200,1,1,Pareto,1,1", HOLES),
        (SERVEGEN, "a,600,1,1,Gamma,1,1", "a,1200,1,1,Gamma,0,1", HOLES),
        (SERVEGEN, "a,600,1,1,Gamma,1,1", "a,1200,,1,Gamma,1,1", HOLES),
        (SERVEGEN, "a,600,1,1,Gamma,1,1", "a,0,1,1,Gamma,1,1", BACK),
        (SERVEGEN, "a,600,1,1,Gamma,1,1", "a,600,1,1,Gamma,1,1", BACK),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out_and_counted(
    folder: Path, head: str, good: str, bad: str, counted: str
) -> None:
    found = read(folder, head, good, bad)
    assert dict(found.skipped) == {counted: 1}
    assert len(found) == len(read(folder, head, good))


def test_columns_that_are_not_known_change_nothing(folder: Path) -> None:
    found = read(folder, f"colour,{AZURE},weight", "red,f,6,7")
    assert ([model.model_id for model in found.models], len(found)) == (["f"], 1)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["func_name,when", "f,6"], "columns of no trace that is known"),
        ([AZURE], "no requests"),
        ([AZURE, "f,"], "no requests"),
        ([SERVEGEN], "no requests"),
        ([SERVEGEN, "a,0,1000000000,1,Gamma,1,1"], "assume fewer hours, or a smaller scale"),
        ([AZURE, "f," + "9" * 200_000], "it is no CSV"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_name(
    folder: Path, lines: list[str], said: str
) -> None:
    with pytest.raises(TraceError, match=said) as error:
        read(folder, *lines)
    assert str(folder / "trace.csv") in str(error.value)


def test_a_packed_file_that_is_cut_off_or_none_is_refused(folder: Path) -> None:
    file = folder / "trace.csv.gz"
    file.write_bytes(gzip.compress(b"func_name,invoke_time_ms\nf,6\n" * 50)[:-12])
    with pytest.raises(TraceError, match="cut off"):
        read_trace(str(file))
    file.write_bytes(b"func_name,invoke_time_ms\n")
    with pytest.raises(TraceError, match="incorrect header"):
        read_trace(str(file))


@pytest.mark.parametrize("value", ["many", "-1", "nan", "inf", ""])
def test_what_is_assumed_is_a_number(value: str) -> None:
    with pytest.raises(TraceError, match="load_s must be a number"):
        parse_assumptions([("load_s", value)])
