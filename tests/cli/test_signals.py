"""Signals to a command: it ends quietly whenever they come, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.installed_adapter import install_adapter

LIMIT_S = 90.0
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CONFIG = """
model_manager: {default_model_id: slow, min_residency_ms: 0, resident_cap: 2, warmup_text: ""}
voices: {directories: [], packages: []}
models: [{model_id: slow, adapter: slow-tone}]
worker: {listen: "127.0.0.1:0", http_listen: null}
"""
SLOW_TONE = """
import os, signal, time
from greenroom.adapters.tone import ToneTTSAdapter
class SlowTone(ToneTTSAdapter):
    @classmethod
    def discover(cls, directories):
        return ()
    def synthesize(self, text, options):
        for chunk in super().synthesize(text, options):
            for name in filter(None, os.environ.pop("WHILE_SPEAKING", "").split()):
                os.kill(os.getpid(), int(name))
                time.sleep(0.05)
            time.sleep(0.02)
            yield chunk
"""
AT_IMPORT = """
import os, sys
from greenroom.cli import main
class Hook:
    left = int(sys.argv.pop(1))
    number = int(sys.argv.pop(1))
    def find_spec(self, *_):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), self.number)
sys.meta_path.insert(0, Hook())
sys.exit(main())
"""
PLAIN = "import sys; from greenroom.cli import main; sys.exit(main())"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration, and an adapter that speaks slowly and sends signals to its process."""
    (tmp_path / "worker.yaml").write_text(CONFIG)
    install_adapter(tmp_path, "slow-tone", "SlowTone", SLOW_TONE)
    return tmp_path


def as_python_starts() -> None:
    """Take signals as a shell's command does; some runners ignore them."""
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def started(
    folder: Path, code: str, *arguments: str, **more: Any
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--config", "worker.yaml"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        preexec_fn=more.pop("preexec_fn", as_python_starts),
        env={**os.environ, "PYTHONPATH": str(folder), **more},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("imports", "number"),
    [(1, signal.SIGINT), (120, signal.SIGINT), (400, signal.SIGTERM), (700, signal.SIGINT)],
)
def test_a_signal_while_a_worker_starts_ends_it_without_a_word(
    folder: Path, imports: int, number: signal.Signals
) -> None:
    with started(folder, AT_IMPORT, str(imports), str(int(number)), "serve") as worker:
        out, err = worker.communicate(timeout=LIMIT_S)
    assert (worker.returncode, out, err) == (-number, "", "")


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_while_a_file_is_spoken_leaves_no_file(
    folder: Path, number: signal.Signals
) -> None:
    before = set(folder.iterdir())
    say = ("say", "A long sentence. " * 100, "-m", "slow", "-o", "speech.wav")
    with started(folder, PLAIN, *say, WHILE_SPEAKING=str(int(number))) as command:
        out, err = command.communicate(timeout=LIMIT_S)
    assert (command.returncode, out, err) == (128 + number, "", "")
    assert {path for path in folder.iterdir() if "__pycache__" not in path.name} == before


def ready(worker: subprocess.Popen[str]) -> None:
    assert worker.stdout is not None
    assert worker.stdout.readline().startswith("listening on ")
    assert worker.stdout.readline().startswith("ready: ")


def test_a_terminal_that_closes_drains_the_worker(folder: Path) -> None:
    ours, its = os.openpty()
    name = os.ttyname(its)

    def on_a_terminal() -> None:
        as_python_starts()
        os.setsid()
        os.open(name, os.O_RDWR)  # the first one that a session opens is its own

    with started(folder, PLAIN, "serve", preexec_fn=on_a_terminal) as worker:
        ready(worker)
        os.close(its)
        os.close(ours)
        _, log = worker.communicate(timeout=LIMIT_S)
    assert worker.returncode == 0
    assert log.splitlines()[-1].endswith("INFO stopped")


def test_a_hangup_has_a_worker_read_its_configuration_again(folder: Path) -> None:
    with started(folder, PLAIN, "serve") as worker:
        ready(worker)
        (folder / "worker.yaml").write_text(CONFIG.replace("resident_cap: 2", "resident_cap: 1"))
        worker.send_signal(signal.SIGHUP)
        assert worker.stderr is not None
        lines = iter(worker.stderr.readline, "")
        assert any("read again: changed: nothing; with the next start" in line for line in lines)
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=LIMIT_S)
    assert worker.returncode == 0


def test_a_worker_under_nohup_survives_its_terminal(folder: Path) -> None:
    def ignored() -> None:
        as_python_starts()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with started(folder, PLAIN, "serve", preexec_fn=ignored) as worker:
        ready(worker)
        worker.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(0.2)
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=LIMIT_S)
    assert worker.returncode == 0
