"""What systemd is told: that the worker is ready, that it ends, that its event loop still turns.

The protocol is sd_notify(3)'s and sd_watchdog_enabled(3)'s: a datagram with a `KEY=value` on each
line, to the unix socket that NOTIFY_SOCKET names. Outside of a unit there is no such socket, and
nothing is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping

from greenroom.concurrency.tasks import Tasks
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

_LONGEST_STATUS = 200
_END_S = 1.0
"""How long the task that beats may take to end: it only sleeps."""


class Systemd:
    """The service manager that started this process; one without a socket is told nothing."""

    def __init__(self, place: str | None = None, beat_s: float | None = None) -> None:
        """`place` is a path, or a name after `@`; `beat_s` is how often the watchdog is fed."""
        self._place = place
        self._beat_s = beat_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._failed = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int) -> Systemd:
        """Return what the environment names; the watchdog may be meant for another process."""
        place = environment.get("NOTIFY_SOCKET", "")
        if not place.startswith(("/", "@")):
            return cls()
        limit = environment.get("WATCHDOG_USEC", "")
        meant_for = environment.get("WATCHDOG_PID", str(pid))
        if meant_for != str(pid) or not (limit.isascii() and limit.isdecimal() and int(limit)):
            return cls(place)
        # Half of the limit, as the manual says: one that is late is not yet one too few.
        return cls(place, int(limit) / 1_000_000 / 2)

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Feed the watchdog during the block, from the event loop: one that is stuck does not."""
        tasks = Tasks()
        if self._beat_s is not None:
            tasks.begin(self._beat(self._beat_s), "watchdog")
        try:
            yield
        finally:
            await tasks.end(_END_S)
            self._socket.close()

    async def _beat(self, every: float) -> None:
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(every)

    def starting(self, status: str) -> None:
        """Say what the start waits for."""
        self._send(_status(status))

    def ready(self, status: str) -> None:
        """Say that the start is over."""
        self._send(f"READY=1\n{_status(status)}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1\nSTATUS=what is being said may end")

    def _send(self, message: str) -> None:
        if self._place is None:
            return
        place = self._place
        try:
            self._socket.sendto(message.encode(), f"\0{place[1:]}" if place[0] == "@" else place)
        except OSError as error:
            # A full socket too: who does not read does not wait for this word.
            if not self._failed:
                logger.warning("systemd cannot be told at %s: %s", place, error)
            self._failed = True


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())[:_LONGEST_STATUS]}"
