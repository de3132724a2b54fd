"""What a shell completes: commands, options, and the names of models; never an error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from greenroom import Catalog
from greenroom.cli import main, model_argument
from tests.cli.served import Served

TONES = sorted(["top", *(spec.model_id for spec in Catalog.discover("", adapters=["tone"]))])
"""Names of the worker that begin with `to`."""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GREENROOM_")]:
        if name != "GREENROOM_CACHE_DIR":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes longer than one where a key is pressed."""
    monkeypatch.setattr(model_argument, "_WORKER_S", 60.0)
    monkeypatch.setattr(model_argument, "_CATALOG_S", 60.0)


class Completed:
    """What bash is given for a line whose last word is being typed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._patch = monkeypatch
        self._capfd = capfd

    def __call__(self, line: str) -> list[str]:
        words = line.split(" ")
        self._patch.setenv("COMP_WORDS", line)
        self._patch.setenv("COMP_CWORD", str(len(words) - 1))
        self._patch.setenv("_GREENROOM_COMPLETE", "complete_bash")
        with pytest.raises(SystemExit) as ended:
            main([])
        assert ended.value.code == 0
        out, err = self._capfd.readouterr()
        assert err == ""
        return [word for word in out.splitlines() if word]


@pytest.fixture
def completed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Completed:
    return Completed(monkeypatch, capfd)


def test_commands_and_options_are_completed(completed: Completed) -> None:
    assert completed("greenroom expl") == ["explain"]
    assert completed("greenroom say --addr") == ["--address"]
    assert completed("greenroom ps --serv") == ["--servers"]


def test_names_are_those_of_the_worker_that_would_be_asked(
    completed: Completed, worker: Served
) -> None:
    at = f"--address {worker.address}"
    assert completed(f"greenroom load {at} tone-24") == ["tone-247"]
    assert completed(f"greenroom explain {at} to") == TONES
    assert completed(f"greenroom say {at} -m to") == completed(f"greenroom load {at} to")
    # A shell would not take this one as it is.
    assert completed(f"greenroom load {at} high") == []


def test_without_a_worker_names_are_those_of_the_configuration(
    completed: Completed, config: Path
) -> None:
    at = "--address 127.0.0.1:9"
    assert completed(f"greenroom unload {at} piper-en-us-jo") == ["piper-en-us-joe-medium"]
    assert completed("greenroom say -m en_US-jo") == ["en_US-joe-medium"]
    assert completed(f"greenroom prepare --config {config} to") == TONES
    assert completed("greenroom rm --set voices.packages=[] piper") == []


@pytest.mark.parametrize(
    "line",
    [
        "greenroom load --address nonsense x",
        "greenroom say --config /no/such/file -m x",
        "greenroom say --set nonsense -m x",
        "greenroom nonsense x",
        "greenroom say --set voices.directories=[/dev/null] -m x",
    ],
)
def test_what_is_wrong_completes_to_nothing(completed: Completed, line: str) -> None:
    assert completed(line) == []


def test_a_worker_that_does_not_answer_soon_is_not_waited_for(
    completed: Completed, monkeypatch: pytest.MonkeyPatch, worker: Served
) -> None:
    monkeypatch.setattr(model_argument, "_WORKER_S", 0.0)
    at = f"--address {worker.address}"
    assert completed(f"greenroom load {at} piper-en-us-jo") == ["piper-en-us-joe-medium"]


def test_a_configuration_that_takes_long_is_not_waited_for(
    completed: Completed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "config.yaml")  # which nobody writes into
    monkeypatch.setattr(model_argument, "_CATALOG_S", 0.05)
    assert completed(f"greenroom say --config {tmp_path}/config.yaml -m x") == []
    os.close(os.open(tmp_path / "config.yaml", os.O_RDWR))  # lets the thread that reads it end


def test_a_bug_of_ours_is_not_shown_either(
    completed: Completed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(model_argument, "configuration", fail)
    assert completed("greenroom say -m x") == []


def test_bash_completes_with_the_script_that_is_shown() -> None:
    script = """
        eval "$(greenroom --show-completion)"
        COMP_WORDS=(greenroom expl); COMP_CWORD=1
        _greenroom_completion greenroom
        echo "${COMPREPLY[@]}"
    """
    place = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": f"{place}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("explain\n", "")
