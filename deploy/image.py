"""Run an image's steps in an empty folder, then what it serves: where no image can be built.

`make image` does this with `deploy/Dockerfile`: its health check has to succeed, speech to come,
and SIGTERM to end it well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.image_steps import Build, Stage, StepError, base_python

ROOT = Path(__file__).parents[1]
READY_S = 180.0
END_S = 40.0
_SPEECH = b'{"model": "tts-1", "voice": "alloy", "input": "Good evening."}'


def served(stage: Stage) -> None:
    """Start what the image starts, ask for its health and for speech, and end it; raises."""
    for used in stage.root.parent.glob("stage-*"):
        if used != stage.root:
            shutil.rmtree(used)  # what is served has to be whole without it
    ports = {"8880": _free_port(), "50051": _free_port()}
    environment = {
        **stage.environment(),
        "GREENROOM_WORKER__ALLOW_UNAUTHENTICATED": "true",
        "GREENROOM_WORKER__LISTEN": f"127.0.0.1:{ports['50051']}",
        "GREENROOM_WORKER__HTTP_LISTEN": f"127.0.0.1:{ports['8880']}",
    }
    user = _user(stage, environment)
    command = _command([*stage.command["ENTRYPOINT"], *stage.command["CMD"]], environment)
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=stage.path(""), env=environment, user=user, group=user)
    try:
        check = [
            word.replace("127.0.0.1:8880", f"127.0.0.1:{ports['8880']}") for word in stage.health
        ]
        _until_healthy(process, _command(check, environment), environment)
        print(f"healthy after {time.monotonic() - began:.1f} s", flush=True)
        request = urllib.request.Request(
            f"http://127.0.0.1:{ports['8880']}/v1/audio/speech",
            data=_SPEECH,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=60
        ) as answer:
            sound = answer.read()
        if answer.headers["Content-Type"] != "audio/mpeg" or len(sound) < 2_000:
            raise StepError(f"no speech: {len(sound)} bytes of {answer.headers['Content-Type']}")
        print(f"spoke: {len(sound):,} bytes of mp3", flush=True)
        process.send_signal(signal.SIGTERM)
        if process.wait(END_S) != 0:
            raise StepError(f"it ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()


def _until_healthy(
    process: subprocess.Popen[bytes], check: Sequence[str], environment: dict[str, str]
) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end and process.poll() is None:
        done = subprocess.run(
            check, env=environment, timeout=30, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return
        time.sleep(0.5)
    raise StepError("its health check did not succeed")


def _command(words: Sequence[str], environment: dict[str, str]) -> list[str]:
    program = shutil.which(words[0], path=environment["PATH"])
    if program is None:
        raise StepError(f"{words[0]} is not in the image")
    return [program, *words[1:]]


def _user(stage: Stage, environment: dict[str, str]) -> int | None:
    """Return whom it runs as: the image's user, if we may and this machine's Python is for all."""
    if os.geteuid():
        return None
    wanted = int(stage.user.partition(":")[0])
    python = _command(["python", "-c", ""], environment)
    try:
        subprocess.run(
            python, user=wanted, group=wanted, check=True, capture_output=True, timeout=60
        )
    except (OSError, subprocess.CalledProcessError):
        print(f"as root: user {wanted} cannot read this machine's Python", flush=True)
        return None
    return wanted


def _check_pip() -> None:
    done = subprocess.run(
        [base_python(), "-m", "pip", "--version"], capture_output=True, timeout=60, check=False
    )
    if done.returncode:
        raise StepError(
            f"{base_python()} has no pip, as the base image's Python does; "
            "choose another: make image PYTHON=python3.12"
        )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def sizes(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield a folder's size and those of its largest packages, in MB."""

    def size(path: Path) -> float:
        files = [each for each in path.rglob("*") if each.is_file() and not each.is_symlink()]
        return sum(each.stat().st_size for each in files) / 1e6

    yield "in all", size(folder)
    packages = [path for path in folder.glob("lib/python*/site-packages/*") if path.is_dir()]
    yield from sorted(((p.name, size(p)) for p in packages), key=lambda pair: -pair[1])[:8]


def main() -> int:
    """Run `deploy/Dockerfile`; return 1 with a sentence where it does not work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dockerfile", type=Path, default=ROOT / "deploy" / "Dockerfile")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="greenroom-image-", dir="/var/tmp") as made:
        folder = Path(made)
        folder.chmod(0o755)
        try:
            _check_pip()
            stage = Build(ROOT, folder).run(arguments.dockerfile)
            for name, size in sizes(stage.root / "opt" / "greenroom"):
                print(f"{size:8.1f} MB  {name}", flush=True)
            served(stage)
        except (StepError, OSError, subprocess.TimeoutExpired) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    print("the image's steps work")
    return 0


if __name__ == "__main__":
    sys.exit(main())
