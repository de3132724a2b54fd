"""`greenroom top`: what it shows of a worker, at any width, and what its keys do."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Input, Static

from greenroom.cli import main
from greenroom.cli.top_screen import TopScreen
from greenroom.cli.top_table import (
    COLUMNS,
    Look,
    Refusals,
    View,
    head_lines,
    models_lines,
    rows_of,
)
from greenroom.errors import WorkerError
from greenroom.memory.usage import MIB
from greenroom.statistics import ProcessStatistics
from greenroom.worker.figures import MemoryFigures, ProcessFigures, SharedFigures
from greenroom.worker.speech_log import SpeechFigures
from tests.cli.listed import resident
from tests.cli.served import GREENROOM, Served
from tests.waiting import LIMIT_S, eventually, until
from tests.worker.answered_figures import figures

HEARD = SpeechFigures(
    ended=30,
    failed=1,
    first_audio_p50_s=0.084,
    first_audio_p95_s=1.26,
    real_time_factor=0.1234,
    audio_s=60.0,
    gaps=2,
    late_s=0.4,
)
PROCESS = ProcessStatistics("piper", 4711, 12.0, 332.0, 0)


def voices(count: int) -> Look:
    """Return a look at a worker with so many voices in memory, and one that has left."""
    residents = [
        resident(
            f"piper-en-us-voice-{number:03d}-medium",
            streams=number % 7,
            refcount=number % 7,
            owners=tuple(f"session {n}" for n in range(number % 7)),
            footprint_mb=10.0 + number,
            idle_s=0.0 if number % 7 else 12.0,
            expires_in_s=None if number % 7 else 588.0,
            process=PROCESS if number % 2 else None,
        )
        for number in range(count)
    ]
    return Look(
        "127.0.0.1:50051",
        figures(
            version="0.1.0",
            up_s=192.0,
            streams=sum(each.streams for each in residents),
            streams_waiting=3,
            sessions=4,
            capacity_used=0.951,
            places=100,
            residents=count,
            footprint=1_234 * MIB,
            budget=20_000 * MIB,
            window_s=60.0,
            recent=HEARD,
            models={each.model_id: HEARD for each in residents[:2]} | {"one-that-left": HEARD},
            ended={"finished": 1_200, "failed": 34},
            refused={"no_room": 10, "overload": 2},
            gaps=7,
            late_s=1.5,
            crashes={"piper": 2},
            memory=MemoryFigures(142 * MIB, 61 * MIB, 180 * MIB),
            shared=(SharedFigures("graph 77", 64 * MIB, "cpu", ("amy", "joe")),),
            processes=(ProcessFigures("piper", 4711, 12.0, 332 * MIB, 2),),
        ),
        tuple(residents),
    )


COLUMN_WORDS = "MODEL STATE STREAMS /MIN P50 P95 RTF GAPS MEMORY PROCESS IDLE EXPIRES HELD BY"
LEFT = "one-that-left gone - 30 0.08 s 1.3 s 0.12 - - - - - -"

HEAD = """\
127.0.0.1:50051   greenroom 0.1.0   ready   up 3m 12s
streams 3 (3 wait)   waiting for room 0   sessions 4
requests 30/min (1,234 since the start, 34 failed)
first audio p50 0.08 s, p95 1.3 s   real-time factor 0.12
gaps 2 (7 since the start, 1.5 s in all)
cores 95%   models 3 of 100   booked 1,234 of 20,000 MB
shared graph 77: 64 MB, booked with amy, shared by joe
worker's own process 142 MB anonymous, 61 MB mapped; 180 MB proportional
engines piper 332 MB   crashes 2 (piper 2)
refused 12 (no_room 10, overload 2)
"""


def test_the_figures_of_a_worker_at_80_columns() -> None:
    assert "\n".join(head_lines(voices(3), 80)) + "\n" == HEAD


def test_in_a_pipe_each_group_of_figures_is_one_line() -> None:
    lines = head_lines(voices(3), None)
    assert len(lines) == 7
    assert " ".join(" ".join(lines).split()) == " ".join(HEAD.split())


@pytest.mark.parametrize("count", [0, 3, 100])
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_nothing_is_wider_than_the_terminal(width: int, count: int) -> None:
    look = voices(count)
    lines = models_lines(look, View(), width)
    assert max(map(len, [*lines, *head_lines(look, width)])) <= width
    assert len(lines) == count + 2, "each model has one line"
    assert lines[0].split()[:3] == ["MODEL", "STATE", "STREAMS▼"]


def test_a_wide_terminal_has_every_column() -> None:
    assert models_lines(voices(3), View(), 200)[0].replace("▼", "").split() == (
        COLUMN_WORDS.split()
    )


def test_a_model_that_was_spoken_with_and_has_left_is_told_of() -> None:
    (line,) = (each for each in models_lines(voices(3), View(), 200) if "one-that-left" in each)
    assert line.split() == LEFT.split()


def test_what_a_name_does_to_a_terminal_is_escaped() -> None:
    look = voices(1)
    look = replace(look, residents=(replace(look.residents[0], model_id="a\x1b[31m[red]"),))
    assert "a\\x1b[31m[red]" in "\n".join(models_lines(look, View(), 80))


def test_each_column_sorts_numbers_down_and_words_up() -> None:
    look = voices(20)
    for number, column in enumerate(COLUMNS):
        keys = [column.key(row) for row in rows_of(look, View(column=number))]
        assert keys == sorted(keys, reverse=column.number), column.heading
        turned = [column.key(row) for row in rows_of(look, View(number, reverse=True))]
        assert turned == sorted(keys, reverse=not column.number)


def test_what_is_alike_stays_in_the_order_of_names() -> None:
    names = [row.model_id for row in rows_of(voices(20), View(COLUMNS.index(COLUMNS[4])))]
    assert names[3:] == sorted(names[3:])


@pytest.mark.parametrize(
    ("words", "count"),
    [("", 11), ("voice-003", 1), ("MEDIUM voice", 10), ("gone", 1), ("session 5 006", 1), ("x", 0)],
)
def test_a_filter_is_words_of_a_name_a_state_or_a_holder(words: str, count: int) -> None:
    assert len(rows_of(voices(10), View(words=words))) == count


def test_refusals_are_counted_while_one_watches_and_for_a_minute() -> None:
    def refused(count: int, boot_id: str = "one") -> Any:
        return figures(refused={"no_room": count}, boot_id=boot_id)

    watched = Refusals()
    assert watched.seen(refused(10), 0.0) == 0, "who knows when those were"
    assert watched.seen(refused(12), 30.0) == 2
    assert watched.seen(refused(13), 80.0) == 1
    assert watched.seen(refused(13), 141.0) == 0
    assert watched.seen(refused(1, "two"), 142.0) == 0, "another life counts anew"
    assert "; 2 within the last minute" in head_lines(voices(0), None, 2)[-1]


def test_of_many_shared_parts_and_engines_the_largest_are_named() -> None:
    parts = [SharedFigures(f"graph {n}", n * MIB, "cpu", ("amy", "joe")) for n in range(1, 7)]
    engines = [ProcessFigures(f"engine-{n}", n, 1.0, n * MIB) for n in (1, 2, 3, 4, 5, 5)]
    said = figures(shared=tuple(parts), processes=tuple(engines), memory=MemoryFigures(MIB, 0))
    told = "\n".join(head_lines(Look("here:1", said, ()), 80))
    assert re.findall(r"^shared (.*?) MB", told, re.MULTILINE) == [
        "graph 6: 6",
        "graph 5: 5",
        "graph 4: 4",
        "3 others: 6",
    ]
    assert "engines engine-5 10 MB, engine-4 4 MB, engine-3 3 MB, 2 others 3 MB" in told
    assert "worker's own process 1 MB anonymous, 0 MB mapped\n" in told


# The screen


class Answers:
    """What a worker answers to one who looks again and again."""

    def __init__(self, look: Look) -> None:
        self.look: Look | WorkerError = look
        self.asked = 0

    async def __call__(self) -> Look:
        self.asked += 1
        if isinstance(self.look, WorkerError):
            raise self.look
        return self.look


@contextlib.asynccontextmanager
async def shown(
    answers: Answers, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[TopScreen, Pilot[int]]]:
    assert isinstance(answers.look, Look)
    screen = TopScreen(answers, answers.look, 0.1)
    async with screen.run_test(size=size) as pilot:
        yield screen, pilot


def text_of(screen: TopScreen, part: str) -> str:
    return str(screen.query_one(part, Static).content)


def models_of(screen: TopScreen) -> list[str]:
    return [line.split()[0] for line in text_of(screen, "#rows").splitlines()]


async def test_it_shows_what_a_worker_answers_anew() -> None:
    answers = Answers(voices(3))
    async with shown(answers) as (screen, _):
        assert text_of(screen, "#head") == HEAD.rstrip()
        assert len(models_of(screen)) == 4
        answers.look = voices(0)
        await until(lambda: models_of(screen) == ["one-that-left"])
        answers.look = replace(voices(0), figures=figures())
        await until(lambda: text_of(screen, "#rows") == "no model is in memory")


async def test_keys_sort_turn_filter_and_quit() -> None:
    async with shown(Answers(voices(10))) as (screen, pilot):
        first = models_of(screen)
        assert first[0] == "piper-en-us-voice-006-medium", "the one that speaks most"
        await pilot.press("r")
        assert models_of(screen)[-1] == first[0]
        await pilot.press("left", "left")
        assert text_of(screen, "#headings").startswith("MODEL▲ ")
        assert models_of(screen) == sorted(first)
        await pilot.press("s", "right")
        assert "STREAMS▼" in text_of(screen, "#headings")
        assert models_of(screen) == first
        await pilot.press("/", *"voice-00q", "backspace", "7")
        assert models_of(screen) == ["piper-en-us-voice-007-medium"]
        await pilot.press("enter", "r", "r")
        assert models_of(screen) == ["piper-en-us-voice-007-medium"]
        assert screen.query_one("#filter", Input).display, "what it is filtered by stays in sight"
        await pilot.press("/", "x")
        assert text_of(screen, "#rows") == "no model has 'x'"
        await pilot.press("escape")
        assert models_of(screen) == first
        assert not screen.query_one("#filter", Input).display
        await pilot.press("q")
    assert screen.return_value == 0


async def test_keys_that_come_together_are_each_for_what_has_the_focus_by_then() -> None:
    async with shown(Answers(voices(10))) as (screen, pilot):
        typed(screen, "/", *"007", "\r", "r")
        await until(lambda: models_of(screen) == ["piper-en-us-voice-007-medium"])
        await pilot.press("home")  # until all keys were taken
        assert screen.view == View(reverse=True, words="007"), "r was for the table"
        assert screen.query_one("#filter", Input).display
        typed(screen, "/", *"zz", "\x1b")
        await pilot.press("home")
        assert screen.view.words == ""
        assert not screen.query_one("#filter", Input).display


def typed(screen: TopScreen, *characters: str) -> None:
    """Give the screen keys faster than it takes them."""
    names = {"/": "slash", "\r": "enter", "\x1b": "escape"}
    for each in characters:
        screen.post_message(Key(names.get(each, each), each))


async def test_ctrl_c_ends_it_as_it_ends_any_command() -> None:
    async with shown(Answers(voices(1))) as (screen, pilot):
        await pilot.press("/", "ctrl+c")
    assert screen.return_value == 130


async def test_it_goes_on_while_a_worker_is_away() -> None:
    answers = Answers(voices(3))
    async with shown(answers) as (screen, pilot):
        answers.look = WorkerError("no worker answers at here:1; start one", "UNAVAILABLE")
        await until(lambda: "no worker answers at here:1" in text_of(screen, "#problem"))
        assert "looking again" in text_of(screen, "#problem")
        await pilot.press("s")
        assert len(models_of(screen)) == 4, "what was seen last stays"
        answers.look = voices(1)
        await until(lambda: len(models_of(screen)) == 2)
        assert text_of(screen, "#problem") == ""


async def test_it_fits_another_size_at_once() -> None:
    async with shown(Answers(voices(100))) as (screen, pilot):
        assert "HELD" not in text_of(screen, "#headings")
        await pilot.resize_terminal(200, 50)
        await until(lambda: "HELD BY" in text_of(screen, "#headings"))
        await pilot.resize_terminal(60, 10)
        await until(lambda: max(map(len, text_of(screen, "#rows").splitlines())) < 60)


# A real worker, and a real terminal


@pytest.fixture
def address(worker: Served) -> str:
    return worker.address


class Terminal:
    """A command on a terminal of its own, which a person looks at and types on."""

    def __init__(
        self,
        *arguments: str,
        size: tuple[int, int] = (100, 30),
        command: Sequence[str] = GREENROOM,
        **more: str,
    ) -> None:
        self._ours, its = os.openpty()
        self._name = os.ttyname(its)
        self.resize(*size)
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=its,
            stdout=its,
            stderr=its,
            env={**without_size(os.environ), "TERM": "xterm-256color", **more},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(its)
        self.written = b""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def shows(self, words: str) -> None:
        """Wait until words were written since this was asked for last."""
        while words not in (text := without_escapes(self.written)):
            assert select.select([self._ours], [], [], LIMIT_S)[0], text
            self.written += os.read(self._ours, 65_536)
        self.written = b""

    def fill(self) -> None:
        """Write until no more can be written, as nobody reads it."""
        its = os.open(self._name, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(its, b"." * 4096)
        os.close(its)

    def takes_lines(self) -> bool:
        """Whether it gives its command whole lines, as it did before one drew on it."""
        lflag: int = termios.tcgetattr(self._ours)[3]
        return bool(lflag & termios.ICANON)

    def end(self) -> int:
        """Read to the end; return the exit code."""
        with contextlib.suppress(OSError):  # what Linux says at the end of a terminal
            while more := os.read(self._ours, 65_536):
                self.written += more
        return self.process.wait(60)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._ours)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.process.kill()
        self.process.wait()


def without_size(environment: Mapping[str, str]) -> dict[str, str]:
    """Return it without what some runners say of a terminal that is not this one."""
    return {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}


def without_escapes(written: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;?=>]*[a-zA-Z$]", "", written.decode(errors="replace"))


def test_without_a_terminal_it_looks_once(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--address", address]) == 0
    out = capsys.readouterr().out
    head, table = out.split("\n\n")
    assert head.splitlines()[0].startswith(f"{address}   greenroom ")
    assert "requests 0/min (0 since the start)" in head
    assert table.splitlines()[1].split()[:3] == ["tone-440", "ready", "0"]
    assert "\x1b" not in out


def test_a_look_as_json_has_the_figures_and_the_models(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", "--json", "--address", address]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["server"], told["ready"], told["refused"]) == (address, True, {})
    assert told["recent"]["first_audio_p95_s"] is None
    (model,) = told["models"]
    assert (model["model_id"], model["resident"]["state"]) == ("tone-440", "ready")
    assert model["recent"] is None


def test_ps_and_explain_fit_a_terminal_too(address: str) -> None:
    for command, said in ((("ps",), "the worker's own process"), (("explain", "top"), "high[est]")):
        with Terminal(*command, "--address", address, size=(60, 24)) as terminal:
            assert terminal.end() == 0
            lines = without_escapes(terminal.written).splitlines()
        assert any(said in line for line in lines)
        assert max(map(len, lines)) <= 60


def test_a_worker_that_is_not_there_is_an_error_of_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["top", "--address", "127.0.0.1:9"]) == 1
    err = capsys.readouterr().err
    assert "no worker answers at 127.0.0.1:9" in err
    assert err.count("\n") == 1


def test_on_a_terminal_it_shows_what_changes_and_a_worker_that_comes_back(
    config: Path, tmp_path: Path
) -> None:
    first = Served(config)
    arguments = ("top", "--every", "0.1", "--address", first.address)
    with Terminal(*arguments, NO_COLOR="1") as terminal:
        terminal.shows("tone-440")
        assert main(["load", "tone-277", "--address", first.address]) == 0
        terminal.shows("tone-277")
        terminal.type("/zz")  # all at once, as a script or a fast hand does
        terminal.shows("no model has 'zz'")
        terminal.type("\x1b")
        terminal.shows("tone-277")
        assert main(["say", "Hi", "-o", str(tmp_path / "a.wav"), "--address", first.address]) == 0
        terminal.shows("(1 since the start)")
        first.end()
        terminal.shows("no worker answers at")
        second = Served(config, "--listen", first.address)
        try:
            terminal.shows("(0 since the start)")
            terminal.resize(60, 20)
            os.kill(terminal.process.pid, signal.SIGWINCH)
            terminal.type("q")
            assert terminal.end() == 0
            assert b"\x1b[?1049l" in terminal.written, "the terminal is as it was"
            assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m", terminal.written), "no colours"
        finally:
            second.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_restores_the_terminal(address: str, number: signal.Signals) -> None:
    with Terminal("top", "--every", "0.1", "--address", address) as terminal:
        terminal.shows("tone-440")
        terminal.process.send_signal(number)
        assert terminal.end() == 128 + number
        assert b"\x1b[?1049l" in terminal.written


def test_a_terminal_that_goes_away_ends_it(address: str) -> None:
    with Terminal("top", "--every", "0.1", "--address", address) as terminal:
        terminal.shows("tone-440")
        terminal.close()
        eventually(lambda: terminal.process.poll() is not None)


# A terminal that nobody reads

STUCK = """
import contextlib, os, queue, signal, sys, threading, time
from pathlib import Path
from greenroom.cli import main
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored, in the tests too
def tell():
    waiting = []
    while not any(each.not_full._waiters for each in waiting):
        threads = threading.enumerate()
        waiting = [each._queue for each in threads if each.name == "textual-output"]
        for each in waiting:
            with contextlib.suppress(queue.Full):
                each.put_nowait("")
        time.sleep(0.01)
    Path(os.environ["STUCK"]).touch()
threading.Thread(target=tell, daemon=True).start()
sys.exit(main())
"""
"""`greenroom`, which touches a file when a write of Textual's waits for the terminal.

It fills the queue that is in between, which takes long with what is drawn.
"""


@contextlib.contextmanager
def stuck(address: str, folder: Path) -> Iterator[Terminal]:
    """Give a terminal that nobody reads; the event loop of `greenroom top` stands in a write."""
    told = folder / "stuck"
    command = [sys.executable, "-c", STUCK]
    arguments = ("top", "--every", "0.1", "--address", address)
    with Terminal(*arguments, command=command, STUCK=str(told)) as terminal:
        terminal.shows("tone-440")
        assert not terminal.takes_lines()
        terminal.fill()

        def drawn_until_it_is() -> bool:
            terminal.type("r")
            time.sleep(0.2)  # more keys than it takes would keep it from drawing
            return told.exists()

        eventually(drawn_until_it_is)
        yield terminal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_though_nobody_reads_the_terminal(
    address: str, tmp_path: Path, number: signal.Signals
) -> None:
    with stuck(address, tmp_path) as terminal:
        terminal.process.send_signal(number)
        assert terminal.process.wait(LIMIT_S) == 128 + number
        assert terminal.takes_lines()
        terminal.end()
        assert b"\x1b[?1049l" in terminal.written, "and the screen is as it was"


def test_a_terminal_that_goes_away_unread_ends_it(address: str, tmp_path: Path) -> None:
    with stuck(address, tmp_path) as terminal:
        terminal.close()
        assert terminal.process.wait(LIMIT_S) == 128 + signal.SIGHUP
