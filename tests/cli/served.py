"""A worker in a process of its own, for the tests of the commands that ask it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

GREENROOM = [sys.executable, "-c", "import sys; from greenroom.cli import main; sys.exit(main())"]
CONFIG = """
model_manager: {default_model_id: tone-440, min_residency_ms: 0, resident_cap: 2}
voices: {directories: [], packages: []}
models: [{model_id: "high[est]", variant_of: tone-440, options: {frequency: 880}, aliases: [top]}]
worker: {listen: "127.0.0.1:0", http_listen: "127.0.0.1:0"}
"""


class Served:
    """A worker, and where it listens."""

    def __init__(self, config: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*GREENROOM, "serve", "--config", str(config), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.listening = self.process.stdout.readline()
        self.ready = self.process.stdout.readline()
        self.address = self.listening.removeprefix("listening on ").split(" and ")[0]
        self.url = self.listening.split(";")[0].split(" and ")[-1]

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Return the exit code and what was logged."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        _, log = self.process.communicate(timeout=60)
        return self.process.returncode, log
