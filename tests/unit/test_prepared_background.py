"""Voices are prepared beside the work: once each, never again after a failure, ended on demand."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import piper_shaped
import pytest

from greenroom import ModelSpec
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.adapters.piper.engines import OwnSession
from greenroom.prepared import background
from greenroom.prepared.background import Preparer
from greenroom.prepared.runtime import default_store
from greenroom.prepared.voice import PreparedVoice

LONG = 60
"""Seconds that nothing here takes, and after which a test is ended anyway."""

Script = Callable[[str], None]


@pytest.fixture
def preparer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Preparer]:
    """Whom the adapter asks, for this test alone."""
    monkeypatch.setenv("GREENROOM_PREPARE", "on")
    preparer = Preparer()
    monkeypatch.setattr(background, "prepare", preparer.prepare)
    yield preparer
    preparer.close()
    assert preparer.idle.wait(LONG)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Run a few lines of Python in place of preparing; `sys.argv[1]` is the source."""

    def script(lines: str) -> None:
        lines = f"import sys, time\n{lines}"
        monkeypatch.setattr(
            background, "command", lambda source: [sys.executable, "-c", lines, str(source)]
        )

    return script


def loaded(model: Path) -> PiperTTSAdapter:
    adapter = PiperTTSAdapter(ModelSpec("voice", PiperTTSAdapter, model))
    adapter.load()
    return adapter


def said(adapter: PiperTTSAdapter) -> np.ndarray:
    options = {"noise_scale": 0.0, "noise_w_scale": 0.0}
    return np.concatenate([c.samples for c in adapter.synthesize("a few words", options)])


def test_a_voice_is_prepared_behind_its_first_load_and_used_from_the_next_on(
    preparer: Preparer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = piper_shaped.write_voice(tmp_path)
    with caplog.at_level(logging.INFO):
        first = loaded(model)
        expected = said(first)  # it speaks before it is prepared
        assert preparer.idle.wait(LONG)
    assert "voice.onnx is prepared: its next load is fast" in caplog.text
    second = loaded(model)
    assert isinstance(first._engine, OwnSession)
    assert isinstance(second._engine, PreparedVoice)
    assert np.abs(said(second) - expected).max() < 1e-4
    assert second.footprint_bytes() is not None
    first.unload()
    second.unload()


def test_a_voice_that_cannot_be_prepared_is_one_line_and_is_not_tried_again(
    preparer: Preparer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = piper_shaped.write_voice(tmp_path, branches=True)
    for _ in range(3):
        adapter = loaded(model)
        assert preparer.idle.wait(LONG)
        assert len(said(adapter))
        adapter.unload()
    assert [record.getMessage() for record in caplog.records] == [
        "voice.onnx is not prepared, its own file serves: its graph has branches"
    ]
    assert default_store().find(model) is None


def test_many_loads_of_one_unprepared_voice_prepare_it_once(
    preparer: Preparer, script: Script, tmp_path: Path
) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    script(
        f"open({str(log)!r}, 'a').write(sys.argv[1] + '\\n')\n"
        f"import pathlib\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)"
    )
    model, other = (piper_shaped.write_voice(tmp_path, name) for name in ("one", "other"))
    loads = [
        threading.Thread(target=lambda m=m: loaded(m).unload())
        for m in (model, other)
        for _ in "abc"
    ]
    for thread in loads:
        thread.start()
    for thread in loads:
        thread.join()
    go.touch()
    assert preparer.idle.wait(LONG)
    assert sorted(log.read_text().split()) == [str(model), str(other)]


def test_one_voice_is_prepared_at_a_time(
    preparer: Preparer, script: Script, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alone = tmp_path / "alone"
    script(f"import os\nos.mkdir({str(alone)!r})\ntime.sleep(0.05)\nos.rmdir({str(alone)!r})")
    for number in range(4):
        preparer.prepare(tmp_path / f"{number}.onnx")
    assert preparer.idle.wait(LONG)
    assert not caplog.records


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("sys.exit('first\\nthe reason')", "the reason"),
        ("sys.exit(3)", "it ended with 3"),
        ("import os; os.kill(os.getpid(), 9)", "it ended with -9"),
    ],
)
def test_a_failure_says_its_reason_once(
    preparer: Preparer, script: Script, caplog: pytest.LogCaptureFixture, lines: str, reason: str
) -> None:
    script(lines)
    for _ in range(3):
        preparer.prepare(Path("voice.onnx"))
        assert preparer.idle.wait(LONG)
    assert [record.getMessage() for record in caplog.records] == [
        f"voice.onnx is not prepared, its own file serves: {reason}"
    ]


def test_a_command_that_cannot_be_started_is_a_line_and_the_next_voice_is_tried(
    preparer: Preparer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(source: Path) -> None:
        raise FileNotFoundError("no such program")

    monkeypatch.setattr(background, "_start", missing)
    preparer.prepare(Path("one.onnx"))
    preparer.prepare(Path("two.onnx"))
    assert preparer.idle.wait(LONG)
    assert [record.getMessage() for record in caplog.records] == [
        f"{name}.onnx cannot be prepared: no such program" for name in ("one", "two")
    ]


def test_one_that_is_stuck_is_ended(
    preparer: Preparer,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(background, "LIMIT_S", 0.05)
    script("time.sleep(1000)")
    preparer.prepare(Path("voice.onnx"))
    assert preparer.idle.wait(LONG)
    assert "it took longer than 0.05 s" in caplog.text


def test_closing_ends_what_runs_forgets_what_waits_and_takes_nothing_more(
    preparer: Preparer, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    script("time.sleep(1000)")
    preparer.prepare(Path("one.onnx"))
    preparer.prepare(Path("two.onnx"))
    running = None
    while running is None:
        running = preparer._running
    preparer.close()
    assert preparer.idle.wait(LONG)
    assert running.returncode is not None
    preparer.prepare(Path("three.onnx"))
    assert preparer.idle.is_set()
    assert not caplog.records


def test_preparing_that_is_ended_leaves_no_files(
    preparer: Preparer, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    script(
        "import onnx, runpy\n"
        "onnx.load = lambda path: time.sleep(1000)\n"
        "runpy.run_module('greenroom.prepared.preparing', run_name='__main__')"
    )
    preparer.prepare(piper_shaped.write_voice(tmp_path))
    while not list(scratch.rglob("*.onnx")):
        assert not preparer.idle.wait(0.005)
    preparer.close()
    assert preparer.idle.wait(LONG)
    assert not list(scratch.glob("greenroom-*"))
    root = default_store()._layout.root
    assert not [path for path in root.rglob("*") if path.suffix == ".tmp"]
