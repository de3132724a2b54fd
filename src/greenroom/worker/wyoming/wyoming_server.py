"""Wyoming served in the worker's own event loop: `listen`, and in the end `stop`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from greenroom.concurrency.tasks import Tasks
from greenroom.config.schema import WorkerSettings
from greenroom.untrusted.logs import safe_logger
from greenroom.worker.admission import Admission
from greenroom.worker.auth import Caller, Quota, Role
from greenroom.worker.connections import Acceptor, Connections
from greenroom.worker.listen import bind_sockets
from greenroom.worker.synthesis import Synthesis
from greenroom.worker.wyoming.announcement import Announcement
from greenroom.worker.wyoming.event_frames import MAX_HEADER_BYTES
from greenroom.worker.wyoming.voice_list import VoiceList
from greenroom.worker.wyoming.wyoming_connection import Services, WyomingConnection

logger = safe_logger(__name__)

_FLAG = "--wyoming-listen"

MAX_CONNECTIONS = 256
"""At once; an idle one makes room for one more. What each may keep is `event_frames`' limits."""

_END_S = 1.0
"""How long connections that are cut off may take to be gone."""


class WyomingServer:
    """Speaks for clients of one address, which are all one caller: the protocol has no keys."""

    def __init__(
        self, synthesis: Synthesis, admission: Admission, settings: WorkerSettings
    ) -> None:
        """Its address must be set. Raises `ImportError` without the library of the protocol."""
        assert settings.wyoming_listen is not None
        self.address = settings.wyoming_listen
        """Where it listens; with the real port once it does."""
        self.connections = Connections(MAX_CONNECTIONS, MAX_CONNECTIONS // 2)
        """Those that are open."""
        self._announces = settings.wyoming_zeroconf
        self._announcement: Announcement | None = None
        caller = Caller("", Role.SPEAK, Quota())
        self._voices = VoiceList(synthesis)
        self._services = Services(synthesis, admission, self._voices, caller)
        self._sockets: list[socket.socket] = []
        self._acceptors: list[Acceptor] = []
        self._tasks = Tasks()
        self._running: dict[WyomingConnection, asyncio.Task[None]] = {}

    async def listen(self) -> None:
        """Begin to answer; raises `ConfigError` when the address cannot be had."""
        self._sockets, self.address = await bind_sockets(self.address, _FLAG)
        self._voices.begin()
        self._acceptors = [Acceptor(each, self._protocol) for each in self._sockets]
        logger.info("listening on %s", self.url)
        if self._announces:
            self._announcement = await Announcement.begin(self.address)

    @property
    def url(self) -> str:
        """Where it listens, as the library's clients take it."""
        return f"unix://{self.address.path}" if self.address.path else f"tcp://{self.address}"

    def _protocol(self) -> asyncio.Protocol:
        reader = asyncio.StreamReader(MAX_HEADER_BYTES)
        return asyncio.StreamReaderProtocol(reader, self._connected)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = WyomingConnection(reader, writer, self._services)
        task = self._tasks.begin(self._run(connection), "wyoming connection")
        self._running[connection] = task
        self.connections.add(connection, connection.host)

    async def _run(self, connection: WyomingConnection) -> None:
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)
            del self._running[connection]

    async def stop(self, grace_s: float) -> None:
        """Take no more connections, let answers end within the grace, cut off the rest."""
        withdrawal = asyncio.ensure_future(self._withdraw())
        acceptors, self._acceptors = self._acceptors, []
        sockets, self._sockets = self._sockets, []
        for acceptor in acceptors:
            acceptor.close()
            await acceptor.wait_closed()
        for each in sockets:
            each.close()
        for connection in list(self._running):
            connection.end()
        if self._running:
            await asyncio.wait(list(self._running.values()), timeout=grace_s)
        await self._tasks.end(_END_S)
        await self._voices.end(_END_S)
        if sockets and self.address.path:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(Path(self.address.path).unlink)
        await withdrawal

    async def _withdraw(self) -> None:
        announcement, self._announcement = self._announcement, None
        if announcement is not None:
            await announcement.end()
