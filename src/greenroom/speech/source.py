"""The text of a stream: its sentences in order, from a string or from a caller's source of pieces.

A source is the caller's own code. It may never end, hang when it is closed, or take no notice of
being cancelled, so it is read by a task of its own, which is left behind when it does not end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

from greenroom.errors import SynthesisError
from greenroom.speech import text as texts
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

CLOSE_LIMIT_S = 2.0
"""How long the end of a stream waits for its source of text to close."""


class SentenceSource:
    """Gives the sentences of a text one at a time."""

    def __init__(self, text: texts.CheckedText) -> None:
        self.is_whole = text.is_whole
        """Whether the text is all there, so that the next sentence need not be waited for."""
        self._text = text
        self._sentences = texts.sentences(text)
        self._asked: asyncio.Queue[asyncio.Future[str | None]] = asyncio.Queue(1)
        self._answer: asyncio.Future[str | None] | None = None
        """What `next` waits for now."""
        self._reader: asyncio.Task[None] | None = None
        self._closed = False

    async def next(self) -> str | None:
        """Return the next sentence, `None` after the last; raises what the text raises."""
        if self.is_whole:
            return await anext(self._sentences, None)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(), name="greenroom-text")
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._asked.put_nowait(answer)
        # However the reader ends, the answer comes; at once, if the reader has ended before.
        self._reader.add_done_callback(self._break_off)
        try:
            return await answer
        finally:
            self._reader.remove_done_callback(self._break_off)
            # The answer keeps its error, and that this frame: without this, they are a cycle.
            self._answer = None
            del answer

    def _break_off(self, _: asyncio.Task[None]) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(SynthesisError("the source of text broke off."))

    async def _read(self) -> None:
        """Read the source, all of it in one task, as some sources need."""
        try:
            while not self._closed:  # a source may take no notice of being cancelled
                answer = await self._asked.get()
                try:
                    sentence = await anext(self._sentences, None)
                    if not answer.done():
                        answer.set_result(sentence)
                except Exception as error:  # noqa: BLE001 - a source may raise anything; the stream gets it
                    if not answer.done():  # else the stream has gone, and does not wait for it
                        answer.set_exception(error)
                    return
                finally:
                    del answer
        finally:
            await _close(self._sentences)
            if isinstance(self._text.source, AsyncIterable):
                await _close(self._text.source)

    async def close(self) -> None:
        """End the reading; returns after `CLOSE_LIMIT_S` though the source goes on."""
        self._closed = True
        if self.is_whole:
            await _close(self._sentences)
            return
        reader = self._reader
        if reader is None:  # it closes what it never read
            reader = asyncio.create_task(self._read(), name="greenroom-text")
        else:
            reader.cancel()
        done, _ = await asyncio.wait([reader], timeout=CLOSE_LIMIT_S)
        if not done:
            logger.error("a source of text is left behind: it does not close")
            reader.add_done_callback(_forget)
            return
        _forget(reader)


def _forget(reader: asyncio.Task[None]) -> None:
    """Take note of how it ended: the stream has told what there was to tell."""
    if not reader.cancelled():
        reader.exception()


async def _close(iterator: AsyncIterator[str] | AsyncIterable[str]) -> None:
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()
