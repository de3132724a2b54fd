"""The text of a request as it comes in pieces: each waited for so long, all of them kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from greenroom.errors import StalledError
from greenroom.speech.source import CLOSE_LIMIT_S


class TextInput:
    """Pieces of text that can be read again from the first; by one reader at a time.

    A reader that is cancelled loses nothing: the piece that it waited for is the next reader's. So
    the pieces are asked for in tasks of their own; `close` ends the one under way, and the source.
    What is kept is as long as a text may be, and one piece.
    """

    def __init__(self, pieces: AsyncIterator[str], patience: float) -> None:
        """`patience` is how many seconds a piece may take to come."""
        self._pieces = pieces
        self._patience = patience
        self._kept = ""
        self._coming: asyncio.Task[str | None] | None = None

    def __aiter__(self) -> AsyncIterator[str]:
        """Begin at the first piece; those that came before come again as one."""
        return _Reader(self, self._kept)

    async def next(self) -> str:
        """Return the next piece that has not come yet.

        Raises `StalledError` when that takes too long, and what the source raises.
        """
        if self._coming is None:
            self._coming = asyncio.create_task(self._wait(), name="greenroom text")
        piece = await asyncio.shield(self._coming)
        self._coming = None
        if piece is None:
            raise StopAsyncIteration
        self._kept += piece
        return piece

    async def _wait(self) -> str | None:
        try:
            async with asyncio.timeout(self._patience):
                return await anext(self._pieces, None)
        except TimeoutError:
            raise StalledError(
                f"no text came for {self._patience:g} s; end the text with is_final or half-close."
            ) from None

    async def close(self) -> None:
        """End the source; returns after `CLOSE_LIMIT_S` though it goes on."""
        coming, self._coming = self._coming, None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_LIMIT_S):
                if coming is not None:
                    coming.cancel()
                    await asyncio.wait([coming])
                    if not coming.cancelled():
                        coming.exception()  # nobody reads it any more
                close = getattr(self._pieces, "aclose", None)
                if close is not None:
                    await close()


class _Reader(AsyncIterator[str]):
    """One reading, which begins with what was kept."""

    def __init__(self, text: TextInput, kept: str) -> None:
        self._text = text
        self._kept = kept

    async def __anext__(self) -> str:
        if self._kept:
            kept, self._kept = self._kept, ""
            return kept
        return await self._text.next()
