"""A worker in a process of its own, as a user starts it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GREENROOM = os.environ.get("GREENROOM", str(HERE.parent / ".venv" / "bin" / "greenroom"))
START_S = 60.0
TEXT = "Good evening, and welcome to the show."
PARAGRAPH = " ".join(["It was a bright cold day in April, and the clocks were striking."] * 12)


@dataclass(frozen=True)
class Started:
    """Where a worker listens, and what it tells of itself."""

    grpc: str
    http: str
    wyoming: str

    def get(self, path: str, key: str = "") -> Any:
        """Return the JSON of a page."""
        request = urllib.request.Request(self.http + path)
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def streams(self) -> int:
        """Return how many callers are being spoken to."""
        return sum(model["streams"] for model in self.get("/api/ps")["models"])

    def cut_off(self) -> int:
        """Return how many streams have ended before all was said, as nobody listened any more."""
        ended = self.get("/api/figures")["ended"]
        return int(ended.get("cancelled", 0) + ended.get("stopped", 0))

    def until_quiet(self) -> None:
        """Return when nobody is spoken to and nothing is held any more."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            models = self.get("/api/ps")["models"]
            if not any(model["streams"] or model["references"] for model in models):
                return
            time.sleep(0.05)
        raise AssertionError(f"something is still held: {models}")


@contextlib.contextmanager
def started(cache: Path, **settings: str) -> Iterator[Started]:
    """Start a worker with `conformance/worker.yaml`, and other settings of its own."""
    sets = [f"--set={name.replace('__', '.')}={value}" for name, value in settings.items()]
    log = (cache / "worker.log").open("a")
    process = subprocess.Popen(
        [GREENROOM, "serve", "--config", str(HERE / "worker.yaml"), *sets],
        env={**os.environ, "GREENROOM_CACHE_DIR": str(cache)},
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        assert process.stdout is not None
        listening = process.stdout.readline()
        assert process.stdout.readline().startswith("ready"), (cache / "worker.log").read_text()
        places = listening.removeprefix("listening on ").partition(";")[0].split(" and ")
        grpc, http, wyoming = places
        yield Started(grpc, http, wyoming)
        assert process.poll() is None, "the worker died"
    finally:
        process.terminate()
        try:
            process.communicate(timeout=START_S)
        finally:
            process.kill()
            log.close()
