"""The table of residents fits a terminal, is never cut in a pipe, and shows times for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from greenroom.cli.ps import accounts, print_residents, resident_of, residents_table, summary
from greenroom.cli.terminal import console
from greenroom.errors import duration
from greenroom.ledger.state import State
from greenroom.statistics import (
    ProcessMemoryStatistics,
    ProcessStatistics,
    ResidentStatistics,
    SharedMemoryStatistics,
)
from greenroom.v1 import tts_pb2
from greenroom.worker.grpc import conversions
from tests.cli.listed import resident

RESIDENTS = (
    resident("piper-en-us-joe-medium", pinned=True, idle_s=3.21, mapped_mb=61.4),
    resident("piper-en-us-amy-medium", refcount=3, owners=("session 7", "call 12", "-")),
    resident("piper-de-de-thorsten-high", idle_s=61.0, expires_in_s=538.9),
    resident("a[b]c", idle_s=7300.0, footprint_mb=1234.5),
    resident("leaving", State.DRAINING, refcount=1, owners=("call 13",)),
    resident("coming", State.WARMING),
)


PIPED = """\
MODEL                      STATE     REFS  HELD BY                  MEMORY  MAPPED    IDLE  EXPIRES
piper-en-us-joe-medium     ready        0                           123 MB   61 MB   3.2 s   pinned
piper-en-us-amy-medium     ready        3  session 7, call 12, -    123 MB    0 MB       -        -
piper-de-de-thorsten-high  ready        0                           123 MB    0 MB  1m 01s   8m 59s
a[b]c                      ready        0                         1,234 MB    0 MB  2h 01m    never
leaving                    draining     1  call 13                  123 MB    0 MB       -        -
coming                     warming      0                           123 MB    0 MB       -        -
"""


def shown(
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    residents: Sequence[ResidentStatistics] = RESIDENTS,
) -> list[str]:
    terminal = Console(width=width, force_terminal=True, color_system=None, highlight=False)
    monkeypatch.setattr(console, "out", terminal)
    with terminal.capture() as captured:
        print_residents(residents)
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize("width", [78, 80, 120])
def test_the_residents_fit_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = shown(monkeypatch, width)
    assert max(map(len, lines)) <= width
    for each in RESIDENTS:
        assert any(line.startswith(f"{each.model_id} ") for line in lines), "an id is never cut"
        assert sum(each.state in line for line in lines) == len(
            [one for one in RESIDENTS if one.state == each.state]
        )


@pytest.mark.parametrize(("width", "there"), [(80, False), (120, True)])
def test_mapped_memory_is_left_out_where_a_terminal_has_no_room_for_it(
    monkeypatch: pytest.MonkeyPatch, width: int, there: bool
) -> None:
    assert ("MAPPED" in shown(monkeypatch, width)[0]) is there


@pytest.mark.parametrize(
    ("width", "there"),
    [
        (78, ["PROCESS"]),
        (90, ["PROCESS", "TAKES"]),
        (100, ["MAPPED", "PROCESS", "PID", "TAKES"]),
        (140, ["MAPPED", "PROCESS", "PID", "TAKES", "AGE", "RESTARTS"]),
    ],
)
def test_of_a_process_as_much_is_shown_as_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, width: int, there: list[str]
) -> None:
    process = ProcessStatistics("piper", 4321, 12.0, 135.0, 0)
    residents = [replace(each, process=process) for each in RESIDENTS[:2]]
    lines = shown(monkeypatch, width, residents)
    assert max(map(len, lines)) <= width
    spare = ("MAPPED", "PROCESS", "PID", "TAKES", "AGE", "RESTARTS")
    assert [each for each in spare if each in lines[0].split()] == there


def test_where_all_else_is_left_out_long_ids_give_way_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = resident("a-family-of-voices/with-a-name-that-is-longer-than-any/terminal", refcount=1)
    lines = shown(monkeypatch, 60, [long])
    assert max(map(len, lines)) <= 60
    assert "".join(line.split()[0] for line in lines[1:]) == long.model_id


def test_a_terminal_too_narrow_for_any_table_gets_long_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert shown(monkeypatch, 40) == PIPED.splitlines()


def test_names_in_wide_characters_keep_to_their_column(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = ("部屋" * 30, "a lodger " * 9)
    lines = shown(monkeypatch, 80, [resident("amy", refcount=2, owners=owners)])
    assert max(map(cell_len, lines)) <= 80
    assert "".join(lines).count("部") == 30


def test_holders_of_one_kind_are_counted_together() -> None:
    owners = (*(f"session {number}" for number in range(20)), "call of ipv4:1.2.3.4:5", "me")
    rows = residents_table([resident("amy", refcount=22, owners=owners)])[1]
    assert rows[0][3] == "session ×20, call of ipv4:1.2.3.4:5, me"


def test_the_residents_in_a_pipe_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_residents(RESIDENTS)
    assert capsys.readouterr().out == PIPED


def test_silences_have_columns_where_there_were_any(capsys: pytest.CaptureFixture[str]) -> None:
    print_residents([resident("amy", gaps=3, late_s=1.25), resident("joe")])
    assert capsys.readouterr().out == (
        "MODEL  STATE  REFS  HELD BY  MEMORY  MAPPED  IDLE  EXPIRES  GAPS  SILENT\n"
        "amy    ready     0           123 MB    0 MB     -    never     3   1.2 s\n"
        "joe    ready     0           123 MB    0 MB     -    never     0     0 s\n"
    )


@pytest.mark.parametrize(
    ("waiting", "said"),
    [(0, ""), (1, "; 1 stream waits"), (12, "; 12 streams wait")],
)
def test_the_summary_says_how_much_of_the_cores_is_in_use_and_who_waits(
    waiting: int, said: str
) -> None:
    answer = tts_pb2.ListModelsResponse(
        resident_cap=3,
        footprint_mb=1234.5,
        budget_mb=2000.0,
        capacity_used=0.954,
        streams_waiting=waiting,
    )
    line = f"2 of 3 models, 1,234 of 2,000 MB, 95% of the cores{said}"
    assert summary(answer, 2) == line


def test_the_summary_names_processes_that_wait_for_a_model() -> None:
    processes = [
        ProcessStatistics("piper", 4711, age_s=75.0, memory_mb=12.3, restarts=0, idle=True),
        ProcessStatistics("tone", 4712, age_s=75.0, memory_mb=None, restarts=0, idle=True),
    ]
    answer = tts_pb2.ListModelsResponse(
        resident_cap=3, idle_processes=map(conversions._process, processes)
    )
    assert summary(answer, 0).endswith("; idle: piper (pid 4711, 12 MB), tone (pid 4712, 0 MB)")


def test_what_models_share_and_what_the_process_takes_are_accounts_of_their_own() -> None:
    shared = SharedMemoryStatistics("graph 77", 64.2, "cpu", ("amy", "joe", "kim"))
    own = ProcessMemoryStatistics(1142.4, 61.0, None)
    answer = tts_pb2.ListModelsResponse(
        shared=[conversions._shared_memory(shared), tts_pb2.SharedMemory(name="nobody's")],
        memory=conversions._memory(own),
    )
    assert list(accounts(answer)) == [
        "shared graph 77: 64 MB, booked with amy, shared by joe, kim",
        "the worker's own process: 1,142 MB anonymous, 61 MB mapped",
    ]
    answer.memory.proportional_mb = 180.4
    assert list(accounts(answer))[-1].endswith("61 MB mapped; 180 MB proportional")
    assert not list(accounts(tts_pb2.ListModelsResponse())), "a worker that is not ready"


def test_a_worker_s_answer_becomes_the_same_picture() -> None:
    said = tts_pb2.Model(
        model_id="amy",
        resident=tts_pb2.Resident(
            state="ready",
            refcount=2,
            owners=["a", "b"],
            pinned=True,
            idle_s=1.5,
            streams=1,
            mapped_mb=61.5,
            gaps=3,
            late_s=1.25,
        ),
    )
    found = resident_of(said)
    assert found is not None
    assert (found.model_id, found.state, found.owners) == ("amy", State.READY, ("a", "b"))
    assert (found.refcount, found.pinned, found.idle_s, found.streams) == (2, True, 1.5, 1)
    assert found.expires_in_s is None
    assert found.mapped_mb == 61.5
    assert (found.gaps, found.late_s) == (3, 1.25)
    said.resident.expires_in_s = 0.0
    expiring = resident_of(said)
    assert expiring is not None
    assert expiring.expires_in_s == 0.0
    assert resident_of(tts_pb2.Model(model_id="amy")) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0 s"),
        (0.004, "0 s"),
        (0.084, "0.08 s"),
        (0.997, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1m 00s"),
        (3599.0, "59m 59s"),
        (3599.7, "1h 00m"),
        (5400, "1h 30m"),
        (86_399, "23h 59m"),
        (90_000, "1d 01h"),
        (math.inf, "-"),
        (math.nan, "-"),
    ],
)
def test_times_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_processes_have_columns_where_there_are_any() -> None:
    process = ProcessStatistics("piper", 4711, age_s=75.0, memory_mb=123.4, restarts=2)
    headings, rows = residents_table(
        (
            resident("amy", process=process, gaps=1, late_s=0.5),
            resident("joe", process=replace(process, memory_mb=None)),
            resident("here"),
        )
    )
    assert headings[-7:] == ("GAPS", "SILENT", "PROCESS", "PID", "TAKES", "AGE", "RESTARTS")
    assert rows[0][-5:] == ("piper", "4711", "123 MB", "1m 15s", "2")
    assert rows[1][-5:] == ("piper", "4711", "-", "1m 15s", "2")
    assert rows[2][-5:] == ("-",) * 5


def test_a_worker_s_message_about_a_process_is_read_whole() -> None:
    process = ProcessStatistics("piper", 4711, age_s=75.0, memory_mb=123.4, restarts=2)
    for given in (process, replace(process, memory_mb=None), None):
        told = resident("amy", process=given)
        message = tts_pb2.Model(model_id="amy", resident=conversions._resident(told))
        read = resident_of(message)
        assert read is not None
        assert read.process == given


def test_a_model_in_its_turn_to_leave_says_for_which() -> None:
    leaving = resident("amy", State.DRAINING, yields_to="joe")
    message = tts_pb2.Model(model_id="amy", resident=conversions._resident(leaving))
    found = resident_of(message)
    assert found is not None
    _, rows = residents_table([found])
    assert rows[0][:2] == ("amy", "draining for joe")
