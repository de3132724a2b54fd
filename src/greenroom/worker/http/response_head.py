"""An answer's head sent with the beginning of its body, in one system call and one packet.

uvicorn writes the head as soon as the application states it, and each write is a system call that
gives up the interpreter's lock: with engines computing in other threads that is a wait each time.
"""

from __future__ import annotations

import asyncio
from typing import Any


class HeadHolder:
    """A connection's transport, which keeps a head until something follows it, or for one step.

    All that is not about writing is the transport's own.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._is_head = False
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def expect_head(self) -> None:
        """Take what is written next as a head."""
        self._is_head = True

    def write(self, data: bytes) -> None:
        """Send `data`, after the head if one is kept; a head is kept."""
        if self._is_head:
            self._is_head = False
            self._head = data
            self._loop.call_soon(self._send_head)
            return
        head, self._head = self._head, b""
        self._transport.write(head + data if head else data)

    def _send_head(self) -> None:
        """Send a head that nothing has followed yet."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Send what is kept, and close once it is sent."""
        self._send_head()
        self._transport.close()
