"""What a command logs and prints: nothing raises, ends or holds up a command for it."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from greenroom.cli import main
from greenroom.cli.terminal.console import configure_logging, logging_restored, print_text
from greenroom.cli.terminal.log_writer import MAX_LINE_CHARS, LineWriter, LogHandler
from greenroom.cli.terminal.streams import StandardStream, safe_streams
from tests.waiting import eventually

LIMIT_S = 30.0


class Disk:
    """A place for lines that may be full, or stand still."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.problem: Exception | None = None
        self.tries = 0
        self.may_write = threading.Event()
        self.may_write.set()
        self.entered = threading.Event()

    def write(self, line: str) -> None:
        self.entered.set()
        assert self.may_write.wait(LIMIT_S)
        self.tries += 1
        if self.problem is not None:
            raise self.problem
        self.lines.append(line)


@pytest.fixture(autouse=True)
def _no_unexpected_answers() -> None:
    """Let these tests log in the name of other libraries."""


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.problem = None
    made.may_write.set()


def test_lines_are_written_in_order_by_another_thread(disk: Disk) -> None:
    writer = LineWriter(disk.write)
    for number in range(100):
        writer.put(str(number))
    assert writer.flush(LIMIT_S)
    assert disk.lines == [str(number) for number in range(100)]
    writer.close(LIMIT_S)


def test_who_logs_does_not_wait_for_a_disk_that_stands_still(disk: Disk) -> None:
    disk.may_write.clear()
    writer = LineWriter(disk.write, most=10)
    for number in range(10_000):
        writer.put(str(number))  # returns, or the test runs into its limit
    assert not writer.flush(0.01)
    disk.may_write.set()
    assert writer.flush(LIMIT_S)
    assert disk.lines[-1] == "9999"


def test_of_too_many_lines_the_oldest_are_lost_and_the_log_says_how_many(disk: Disk) -> None:
    disk.may_write.clear()
    writer = LineWriter(disk.write, most=10)
    writer.put("first")
    assert disk.entered.wait(LIMIT_S)
    for number in range(100):
        writer.put(str(number))
    disk.may_write.set()
    assert writer.flush(LIMIT_S)
    told = "90 lines of the log are lost: they came faster than they could be written\n90"
    assert disk.lines == ["first", told, *map(str, range(91, 100))]


def test_a_full_disk_is_tried_again_until_it_can_be_written(disk: Disk) -> None:
    disk.problem = OSError(errno.ENOSPC, "No space left on device")
    writer = LineWriter(disk.write, most=10, retry_s=0.001)
    writer.put("first")
    eventually(lambda: disk.tries > 3)
    for number in range(100):
        writer.put(str(number))
    disk.problem = None
    assert writer.flush(LIMIT_S)
    told = "90 lines of the log are lost: No space left on device\n90"
    assert disk.lines == ["first", told, *map(str, range(91, 100))]
    writer.put("all is well")
    assert writer.flush(LIMIT_S)
    assert disk.lines[-1] == "all is well"


@pytest.mark.parametrize("problem", [ValueError("closed file"), MemoryError(), RuntimeError("no")])
def test_whatever_writing_raises_the_log_goes_on(disk: Disk, problem: Exception) -> None:
    disk.problem = problem
    writer = LineWriter(disk.write, retry_s=0.001)
    writer.put("line")
    eventually(lambda: disk.tries > 1)
    disk.problem = None
    assert writer.flush(LIMIT_S)
    assert disk.lines == ["line"]


def test_the_end_waits_for_the_log_no_longer_than_its_limit(disk: Disk) -> None:
    disk.may_write.clear()
    writer = LineWriter(disk.write)
    writer.put("line")
    begun = time.monotonic()
    writer.close(0.05)
    assert time.monotonic() - begun < LIMIT_S / 2
    disk.may_write.set()
    eventually(lambda: disk.lines == ["line"])


def test_the_thread_of_a_log_ends_with_it(disk: Disk) -> None:
    writer = LineWriter(disk.write)
    writer.put("line")
    writer.close(LIMIT_S)
    assert writer._thread is not None
    writer._thread.join(LIMIT_S)
    assert not writer._thread.is_alive()


def test_a_log_for_which_no_thread_is_to_be_had_is_written_later(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    writer = LineWriter(disk.write)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        writer.put("first")
    assert not writer.flush(0)
    writer.put("second")
    assert writer.flush(LIMIT_S)
    assert disk.lines == ["first", "second"]


def test_a_huge_line_is_cut(disk: Disk) -> None:
    writer = LineWriter(disk.write)
    writer.put("x" * (MAX_LINE_CHARS + 7))
    assert writer.flush(LIMIT_S)
    assert disk.lines == ["x" * MAX_LINE_CHARS + "... (7 characters more)"]


class Nameless:
    """Something that cannot be put into words."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __str__(self) -> str:
        raise self._error


@pytest.fixture
def log(disk: Disk) -> Iterator[logging.Logger]:
    """A logger of its own that writes to the disk."""
    writer = LineWriter(disk.write)
    logger = logging.Logger("greenroom.tested")
    logger.addHandler(LogHandler(writer))
    yield logger
    writer.close(LIMIT_S)


@pytest.mark.parametrize("error", [ValueError("x"), RecursionError(), SystemExit(3)])
def test_what_cannot_be_put_into_words_is_logged_as_that(
    log: logging.Logger, disk: Disk, error: BaseException
) -> None:
    log.warning("about %s", Nameless(error))
    log.warning("about %d", "no number")
    log.warning(Nameless(error))
    eventually(lambda: len(disk.lines) == 3)
    name = type(error).__name__
    assert disk.lines[0].startswith("WARNING a line of greenroom.tested, line ")
    assert disk.lines[0].endswith(f"cannot be told: {name}")
    assert disk.lines[1].endswith("cannot be told: TypeError")
    assert disk.lines[2].endswith(f"cannot be told: {name}")


def test_control_characters_do_not_reach_the_terminal(log: logging.Logger, disk: Disk) -> None:
    log.warning("model %s", "a\x1b]0;owned\x07\r\x9bm")
    eventually(lambda: len(disk.lines) == 1)
    assert disk.lines == ["model a\\x1b]0;owned\\x07\\r\\x9bm"]


def test_a_line_logged_while_a_line_is_logged_does_not_lock_up(disk: Disk) -> None:
    writer = LineWriter(disk.write, most=1)
    with writer._lock:  # as the garbage collector may come in the middle of `put`
        writer.put("inside")
    assert writer.flush(LIMIT_S)
    assert disk.lines == ["inside"]


def test_other_libraries_log_through_the_same_door(capsys: pytest.CaptureFixture[str]) -> None:
    with safe_streams(to_the_end=False), logging_restored():
        configure_logging(logging.INFO)
        for name in ("asyncio", "grpc._cython.cygrpc", "uvicorn.error"):
            logging.getLogger(name).error("of %s", name)
            logging.getLogger(name).info("too much of %s", name)
        logging.getLogger("greenroom.x").info("of greenroom")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "ERROR of asyncio",
        "ERROR of grpc._cython.cygrpc",
        "ERROR of uvicorn.error",
        "INFO of greenroom",
    ]


def test_logging_is_as_it_was_after_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    root, own = logging.getLogger(), logging.getLogger("greenroom")
    before = (root.handlers[:], root.level, own.handlers[:], own.level, logging.raiseExceptions)
    streams = sys.stdout, sys.stderr
    assert main(["--version"]) == 0
    after = (root.handlers[:], root.level, own.handlers[:], own.level, logging.raiseExceptions)
    assert after == before
    assert (sys.stdout, sys.stderr) == streams


def test_errors_come_after_what_was_logged_before_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--debug", "ls", "--set", "nonsense=1"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "where it happened" in lines[0]
    assert lines[-1].startswith("error: ")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def opened(descriptor: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(open(descriptor, "wb", closefd=False), write_through=True)


def test_printing_to_a_reader_that_has_gone_is_quiet(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.close(read)
    stream = StandardStream(opened(write), lasting=False)
    assert stream.write("text") == 4
    assert stream.write("more") == 4
    stream.flush()
    assert stream.problem is not None
    assert stream.problem.errno == errno.EPIPE
    assert stream.complaint is None


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_printing_to_a_full_disk_is_told_once_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["ls", "--set", "voices.directories=[]"]) == 1
        assert main(["--version"]) == 1
    told = "error: standard output cannot be written: No space left on device.\n"
    assert capsys.readouterr().err == told * 2


def test_a_line_that_was_cut_off_is_written_whole_on_a_new_line(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    read, write = pipe
    room = iter([3, 0, 0, 100])

    def write_some(descriptor: int, content: memoryview) -> int:
        if not (most := next(room)):
            raise OSError(errno.ENOSPC, "full")
        return os.write(descriptor, content[:most])

    monkeypatch.setattr("greenroom.cli.terminal.streams.write_some", write_some)
    stream = StandardStream(opened(write), lasting=True)
    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            stream.send("line\n")
    assert stream.problem is not None
    stream.send("line\n")
    assert os.read(read, 100) == b"lin\nline\n"
    assert stream.problem is None


def test_a_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.set_blocking(write, False)
    stream = StandardStream(opened(write), lasting=False)
    text = "x" * 1_000_000
    writing = threading.Thread(target=stream.write, args=(text,))
    writing.start()
    got = b""
    while len(got) < len(text):
        got += os.read(read, 65_536)
    writing.join(LIMIT_S)
    assert stream.problem is None


def test_no_standard_output_at_all_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with safe_streams(to_the_end=False) as out:
        print_text("unheard")
        assert not out.isatty()
        with pytest.raises(io.UnsupportedOperation):
            out.fileno()
    assert out.complaint is None


def test_names_that_no_encoding_has_are_printed_escaped(pipe: tuple[int, int]) -> None:
    read, write = pipe
    StandardStream(opened(write), lasting=False).write("pack-\udcff\n")
    assert os.read(read, 100) == b"pack-\\udcff\n"
