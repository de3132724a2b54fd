"""Messages of a call that follow one by one: pushed by who reads them, taken by who answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator

_MOST_WAITING = 64
"""Messages of one call that were not taken yet; who pushes more waits."""


class _Messages(AsyncIterator[bytes]):
    """The messages of one call."""

    def __init__(self, first: tuple[bytes, ...], *, whole: bool) -> None:
        self._waiting = deque(first)
        self._last = whole
        self._over = False
        self._added = asyncio.Event()
        self._room = asyncio.Event()

    async def __anext__(self) -> bytes:
        while not self._waiting:
            if self._last:
                raise StopAsyncIteration
            self._added.clear()
            await self._added.wait()
        self._room.set()
        return self._waiting.popleft()

    async def add(self, messages: tuple[bytes, ...], *, last: bool) -> bool:
        """Add messages as soon as there is room; whether the call goes on."""
        while len(self._waiting) >= _MOST_WAITING and not self._over:
            self._room.clear()
            await self._room.wait()
        self._waiting.extend(messages)
        self._last = self._last or last
        self._added.set()
        return not self._over

    def end(self) -> None:
        """Let nobody wait any more to add messages: the call is over."""
        self._over = True
        self._room.set()


class PushedTexts:
    """The calls under way whose messages follow; all methods on one event loop."""

    def __init__(self) -> None:
        self._calls: dict[str, _Messages] = {}

    @contextlib.contextmanager
    def open(self, call_id: str, first: tuple[bytes, ...]) -> Iterator[AsyncIterator[bytes]]:
        """Yield the messages of a call, of which the `first` are there; without an id, all are."""
        messages = _Messages(first, whole=not call_id)
        if call_id:
            self._calls[call_id] = messages
        try:
            yield messages
        finally:
            if call_id:
                del self._calls[call_id]
                messages.end()

    async def push(self, call_id: str, messages: tuple[bytes, ...], *, last: bool) -> bool:
        """Add messages to a call; whether it wants more, which one that is over does not."""
        call = self._calls.get(call_id)
        return call is not None and await call.add(messages, last=last) and not last

    def __len__(self) -> int:
        return len(self._calls)
