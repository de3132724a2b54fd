"""A child process takes second place, says why it failed, and ends with the one that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from greenroom.adapter import ModelSpec
from greenroom.adapters.piper.piper_preparation import PiperPreparation
from greenroom.adapters.piper.prepared.store.store import default_store
from greenroom.concurrency.child_process import Child
from tests.piper import synthetic_voice
from tests.waiting import eventually

SET_PRIORITY = os.setpriority
"""As it is outside of the tests."""

LONG = 60.0
"""Seconds that nothing here takes, and after which a test fails anyway."""


FOR_EVER = "while True: time.sleep(0.01)"
"""A signal that comes just before a sleep does not end that, so it must be short."""


def python(lines: str) -> list[str]:
    return [sys.executable, "-c", f"import os, sys, time\n{lines}"]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody asked about does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def ended(pid: int) -> bool:
    return not alive(pid)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("", ""),
        ("print('much', file=sys.stderr)", ""),
        ("sys.exit('first\\nthe reason')", "the reason"),
        ("sys.exit(3)", "it ended with 3"),
        ("os.kill(os.getpid(), 9)", "it ended with -9"),
        ("sys.stderr.write('x' * 3_000_000 + '\\nthe end'); sys.exit(1)", "the end"),
        ("sys.stderr.buffer.write(b'\\xff\\n'); sys.exit(1)", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_failure_says_its_reason_however_much_was_said_before(lines: str, reason: str) -> None:
    assert Child(python(lines)).wait(LONG, patience=1) == reason


def test_one_that_takes_too_long_is_asked_to_end_and_may_clean_up(tmp_path: Path) -> None:
    cleaned, begun = tmp_path / "cleaned", tmp_path / "begun"
    child = Child(
        python(
            f"import signal\nfrom pathlib import Path\n"
            f"clean = Path({str(cleaned)!r}).touch\n"
            "signal.signal(signal.SIGTERM, lambda *_: (clean(), sys.exit()))\n"
            f"Path({str(begun)!r}).touch()\n{FOR_EVER}"
        )
    )
    eventually(begun.exists)
    assert child.wait(0.01, patience=LONG) == "it took longer than 0.01 s"
    assert cleaned.exists()


def test_one_that_will_not_end_is_killed() -> None:
    child = Child(python("import signal\nsignal.signal(signal.SIGTERM, lambda *_: 0)\nprint()"))
    assert child.wait(LONG, patience=1) == ""
    child = Child(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    assert child.wait(0.05, patience=0.05) == "it took longer than 0.05 s"
    assert not alive(child.pid)


def test_one_that_cannot_be_started_leaves_nothing_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        Child(["/no/such/program"])
    assert Child(python("")).wait(LONG, patience=1) == ""
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_it_has_the_lowest_priority_and_is_the_first_to_go_where_memory_runs_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "setpriority", SET_PRIORITY)
    child = Child(python("sys.stdin.read()"))
    try:
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == 19
        assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "1000"
    finally:
        child.kill()
        child.wait(LONG, patience=1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_preparing_process_ends_soon_after_the_one_that_started_it_was_killed(
    tmp_path: Path,
) -> None:
    """Also the one that weighs what was prepared, which it starts in turn."""
    pids = tmp_path / "pids"
    slow = "\n".join(
        [
            "import os, subprocess, sys, time, threading",
            "from greenroom.adapters.piper.prepared.build.parent_death import end_with_parent",
            "end_with_parent()",
            f"open({str(pids)!r}, 'a').write(str(os.getpid()) + ' ')",
            "if sys.argv[1] == 'first':",
            "    subprocess.run([sys.executable, '-c', sys.argv[2], 'second', ''])",
            "time.sleep(1000)",
        ]
    )
    starter = python(
        "os.setpriority = lambda *_: None\n"
        "from greenroom.concurrency.child_process import Child\n"
        f"Child([sys.executable, '-c', {slow!r}, 'first', {slow!r}]).wait(1000, patience=1)"
    )
    parent = subprocess.Popen(starter)
    try:
        eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    for pid in map(int, pids.read_text().split()):
        eventually(partial(ended, pid))


def command_for(model: Path) -> list[str]:
    return PiperPreparation().command(ModelSpec("", "piper", model))


def test_preparing_without_a_pipe_on_standard_input_is_nobodys_child(tmp_path: Path) -> None:
    model = synthetic_voice.write_voice(tmp_path)
    subprocess.run(
        command_for(model),
        stdin=subprocess.DEVNULL,
        check=True,
    )
    assert default_store().find(model) is not None


def test_preparing_that_is_ended_leaves_no_files_and_what_was_killed_is_swept_by_the_next(
    tmp_path: Path,
) -> None:
    model = synthetic_voice.write_voice(tmp_path)
    root, begun = default_store()._layout.root, tmp_path / "begun"

    def temporary() -> list[Path]:
        return list(root.rglob("*.tmp"))

    stuck = (
        "import onnx, runpy\n"
        "def load(path):\n"
        f"    open({str(begun)!r}, 'w').close()\n"
        f"    {FOR_EVER}\n"
        "onnx.load = load\n"
        f"sys.argv[1:] = [{str(model)!r}]\n"
        "runpy.run_module('greenroom.adapters.piper.prepared.build.pipeline', run_name='__main__')"
    )
    for signals, left in ((signal.SIGTERM, 0), (signal.SIGKILL, 1)):
        child = Child(python(stuck))
        eventually(begun.exists)
        begun.unlink()
        os.kill(child.pid, signals)
        child.wait(LONG, patience=1)
        assert len(temporary()) == left
    assert Child(command_for(model)).wait(LONG, patience=1) == ""
    assert not temporary()
