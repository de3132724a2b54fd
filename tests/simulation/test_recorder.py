"""What a worker's events become in a trace, and what becomes of a trace that is not whole."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenroom.errors import TraceError
from greenroom.ledger.state import Policy
from greenroom.simulation.recorder import Recorder
from greenroom.simulation.simulator import simulate
from greenroom.simulation.trace import DEFAULT_FOOTPRINT
from greenroom.simulation.trace_sources import read_trace

MODEL = {"name": "amy", "state": "ready", "footprint": 9, "device": "cpu", "pinned": True}


def entry(kind: str, model: str, at: float) -> tuple[str, dict[str, Any]]:
    return "journal", {"kind": kind, "model": model, "time": 100 + at}


def speech(
    model: str, at: float, waited: float, spoke: float, outcome: str = "finished"
) -> tuple[str, dict[str, Any]]:
    """Return the event of a request that came at `at`."""
    return "speech", {
        "model": model,
        "owner": "secret",
        "time": 100 + at + waited + spoke,
        "outcome": outcome,
        "waited_s": waited,
        "first_audio_s": waited + 0.1,
        "audio_s": spoke,
        "took_s": waited + spoke,
    }


EVENTS = [
    ("state", {"models": [MODEL]}),
    entry("loading", "joe", 1.0),
    entry("warming", "joe", 1.3),
    entry("ready", "joe", 1.5),
    ("state", {"models": [MODEL, {**MODEL, "name": "joe", "footprint": 7, "pinned": False}]}),
    speech("amy", 2.0, 0.0, 0.5),
    speech("joe", 1.0, 0.5, 4.0),
    entry("ready", "joe", 7.0),  # a drain that was taken back is no load
    entry("unloading", "joe", 8.0),
    entry("gone", "joe", 8.25),
    speech("joe", 8.5, 0.25, 0.0, "refused"),
    ("lost", {"count": 3}),
    entry("failed", "joe", 9.0),  # of an unload: no load was under way
    ("end", {}),
]


def recorded(events: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    recorder = Recorder(began=100.0)
    lines = [recorder.head("here")]
    lines += [line for name, content in events for line in recorder.lines(name, content)]
    return [*lines, recorder.end(110.0)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "trace.jsonl"


def written(file: Path, *lines: str) -> str:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)


def texts() -> list[str]:
    return [json.dumps(line) for line in recorded(EVENTS)]


def test_a_trace_says_what_happened_and_not_who_asked() -> None:
    lines = recorded(EVENTS)
    assert [line["kind"] for line in lines[1:]] == [
        "model",
        "load",
        "model",
        "request",
        "request",
        "unload",
        "request",
        "lost",
        "end",
    ]
    assert lines[2] == {"kind": "load", "model": "joe", "at": 1.0, "took_s": 0.5}
    assert "secret" not in json.dumps(lines)


def test_a_recorded_trace_is_read_as_it_was(file: Path) -> None:
    found = read_trace(written(file, *texts()))
    assert [model.model_id for model in found.models] == ["amy", "joe"]
    assert (found.models[1].loads_s, found.models[1].unload_s) == ((0.5,), 0.25)
    assert (found.models[0].footprint, found.models[1].footprint) == (9, 7)
    assert (found.resident, found.pinned) == ((0,), (0,))
    # In order of arrival, though the second ended later.
    assert found.at.tolist() == [1.0, 2.0, 8.5]
    assert found.model.tolist() == [1, 0, 1]
    assert found.speech_s.tolist() == [4.0, 0.5, 0.0]
    assert found.waited_s is not None
    assert found.waited_s[:2].tolist() == [0.5, 0.0]
    assert math.isnan(found.waited_s[2])
    assert (found.loads, dict(found.skipped)) == (1, {"events lost while it was recorded": 3})


def test_the_simulation_of_a_recording_has_its_loads_and_waits(file: Path) -> None:
    found = simulate(read_trace(written(file, *texts()[:5])), Policy(resident_cap=2))
    assert (found.requests, found.cold, found.loads) == (1, 0, 0)
    found = simulate(read_trace(written(file, *texts())), Policy(resident_cap=2))
    assert (found.cold, found.loads, found.wait_most) == (1, 1, 0.5)


def test_a_model_whose_load_was_not_seen_loads_like_the_others(file: Path) -> None:
    found = read_trace(
        written(file, *texts(), *[json.dumps(recorded([speech("eve", 3, 0, 1)])[1])])
    )
    eve = found.models[1]
    assert (eve.model_id, eve.loads_s, eve.footprint, eve.unload_s) == ("eve", (0.5,), 8, 0.0)
    alone = [json.dumps(line) for line in recorded([speech("eve", 3, 0, 1)])]
    assert read_trace(written(file, *alone)).models[0].footprint == DEFAULT_FOOTPRINT


@pytest.mark.parametrize(
    ("line", "counted"),
    [
        ('{"kind":"request","model":"joe","at":3', "lines that cannot be read"),
        ("[]", "lines that cannot be read"),
        ('{"kind":"request","model":"joe","at":3}', "lines that cannot be read"),
        (
            '{"kind":"request","model":7,"at":3,"waited_s":0,"speech_s":1,"outcome":"finished"}',
            "lines that cannot be read",
        ),
        (
            '{"kind":"request","model":"a","at":3,"waited_s":0,"speech_s":-1,"outcome":"finished"}',
            "lines that cannot be read",
        ),
        (
            '{"kind":"request","model":"a","at":NaN,"waited_s":0,"speech_s":1,"outcome":""}',
            "lines that cannot be read",
        ),
        ('{"kind":"load","model":"joe","at":3,"took_s":1e999}', "lines that cannot be read"),
        ('{"kind":"dream","model":"joe"}', "lines of the kind 'dream'"),
        (
            '{"kind":"request","model":"a","at":-1,"waited_s":0,"speech_s":1,"outcome":"finished"}',
            "requests that had come before the recording",
        ),
        ('{"kind":"failed","model":"joe","at":1,"took_s":1}', "loads that failed"),
    ],
)
def test_a_hole_is_left_out_and_counted(file: Path, line: str, counted: str) -> None:
    whole = read_trace(written(file, *texts()))
    found = read_trace(written(file, *texts(), line))
    assert found.skipped[counted] == 1
    assert np.array_equal(found.at, whole.at)


def test_a_trace_that_was_cut_off_in_its_last_line_is_read(file: Path) -> None:
    file.write_text("\n".join(texts())[:-10])
    assert len(read_trace(str(file))) == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no trace"),
        ("at,model\n1,joe", "columns of no trace"),
        ("once upon a time", "is no trace"),
        ('{"kind":"greenroom trace","version":2}', "version 2, and 1 is read"),
        ('{"kind":"greenroom trace","version":1}', "no requests"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_name(file: Path, content: str, said: str) -> None:
    with pytest.raises(TraceError, match=said) as error:
        read_trace(written(file, content))
    assert str(file) in str(error.value)


def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="No such file"):
        read_trace(str(tmp_path / "none"))
    with pytest.raises(TraceError, match="directory"):
        read_trace(str(tmp_path))
