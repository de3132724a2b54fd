"""A manager of one process that stands still in a given state, to be killed there.

`python -m tests.hosts.holding STATE`; prints a line when the state is reached.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from greenroom.adapter import ModelSpec
from greenroom.hosts import engine_process
from greenroom.hosts.hosted_adapter import HostedAdapter
from greenroom.hosts.launcher import Launcher
from greenroom.hosts.processes import EngineProcesses
from tests.hosts.hostile_engines import HostileAdapter


def main(state: str) -> None:
    """Come to the state and stay there."""
    processes = EngineProcesses("model", linger=60.0)
    place, _, deed = state.partition(": ")
    if place == "importing":
        processes._launcher = launcher = Launcher(["tests.hosts.hanging_import"])
        begin(launcher.start)
        time.sleep(0.5)
    else:
        told = Path(tempfile.gettempdir()) / f"hang-{os.getpid()}"
        options = {"at": place, "deed": deed} if place in ("load", "unload") else {}
        if place == "recycling":
            options = {"at": "load", "deed": "hang", "once": str(told)}
        model: HostedAdapter = processes.adapter_for(
            ModelSpec("one", HostileAdapter, options=options), HostileAdapter
        )
        stop_fork_server = place == "starting"
        if stop_fork_server:
            processes._launcher = Launcher([])
            processes._launcher.start()
            os.kill(processes._launcher.pid or 0, signal.SIGSTOP)
            begin(model.start)
            time.sleep(0.2)
        elif place == "load":
            model.start()
            begin(model.load)
        else:
            model.start()
            model.load()
            if place in ("unload", "lingering"):
                begin(model.unload)
            elif place == "recycling":
                told.touch()  # the copy hangs, and removes it
                processes.retire(processes.all[0])
                begin(model.move)
            elif place == "forked by the program":
                list(model.synthesize("Hello.", {}))
                if not os.fork():
                    time.sleep(60)
            elif place == "without a fork server":
                os.kill(processes._launcher.pid or 0, signal.SIGKILL)  # type: ignore[union-attr]
                begin(lambda: list(model.synthesize(deed, {})))
            else:
                begin(lambda: list(model.synthesize(deed, {})))
                if place == "closing":
                    time.sleep(0.2)
                    engine_process._END_LIMIT_S = 60.0
                    begin(processes.close)
        time.sleep(0.3)
    print("there", flush=True)
    time.sleep(60)


def begin(step: object) -> None:
    """Do it in a thread."""
    threading.Thread(target=step, daemon=True).start()  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1])
