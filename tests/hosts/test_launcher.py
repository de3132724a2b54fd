"""The fork server: whatever a module does at its import, and whatever becomes of the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from greenroom.adapter import ModelSpec
from greenroom.errors import ModelLoadError
from greenroom.hosts import launcher as launcher_module
from greenroom.hosts.hosted_adapter import HostedAdapter
from greenroom.hosts.launcher import Launcher, LaunchError
from greenroom.hosts.processes import EngineProcesses
from tests.hosts.hostile_engines import HostileAdapter
from tests.hosts.test_hosted_adapter import group_of
from tests.waiting import eventually

SOON_S = 30.0

GOOD = "fine = True"
BAD = {
    "crashes": "import ctypes\nctypes.string_at(0)",
    "leaves": "import os\nos._exit(3)",
    "exits": "raise SystemExit(4)",
    "closes": "import os\nos.closerange(3, 256)",
    "starts_threads": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
}
HARMLESS = {
    "raises": "raise ValueError",
    "prints": "print('said')",
    "takes_signals": "import signal\n"
    "for each in (signal.SIGCHLD, signal.SIGTERM): signal.signal(each, signal.SIG_IGN)",
    "stays": "import atexit, time\natexit.register(time.sleep, 60)",
    "moves": "import os\nos.chdir('/')",
    "forks": "import os, time\nif not os.fork():\n    time.sleep(60)\n    os._exit(0)",
    "forks_and_goes_on": "import os\nos.fork()",
    "leaves_at_exit": "import atexit, os\natexit.register(os._exit, 5)",
}


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "fine.py").write_text(GOOD)
    for name, source in (BAD | HARMLESS).items():
        (tmp_path / f"{name}.py").write_text(source)
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(60)")
    return tmp_path


@pytest.fixture
def places() -> Iterator[list[EngineProcesses]]:
    made: list[EngineProcesses] = []
    yield made
    for each in made:
        each.close()


def place_with(places: list[EngineProcesses], *modules: str) -> EngineProcesses:
    place = EngineProcesses("model")
    place._launcher = Launcher(modules)
    places.append(place)
    return place


def load(place: EngineProcesses, model_id: str = "one", **options: object) -> HostedAdapter:
    spec = ModelSpec(model_id, HostileAdapter, options=options)
    model: HostedAdapter = place.adapter_for(spec, HostileAdapter)
    model.start()
    model.load()
    return model


def pid_of(place: EngineProcesses) -> int:
    assert place._launcher is not None
    pid = place._launcher.pid
    assert pid is not None
    return pid


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("name", BAD)
def test_a_module_that_cannot_be_shared_is_left_out_and_named(
    places: list[EngineProcesses], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = place_with(places, "fine", name)
    assert len(list(load(place).synthesize("Hello.", {}))) == 10
    assert place._launcher is not None
    assert place._launcher._modules[1:] == ["fine"]
    assert f"each process imports {name} for itself" in caplog.text


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("name", HARMLESS)
def test_what_a_module_does_at_its_import_harms_nobody(
    places: list[EngineProcesses], name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    place = place_with(places, name)
    model = load(place)
    server = psutil.Process(pid_of(place))
    with pytest.raises(ModelLoadError, match="ended with 3"):
        load(place, "two", at="load", deed="exit")
    model.unload()
    place.close()
    assert not server.is_running()
    eventually(lambda: not group_of(server.pid))
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("modules")
def test_what_a_module_has_started_ends_with_a_fork_server_that_is_killed(
    places: list[EngineProcesses],
) -> None:
    place = place_with(places, "forks")
    model = load(place)
    killed = pid_of(place)
    assert len(group_of(killed)) == 2
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: not group_of(killed))
    assert len(list(model.synthesize("Hello.", {}))) == 10


@pytest.mark.usefixtures("modules")
def test_closing_does_not_wait_for_an_import_that_hangs(places: list[EngineProcesses]) -> None:
    place = place_with(places, "hangs")
    failed: list[BaseException] = []

    def try_to_load() -> None:
        try:
            load(place)
        except ModelLoadError as error:
            failed.append(error)

    loading = threading.Thread(target=try_to_load)
    loading.start()
    assert place._launcher is not None
    until = time.monotonic() + SOON_S
    while place._launcher.pid is None and time.monotonic() < until:
        time.sleep(0.01)
    server = psutil.Process(pid_of(place))
    place.close()
    loading.join(SOON_S)
    assert not server.is_running()
    assert "cannot be started" in str(failed[0])


def test_a_fork_server_that_stands_still_is_replaced(
    places: list[EngineProcesses], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_with(places)
    first = load(place)
    server = psutil.Process(pid_of(place))
    launcher = place._launcher
    assert launcher is not None
    end = launcher._end

    def end_it() -> None:
        monkeypatch.setattr(launcher_module, "_FORK_LIMIT_S", SOON_S)  # for the next one
        end()

    monkeypatch.setattr(launcher_module, "_FORK_LIMIT_S", 0.2)
    monkeypatch.setattr(launcher, "_end", end_it)
    server.suspend()
    second = load(place, "two")
    assert not server.is_running()
    assert all(len(list(model.synthesize("Hello.", {}))) == 10 for model in (first, second))


def test_a_fork_server_that_stands_still_ends_with_its_manager(
    places: list[EngineProcesses],
) -> None:
    place = place_with(places)
    load(place)
    server = psutil.Process(pid_of(place))
    launcher = place._launcher
    assert launcher is not None
    assert launcher._lifeline is not None
    server.suspend()
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, launcher._lifeline._end)  # as if this process were gone
    os.close(nothing)
    eventually(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)


def test_a_fork_server_that_was_killed_is_replaced_before_it_is_needed(
    places: list[EngineProcesses], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_module, "_STEADY_S", 0.0)
    place = place_with(places)
    first = load(place)
    killed, launcher = pid_of(place), place._launcher
    assert launcher is not None
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: launcher._requests is not None and launcher.pid not in (killed, None))
    server = launcher.pid
    second = load(place, "two")
    assert launcher.pid == server
    assert all(len(list(model.synthesize("Hello.", {}))) == 10 for model in (first, second))


def test_a_fork_server_that_ends_at_once_is_not_started_again_and_again(
    places: list[EngineProcesses],
) -> None:
    place = place_with(places)
    load(place)
    launcher = place._launcher
    assert launcher is not None
    os.kill(pid_of(place), signal.SIGKILL)
    eventually(lambda: launcher._process is None)
    eventually(lambda: "greenroom-fork-watch" not in thread_names())
    assert launcher._process is None
    load(place, "two")


def thread_names() -> list[str]:
    return [each.name for each in threading.enumerate()]


def test_signals_to_all_processes_of_a_service_are_left_to_the_manager(
    places: list[EngineProcesses],
) -> None:
    place = place_with(places)
    model = load(place)
    assert model.process is not None
    for pid in (model.process.pid, pid_of(place)):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
    assert len(list(model.synthesize("Hello.", {}))) == 10
    load(place, "two")


def test_no_process_is_started_once_the_manager_is_closed() -> None:
    place = EngineProcesses("model")
    place.expect([ModelSpec("one", HostileAdapter)])
    place.close()
    with pytest.raises(ModelLoadError, match="the manager is closed"):
        load(place)
    with pytest.raises(LaunchError, match="the manager is closed"):
        place.start()


@pytest.mark.parametrize("flags", [["-I"], ["-W", "error"], ["-P"]])
def test_nothing_in_the_working_directory_is_imported_by_chance(
    tmp_path: Path, flags: list[str]
) -> None:
    for name in ("json", "numpy", "socket"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    program = (
        f"import sys; sys.path[:] = {[each for each in sys.path if each]!r}\n"
        "from greenroom.hosts.launcher import Launcher\n"
        "one = Launcher([]); one.start(); one.close(); print('well')"
    )
    run = [sys.executable, *flags, "-P", "-c", program]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == (b"well\n", 0), done.stderr


def test_it_starts_in_a_program_without_standard_streams() -> None:
    program = (
        f"import os, sys; sys.path[:] = {sys.path!r}\n"
        "from tests.hosts.test_launcher import EngineProcesses, load\n"
        "kept = os.dup(1); os.closerange(0, 3)\n"
        "place = EngineProcesses('model')\n"
        "chunks = list(load(place).synthesize('flood', {}))\n"
        "place.close(); os.write(kept, b'%d' % len(chunks))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=False
    )
    assert done.stdout == b"10"
