"""`python -m benchmarks.fresh`: the wheel on a fresh machine, as people meet it, timed.

For each Python that is here: an empty environment without the repository, an empty home, the wheel;
`greenroom serve` says which voice to install, and with one it speaks. Prints a table: what was
installed, and how long after `serve` the first audio was heard, before and after the voice was
prepared. Ends with 1 when something did not work.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
SOURCES = (
    *("src", "configs", "dashboards", "proto"),
    *("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"),
)
MINORS = (11, 12, 13, 14)
"""Of Python 3, from the oldest that Greenroom runs on."""

TEXT = "Good evening, and welcome to the show."
_EXTRAS = "[piper,voice]"
_ANYWHERE = ("--set", "worker.listen=127.0.0.1:0", "--set", "worker.http_listen=127.0.0.1:0")
_STEP_S = 300.0
_PREPARED_S = 900.0
"""A voice is prepared with what nothing else wants of the processor."""


class WrongError(Exception):
    """Something that people would meet does not work."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one Python gave."""

    python: str
    installed_mb: float
    """What the wheel and all that it needs take on the disk."""
    ready_s: float
    """From `serve` to its line that says that it is ready."""
    first_s: float
    """From `serve` to the first audio of a request that was sent as soon as it was ready."""
    prepared_first_s: float
    """The same at the next start, when the voice is prepared."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Try every Python; return 1 when one of them did not work."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fresh", description=__doc__)
    parser.add_argument("--python", action="append", help="only this one; may be repeated")
    asked = parser.parse_args(arguments).python
    try:
        pythons = dict(map(_version_of, asked)) if asked else found_pythons()
    except (WrongError, subprocess.SubprocessError, OSError) as error:
        parser.error(str(error))
    rows, failures = [], 0
    with tempfile.TemporaryDirectory(prefix="greenroom-fresh-") as scratch:
        wheel = built_wheel(Path(scratch))
        for version, python in sorted(pythons.items(), key=lambda each: _numbers(each[0])):
            print(f"Python {version}: {python}", file=sys.stderr, flush=True)
            place = Path(scratch) / version
            try:
                rows.append(measured(version, python, wheel, place))
            except (WrongError, subprocess.SubprocessError, OSError) as error:
                failures += 1
                print(f"Python {version}: {error}", file=sys.stderr)
            shutil.rmtree(place, ignore_errors=True)
    print(table(rows))
    minors = {_numbers(version)[1] for version in pythons}
    if not asked and (absent := [f"3.{minor}" for minor in MINORS if minor not in minors]):
        print(f"\nNot here, and so not tried: Python {', '.join(absent)}.")
    return 1 if failures or not rows else 0


def found_pythons() -> dict[str, str]:
    """Return the newest of each minor version that is here, by its version."""
    names = [shutil.which(f"python3.{minor}") for minor in MINORS]
    places = (Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python")
    for place in (*places, Path("/opt")):
        names += [str(each) for each in place.glob("*/bin/python3")]
    newest: dict[int, tuple[str, str]] = {}
    for name in filter(None, names):
        with contextlib.suppress(WrongError, subprocess.SubprocessError, OSError):
            version, python = _version_of(name)
            minor = _numbers(version)[1]
            known = newest.get(minor)
            if minor in MINORS and (known is None or _numbers(known[0]) < _numbers(version)):
                newest[minor] = (version, python)
    return dict(newest.values())


def _version_of(python: str) -> tuple[str, str]:
    code = "import ensurepip, platform, venv; print(platform.python_version())"
    return _output([python, "-c", code], limit=30).strip(), python


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r"\d+", version))


def built_wheel(scratch: Path) -> Path:
    """Build the wheel of a copy of the sources, so that nothing else comes into it."""
    copy = scratch / "sources"
    copy.mkdir()
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, copy / name)
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--wheel-dir", str(scratch)]
    _output([sys.executable, "-m", "pip", "wheel", *options, str(copy)])
    (wheel,) = scratch.glob("greenroom-*.whl")
    shutil.rmtree(copy)
    return wheel


def measured(version: str, python: str, wheel: Path, place: Path) -> Row:
    """Install into an empty environment at `place`, and speak; raises `WrongError`."""
    _output([python, "-m", "venv", str(place)])
    machine = Machine(place)
    empty = machine.size_mb()
    machine.install(str(wheel))
    check_without_a_voice(machine)
    machine.install(f"{wheel}{_EXTRAS}")
    installed = machine.size_mb() - empty
    with machine.served() as served:
        ready, first = served.ready_s, served.first_audio_s()
        machine.wait_until_prepared()
    with machine.served() as served:
        again = served.first_audio_s()
    check_samples(machine)
    return Row(version, installed, ready, first, again)


class Machine:
    """An environment with a home of its own, in which nothing was ever done."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.home = place / "home"
        self.home.mkdir()
        self.greenroom = str(place / "bin" / "greenroom")
        kept = {key: os.environ[key] for key in ("LANG", "TMPDIR") if key in os.environ}
        self.environment = {**kept, "PATH": f"{place}/bin:/usr/bin:/bin", "HOME": str(self.home)}

    def size_mb(self) -> float:
        """Return what the environment takes on the disk."""
        files = (each.lstat() for each in (self.place / "lib").rglob("*") if not each.is_dir())
        return sum(each.st_size for each in files) / 1024**2

    def install(self, what: str) -> None:
        """Install with pip, as the user's own settings say."""
        options = ["--quiet", "--disable-pip-version-check"]
        _output([f"{self.place}/bin/python", "-m", "pip", "install", *options, what])

    def run(self, *arguments: str, code: int = 0) -> str:
        """Return what a command prints on both of its outputs; raises `WrongError`."""
        done = subprocess.run(
            [self.greenroom, *arguments],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_STEP_S,
            check=False,
        )
        if done.returncode != code or "Traceback" in done.stdout:
            said = done.stdout.strip()[-500:]
            raise WrongError(f"greenroom {' '.join(arguments)}: {done.returncode}: {said}")
        return done.stdout

    def wait_until_prepared(self) -> None:
        """Return when the worker has prepared its voice."""
        end = time.monotonic() + _PREPARED_S
        while not any(model["prepared"] for model in json.loads(self.run("ls", "--json"))):
            if time.monotonic() > end:
                raise WrongError("the voice was not prepared")
            time.sleep(5.0)  # what asks would keep it waiting, too

    @contextlib.contextmanager
    def served(self) -> Iterator[Served]:
        """Start a worker, and end it as a service manager does."""
        started = time.monotonic()
        with subprocess.Popen(
            [self.greenroom, "serve", *_ANYWHERE],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield Served(process, started)
                process.send_signal(signal.SIGTERM)
                said, _ = process.communicate(timeout=60)
            finally:
                process.kill()
        if process.returncode or "Traceback" in said:
            raise WrongError(f"serve ended with {process.returncode}: {said[-500:]}")


class Served:
    """A worker that has just been started, with its default voice ready."""

    def __init__(self, process: subprocess.Popen[str], started: float) -> None:
        self._started = started
        self.url = ""
        assert process.stdout is not None
        lines = [""]
        limit = threading.Timer(_STEP_S, process.kill)
        limit.start()
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"listening on .* and (http://\S+);", line):
                self.url = found[1]
            if line.startswith("ready: "):
                break
        limit.cancel()
        self.ready_s = time.monotonic() - started
        if not self.url or not lines[-1].startswith("ready: "):
            raise WrongError(f"serve did not get ready: {''.join(lines)[-500:]}")

    def first_audio_s(self) -> float:
        """Say a text as OpenAI's clients do; return when its first audio came, since the start."""
        asked = {"model": "tts-1", "voice": "alloy", "input": TEXT, "response_format": "pcm"}
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_STEP_S)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/audio/speech", json.dumps(asked), headers)
        answer = connection.getresponse()
        begun = answer.read1(1)
        first = time.monotonic() - self._started
        samples = array("h", begun + answer.read())
        connection.close()
        if answer.status != 200 or len(samples) < 24_000 or max(map(abs, samples)) < 1_000:
            raise WrongError(f"no speech came: {answer.status}, {len(samples)} samples")
        return first


def check_without_a_voice(machine: Machine) -> None:
    """Without the extras `serve` says, in one line, what to install."""
    said = machine.run("serve", *_ANYWHERE, code=1)
    if "pip install 'greenroom[piper,voice]'" not in said or said.count("\n") != 1:
        raise WrongError(f"serve without a voice: {said}")


def check_samples(machine: Machine) -> None:
    """What comes along can be written out, and a configuration of it works."""
    machine.run("init")
    machine.run("config", "check", "greenroom.yaml")
    for sample in ("demo", "dashboard", "proto"):
        machine.run("init", "--sample", sample)
    machine.run("say", TEXT, "-m", "alloy", "-o", "hello.mp3")
    for name in ("greenroom-dashboard.json", "tts.proto", "hello.mp3"):
        if (machine.home / name).stat().st_size < 1_000:
            raise WrongError(f"{name} is not whole")


def table(rows: Sequence[Row]) -> str:
    """Return the rows in Markdown."""
    lines = [
        "| Python | installed | ready after | first audio after | at the next start |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.python} | {row.installed_mb:,.0f} MB | {row.ready_s:.1f} s | {row.first_s:.1f} s "
        f"| {row.prepared_first_s:.1f} s |"
        for row in rows
    ]
    return "\n".join(lines)


def _output(command: Sequence[str], *, limit: float = _STEP_S) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    if done.returncode:
        raise WrongError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
