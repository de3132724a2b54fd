"""Commands whose standard output and error are full, stand still, or have gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from greenroom.cli import main
from tests.waiting import eventually

GREENROOM = [sys.executable, "-c", "import sys; from greenroom.cli import main; sys.exit(main())"]
LIMIT_S = 90.0
CONFIG = """
model_manager: {default_model_id: tone-440, min_residency_ms: 0, resident_cap: 2}
voices: {directories: [], packages: []}
worker: {listen: "unix:SOCKET", http_listen: "127.0.0.1:0"}
"""


def ended(process: subprocess.Popen[Any]) -> int:
    try:
        return process.wait(LIMIT_S)
    finally:
        process.kill()


class Worker:
    """`greenroom serve`, started with the outputs that a test gives it."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "worker.sock"
        self._config = folder / "worker.yaml"
        self._config.write_text(CONFIG.replace("SOCKET", str(self._socket)))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *before: str, **outputs: Any) -> None:
        command = [*before, *GREENROOM, "-v", "serve", "--config", str(self._config)]
        self.process = subprocess.Popen(command, **outputs)

    def does(self, *command: str) -> bool:
        """Have a command ask the worker; whether it could."""
        return main([*command, "--address", f"unix:{self._socket}"]) == 0

    def is_there(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.process.returncode
        return self._socket.exists() and self.does("ps")

    def works(self) -> None:
        """Load and unload something: that logs five lines."""
        assert self.does("load", "tone-220")
        assert self.does("unload", "tone-220")

    def end(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return ended(self.process)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait()


def full_pipe() -> tuple[int, int]:
    """Return the ends of a pipe that nobody reads and that takes no more."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    return read, write


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="needs Linux's pipes")
def test_a_worker_whose_outputs_nobody_reads_serves_and_ends(worker: Worker) -> None:
    read, write = full_pipe()
    worker.start(stdout=write, stderr=write)
    eventually(worker.is_there)
    worker.works()
    assert worker.end() == 0
    os.close(read)
    os.close(write)


def test_a_worker_whose_readers_have_gone_serves_and_ends(worker: Worker) -> None:
    read, write = os.pipe()
    os.close(read)
    worker.start(stdout=write, stderr=write)
    os.close(write)
    eventually(worker.is_there)
    worker.works()
    assert worker.end() == 0


def test_a_log_that_was_full_for_a_while_goes_on_and_ends_with_the_worker(
    worker: Worker, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        worker.start(stdout=subprocess.PIPE, stderr=file)
    process = worker.process
    assert process is not None
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"listening on ")
    assert process.stdout.readline().startswith(b"ready: ")
    size = log.stat().st_size
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size + 10, -1))
    worker.works()
    assert log.stat().st_size <= size + 10
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)
    eventually(lambda: "gone: its memory is given back" in log.read_text())
    assert worker.end() == 0
    lines = log.read_text().splitlines()
    assert lines[-1].endswith("INFO stopped")
    kinds = [found[1] for line in lines if (found := re.search(r"tone-220 (\w+): ", line))]
    assert kinds == ["loading", "warming", "ready", "unloading", "gone"]
    process.stdout.close()


def test_a_worker_that_was_started_with_everything_closed_serves_and_ends(worker: Worker) -> None:
    worker.start("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    eventually(worker.is_there)
    worker.works()
    assert worker.end() == 0


def shell(script: str, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a script of bash in which `"$@"` is a command of ours."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}", "bash", *GREENROOM, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        **more,
    )


@pytest.mark.parametrize("arguments", [["ls", "--help"], ["ls"]])
def test_a_command_whose_reader_has_enough_ends_quietly(arguments: list[str]) -> None:
    done = shell('"$@" | true', *arguments)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("where", ["2>/dev/full", ">&- 2>&-"])
def test_a_command_that_cannot_say_what_is_wrong_still_has_its_exit_code(where: str) -> None:
    done = shell(f'"$@" {where}', "ls", "--set", "nonsense=1")
    assert (done.returncode, done.stdout) == (1, "")


def test_speech_whose_listener_has_enough_ends_quietly() -> None:
    arguments = ["say", "Hello there. " * 20, "-m", "tone-440", "-o", "-"]
    settings = ["--set", "model_manager.default_model_id=tone-440"]
    done = shell('"$@" | head -c 100 | wc -c', *arguments, *settings)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "100", "")
