"""Connections on their way in: accepted, bounded in number, and the idle ones make room.

asyncio's own server logs a line for every connection that it cannot accept, thousands a second
when the process is out of file descriptors.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable
from typing import Protocol

from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

_BACKLOG = 1_024
"""Connections that the system keeps until they are accepted."""

_AT_ONCE = 64
"""Connections accepted in one step, so that the event loop goes on."""

_PAUSE_S = 1.0
"""After a connection could not be accepted."""

_SILENCE_S = 60.0
"""Between two lines that say so."""


class Connection(Protocol):
    """What is known of a connection here."""

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is being answered."""

    def cut(self) -> None:
        """End it now."""


class Connections:
    """The open connections, bounded in number, in all and of one address.

    A new one is always let in as long as another is idle: the one that is open for longest, of the
    same address when that has its share. A client that opens connections and sends nothing keeps no
    other out.
    """

    def __init__(self, limit: int, of_one: int) -> None:
        self._limit = limit
        self._of_one = of_one
        self._all: dict[Connection, str] = {}
        self._peers: dict[str, dict[Connection, None]] = {}

    def add(self, connection: Connection, peer: str) -> None:
        """Count a connection, which is idle, and cut one off if there are too many."""
        self._all[connection] = peer
        of_peer = self._peers.setdefault(peer, {})
        of_peer[connection] = None
        crowd = of_peer if len(of_peer) > self._of_one else self._all
        if crowd is of_peer or len(self._all) > self._limit:
            idle = next(each for each in crowd if each.is_idle)
            self.remove(idle)
            idle.cut()

    def remove(self, connection: Connection) -> None:
        """Count it no longer; a second time changes nothing."""
        peer = self._all.pop(connection, None)
        if peer is not None:
            del self._peers[peer][connection]
            if not self._peers[peer]:
                del self._peers[peer]

    def __len__(self) -> int:
        return len(self._all)


class Acceptor:
    """Accepts the connections of one listening socket, as `asyncio.Server` does."""

    def __init__(self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._protocol = protocol
        self._beginning: set[asyncio.Task[None]] = set()
        self._resuming: asyncio.TimerHandle | None = None
        self._said_at = -math.inf
        listener.setblocking(False)
        listener.listen(_BACKLOG)
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Accept no more."""
        if self._resuming is not None:
            self._resuming.cancel()
        self._loop.remove_reader(self._listener)

    async def wait_closed(self) -> None:
        """Return when what was accepted has begun."""
        if self._beginning:
            await asyncio.wait(self._beginning)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            accepted.setblocking(False)
            task = self._loop.create_task(self._begin(accepted), name="greenroom-connection")
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _begin(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, accepted)
        except OSError:  # it has gone already
            accepted.close()

    def _pause(self, error: OSError) -> None:
        """Leave connections where they are for a while; those that end make room for them."""
        self._loop.remove_reader(self._listener)
        self._resuming = self._loop.call_later(_PAUSE_S, self._resume)
        if self._loop.time() - self._said_at >= _SILENCE_S:
            self._said_at = self._loop.time()
            logger.warning(
                "connections wait, as none can be accepted: %s; raise the limit of open files "
                "(ulimit -n)",
                (error.strerror or str(error)).lower(),
            )

    def _resume(self) -> None:
        self._resuming = None
        self._loop.add_reader(self._listener, self._accept)
