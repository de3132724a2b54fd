"""The command line as a whole: exit codes, errors of one line, help, logging."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from greenroom.cli import app, main
from greenroom.cli.reference import pages, reference
from greenroom.cli.terminal.console import CommandError, err
from greenroom.errors import ModelNotFoundError

Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in [name for name in os.environ if name.startswith("GREENROOM_")]:
        if name != "GREENROOM_CACHE_DIR":
            monkeypatch.delenv(name)

    def run(line: str) -> tuple[int, str, str]:
        code = main(shlex.split(line))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_version_is_that_of_the_package(run: Run) -> None:
    code, out, err = run("--version")
    assert (code, err) == (0, "")
    assert out.startswith("greenroom 0.")


@pytest.mark.parametrize("line", ["", "config", "--help", "say --help", "config check --help"])
def test_whoever_asks_for_nothing_or_help_gets_help(run: Run, line: str) -> None:
    code, out, err = run(line)
    assert (code, err) == (0, "")
    assert "Usage: greenroom" in out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("speak", "No such command"),
        ("say --loud x", "No such option"),
        ("load", "Missing argument"),
        ("say x --rate fast", "Invalid value"),
        ("say x --option fast", "must be KEY=VALUE"),
        ("say x --option =fast", "must be KEY=VALUE"),
        ("ls --set ttl", "must be KEY=VALUE"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(run: Run, line: str, words: str) -> None:
    code, out, err = run(line)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert words in err
    assert "--help` shows how." in err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ls --config /no/such/file", "error: /no/such/file: cannot be read: "),
        ("ls --set model_manager.ttl=5", "the command line: model_manager.ttl: is not a key"),
        ("ls --set model_manager.ttl_ms=soon", "the command line: model_manager.ttl_ms: must be"),
        ("say x -o x.wav -m piper-../../x", "model 'piper-../../x' is not in the catalog"),
        ("say x -o x.wav -m en_US-jo-medium", "did you mean piper-en-us-joe-medium"),
        ("say '' -o x.wav", "text is empty"),
        ("say '[red]x\x07' -o x.wav", "control character U+0007"),
        ("say x -o x.wav --rate 44101", "sample_rate 44101 Hz cannot be framed"),
        ("say x -o x.wav --speed 9", "option 'speed' must be a number from 0.25 to 4"),
        ("say x -o x.wav --option '[b]=1'", "option '[b]' is not known"),
        ("say x -o x.mp4", "x.mp4: no format has the suffix .mp4; there are .wav, .mp3, .opus, "),
        ("say x -o x.opus --rate 44100", "opus cannot have 44100 Hz; use one of 8000, "),
        ("say x -o x.wav -m joe", "is not in the catalog; did you mean piper-en-us-joe-medium?"),
        ("say x -o /no/folder/x.wav", "there is no folder /no/folder; create it."),
        ("say x -o /", "is a folder; name a file in it"),
        ("ps --address 127.0.0.1:9", "no worker answers at 127.0.0.1:9; start one with"),
        ("explain x --address 127.0.0.1:9", "start one with `greenroom serve`"),
        ("say x -o x.wav --address 127.0.0.1:9", "start one with `greenroom serve`"),
        ("serve --listen nowhere", "worker.listen: must be HOST:PORT"),
        ("serve --set model_manager.default_model_id=x", "the configuration: default_model_id: "),
        ("demo --out /dev/null/x", "/dev/null/x cannot be made"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(
    run: Run, line: str, words: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    here = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        code, out, err = run(line)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: ")
    assert words in err
    assert list(here.iterdir()) == []


def test_an_unexpected_error_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("what\nnow")

    monkeypatch.setattr("greenroom.cli.ls.configuration", fail)
    code, _, err = run("ls")
    assert code == 1
    assert err == ("error: ZeroDivisionError: what now (a fault of greenroom's; see --debug)\n")


@pytest.mark.parametrize("error", [ModelNotFoundError("x"), CommandError("no"), OSError("no")])
def test_only_debug_shows_a_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("greenroom.cli.ls.configuration", fail)
    for flags, shown in (("", False), ("-v", False), ("--debug", True)):
        code, _, err = run(f"{flags} ls")
        assert code == 1
        assert ("Traceback" in err) is shown


def test_an_interruption_is_exit_code_130_without_a_word(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("greenroom.cli.ls.configuration", interrupt)
    assert run("ls") == (130, "", "")


def test_logging_is_left_as_it_was(run: Run) -> None:
    logger = logging.getLogger("greenroom")
    before = (logger.level, logger.handlers[:])
    run("--debug ls")
    assert (logger.level, logger.handlers[:]) == before


def test_warnings_are_told_and_decisions_only_when_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log(*_: object) -> None:
        logging.getLogger("greenroom.catalog.catalog").warning("left [bold]out[/bold]")
        logging.getLogger("greenroom.catalog.catalog").info("found")
        raise CommandError("enough")

    monkeypatch.setattr("greenroom.cli.ls.configuration", log)
    assert run("ls")[2] == "left [bold]out[/bold]\nerror: enough\n"
    assert " INFO found\n" in run("-v ls")[2]


def test_nothing_is_animated_where_there_is_no_terminal(run: Run) -> None:
    assert not err.is_terminal
    assert "\x1b" not in "".join(map(str, run("ps --address 127.0.0.1:9")))


def test_every_command_says_what_it_does_and_what_its_options_mean() -> None:
    def walk(tree: object, path: str) -> None:
        assert getattr(tree, "help", ""), path
        for param in getattr(tree, "params", ()):
            assert param.help, f"{path} {param.name}"
        for name, each in getattr(tree, "commands", {}).items():
            walk(each, f"{path} {name}")

    walk(app.command(), "greenroom")


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    page = Path(__file__).parents[2] / "docs" / "cli.md"
    assert page.read_text() == reference(), "run `python -m greenroom.cli.reference > docs/cli.md`"


def test_the_reference_has_every_command() -> None:
    headings = [page.splitlines()[0] for page in pages(app.command())]
    names = ["init", "serve", "say", "ls", "ps", "top", "search", "show", "pull", "rm"]
    names += ["prepare", "load", "unload", "pin", "unpin", "explain", "footprints"]
    names += ["record", "simulate", "demo", "config"]
    wanted = ["## greenroom", *(f"## greenroom {name}" for name in names)]
    below = ["config check", "service", "service install", "cluster", "cluster up"]
    assert headings == [*wanted, *(f"## greenroom {name}" for name in below)]


def test_what_is_exported_can_be_imported_and_nothing_else() -> None:
    import greenroom

    assert {getattr(greenroom, name).__name__ for name in greenroom.__all__} == {*greenroom.__all__}
    assert set(greenroom._PLACES) == {*greenroom.__all__}
    assert {*greenroom.__all__} <= {*dir(greenroom)}
    with pytest.raises(AttributeError, match="nonsense"):
        greenroom.nonsense  # noqa: B018
