"""Text on its way in from a caller: bounded in length, and in how long it may keep us waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from greenroom.errors import StalledError
from greenroom.speech.text import check_source, check_text, check_total

Text = str | AsyncIterator[str]


def checked(text: Text, *, limit: int, patience: float) -> Text:
    """Return `text`, checked if it is whole, else as pieces that are checked as they come.

    `limit` is in characters over all pieces, `patience` in seconds for each piece. Raises
    `InvalidInputError`.
    """
    if isinstance(text, str):
        check_source(text, limit=limit)
        return text
    return _pieces(text, limit, patience)


async def _pieces(pieces: AsyncIterator[str], limit: int, patience: float) -> AsyncIterator[str]:
    total = 0
    while True:
        try:
            async with asyncio.timeout(patience):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise StalledError(
                f"no text came for {patience:g} s; end the text with is_final or half-close."
            ) from None
        total += len(check_text(piece, limit=limit))
        check_total(total, limit)
        yield piece
