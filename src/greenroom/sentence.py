"""One sentence on its way through the engine, and the one after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol

from greenroom.audio import Framer
from greenroom.errors import SynthesisError
from greenroom.speech import AudioChunk, AudioFrame

Run = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a step in a thread, to its end even when cancelled; see `stream.Use`."""


class Voice(Protocol):
    """What a stream needs of an adapter."""

    @property
    def sample_rate(self) -> int:
        """Hz of the chunks."""

    @property
    def looks_ahead(self) -> bool:
        """Whether a sentence may begin, now, while the one before it is spoken."""

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        """Speak one sentence."""


class Sentence:
    """One sentence's chunks; `begin`, `next_frames` and `close` run in a thread, one at a time."""

    def __init__(
        self, voice: Voice, sentence: str, options: Mapping[str, Any], framer: Framer
    ) -> None:
        self._voice = voice
        self._sentence = sentence
        self._options = options
        self._framer = framer
        self._iterator: Iterator[AudioChunk] | None = None
        self._begun: AudioChunk | None = None
        self.open = False
        """Whether the engine's generator has begun and not ended."""
        self.inside = False
        """Whether a thread is in the engine now, perhaps one that was written off."""
        self.engine_s = 0.0
        """Seconds that threads were in the engine."""

    def begin(self) -> None:
        """Have the engine make the first chunk, and keep it."""
        self._begun = self._next_chunk()

    def next_frames(self) -> list[AudioFrame] | None:
        """Return the frames of the next chunk, or `None` at the end of the sentence."""
        chunk, self._begun = self._begun or self._next_chunk(), None
        if chunk is None:
            return None
        if chunk.sample_rate != self._framer.source_rate:
            raise SynthesisError(
                f"the engine made audio at {chunk.sample_rate} Hz, "
                f"but the model speaks at {self._framer.source_rate} Hz."
            )
        return self._framer.feed(chunk.samples)

    def _next_chunk(self) -> AudioChunk | None:
        self.inside = True
        began = time.perf_counter()
        try:
            if self._iterator is None:
                self.open = True
                self._iterator = iter(self._voice.synthesize(self._sentence, self._options))
            chunk = next(self._iterator, None)
        finally:
            self.engine_s += time.perf_counter() - began
            self.inside = False
        if chunk is None:
            self.open = False
        return chunk

    def close(self) -> None:
        """Let the engine's generator run its `finally`."""
        self.open = False
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()

    async def leave(self, run: Run) -> None:
        """End the engine's generator, unless a thread that was written off is inside."""
        if self.open and not self.inside:
            await run(self.close)


class Ahead:
    """The sentence after the present one, begun where cores would idle otherwise."""

    def __init__(
        self, found: AsyncIterator[str], sentence: Callable[[str], Sentence], run: Run
    ) -> None:
        self._found = found
        self._sentence = sentence
        self._run = run
        self._next: Sentence | None = None
        self._beginning: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Have the engine make the next sentence's first chunk, if it does not already."""
        if self._beginning is None:
            self._beginning = asyncio.create_task(self._begin(), name="greenroom-ahead")

    async def _begin(self) -> None:
        text = await anext(self._found, None)
        if text is not None:
            self._next = self._sentence(text)
            await self._run(self._next.begin)

    async def take(self) -> Sentence | None:
        """Return the next sentence, begun or not; `None` after the last.

        Raises what the text or the engine raised.
        """
        if self._beginning is None:
            text = await anext(self._found, None)
            return None if text is None else self._sentence(text)
        await self._beginning
        self._beginning, sentence, self._next = None, self._next, None
        return sentence

    async def close(self) -> None:
        """Give up what was begun; returns when no thread is in the engine for it."""
        if self._beginning is not None:
            self._beginning.cancel()
            await asyncio.wait([self._beginning])
            if not self._beginning.cancelled():
                self._beginning.exception()  # nobody will hear it
            self._beginning = None
        sentence, self._next = self._next, None
        if sentence is not None:
            await sentence.leave(self._run)
