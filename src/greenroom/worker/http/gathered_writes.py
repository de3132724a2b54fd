"""A transport that sends what belongs together at once, such as an answer's head and first piece.

Each write of asyncio's is a packet and a call of the system, in which the event loop gives the
interpreter's lock away and may wait for it behind an engine's thread.
"""

from __future__ import annotations

import asyncio
from typing import Any


class GatheredWrites(asyncio.Transport):
    """Writes to `transport`, at once or, between `hold` and `release`, together."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._held: list[bytes] | None = None

    def hold(self) -> None:
        """Keep what is written until `release`."""
        if self._held is None:
            self._held = []

    def release(self) -> None:
        """Write what was kept; a second time does nothing."""
        held, self._held = self._held, None
        if held:
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write, or keep until `release`."""
        if self._held is None:
            self._transport.write(data)
        elif data:
            self._held.append(bytes(data))

    def close(self) -> None:
        """Write what was kept, and close once all is sent."""
        self.release()
        self._transport.close()

    def abort(self) -> None:
        """Close now; what was kept is lost."""
        self._held = None
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or will be once all is sent."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Read no more until `resume_reading`."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()
