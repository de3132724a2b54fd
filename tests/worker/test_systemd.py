"""What systemd hears from a worker, over a real socket."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom.worker.systemd import Systemd
from tests.waiting import LIMIT_S, eventually, until

GREENROOM = str(Path(sys.executable).parent / "greenroom")
TONE = (
    "--set=models=[{model_id: tone-440, variant_of: tone-440}]",
    "--set=model_manager.default_model_id=tone-440",
    "--set=voices.directories=[]",
    "--listen=127.0.0.1:0",
    "--http-listen=127.0.0.1:0",
)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """What listens in systemd's place, where it may listen."""
    place = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(place if request.param == "path" else f"\0{place}")
        made.setblocking(False)
        yield made


def place_of(manager: socket.socket) -> str:
    name = manager.getsockname()
    return name if isinstance(name, str) else name.decode().replace("\0", "@")


def heard(manager: socket.socket) -> list[str]:
    """Return what came since the last time."""
    messages: list[str] = []
    while True:
        try:
            messages.append(manager.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_a_worker_says_that_it_is_ready_that_it_lives_and_that_it_ends(
    manager: socket.socket,
) -> None:
    told: list[str] = []

    def come(message: str, times: int = 1) -> bool:
        told.extend(heard(manager))
        return sum(each.startswith(message) for each in told) >= times

    process = subprocess.Popen(
        [GREENROOM, "serve", *TONE],
        env={**os.environ, "NOTIFY_SOCKET": place_of(manager), "WATCHDOG_USEC": "100000"},
        stdout=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: come("READY=1"))
        assert told.index("STATUS=loading the first models") < len(told) - 1
        (ready,) = [message for message in told if message.startswith("READY=1")]
        assert ready.startswith("READY=1\nSTATUS=listening on 127.0.0.1:")
        beats = told.count("WATCHDOG=1")
        eventually(lambda: come("WATCHDOG=1", beats + 3))
        assert "STOPPING=1" not in "".join(told)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
        assert come("STOPPING=1")
    finally:
        process.kill()
        process.wait()


async def test_a_loop_that_is_stuck_feeds_no_watchdog(manager: socket.socket) -> None:
    async with Systemd(place_of(manager), beat_s=0.001).watched():
        await until(lambda: heard(manager))
        heard(manager)
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            pass
        assert heard(manager) == []
        await until(lambda: heard(manager))
    heard(manager)
    await asyncio.sleep(0.01)
    assert heard(manager) == []


@pytest.mark.parametrize(
    ("more", "fed"),
    [
        ({"WATCHDOG_USEC": "2000"}, True),
        ({"WATCHDOG_USEC": "2000", "WATCHDOG_PID": "7"}, True),
        ({"WATCHDOG_USEC": "2000", "WATCHDOG_PID": "8"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({}, False),
    ],
)
async def test_the_watchdog_is_fed_where_there_is_one(
    manager: socket.socket, more: dict[str, str], fed: bool
) -> None:
    systemd = Systemd.from_environment({"NOTIFY_SOCKET": place_of(manager), **more}, 7)
    async with systemd.watched():
        systemd.ready("listening\non two lines")
        for _ in range(10):
            await asyncio.sleep(0)
        assert ("WATCHDOG=1" in (told := heard(manager))) is fed
        assert "READY=1\nSTATUS=listening on two lines" in told


@pytest.mark.parametrize("place", ["", "vsock:2:1234", "relative"])
async def test_outside_of_a_unit_nothing_is_said(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (systemd := Systemd.from_environment({"NOTIFY_SOCKET": place}, 7)).watched():
        systemd.ready("all is well")
        systemd.stopping()
    assert not caplog.records


async def test_a_systemd_that_is_gone_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "greenroom"):
        async with (systemd := Systemd(str(tmp_path / "nobody"))).watched():
            systemd.ready("all is well")
            systemd.stopping()
    (record,) = caplog.records
    assert "systemd cannot be told at" in record.getMessage()
