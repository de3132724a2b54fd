"""One sentence on its way through the engine, and the prefetch of the one after it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from greenroom import errors
from greenroom.audio import Framer
from greenroom.audio.chunks import samples_of, words_of
from greenroom.audio.frames import AudioChunk, AudioFrame, WordTime
from greenroom.errors import ModelManagerError, SynthesisError
from greenroom.speech.cost import StepTaken
from greenroom.speech.pace import Pace, paced
from greenroom.speech.source import SentenceSource
from greenroom.speech.text import is_sayable
from greenroom.untrusted.exceptions import Translated, describe_error, linked_errors

T = TypeVar("T")

Words = tuple[WordTime, ...] | None

WORD_TIMES = "word_times"
"""The option by which an adapter that has word times is asked for them."""

_MOST_SECONDS = 1_200
"""Audio of one sentence: more than a text of the greatest length makes."""

_MOST_EMPTY = 10_000
"""Chunks without samples that one sentence may have."""

_MOST_EMPTY_S = 60.0
"""Seconds in the engine for which it may make chunks without samples, one after another."""

SILENCE_S = 0.25
"""Seconds of silence for a sentence in which there is nothing to say, such as "..."."""

_END: Any = object()


class Turn(Protocol):
    """A sentence's right to the engine, from its first step to its end."""

    async def run(self, step: Callable[[], T]) -> T:
        """Run a step in a thread when a core is free for it; see `use.Use`."""

    async def run_on_idle_core(self, step: Callable[[], T]) -> T | None:
        """Run a step in a thread if a core is idle that nobody waits for; else return `None`."""

    async def close_engine(self, step: Callable[[], T]) -> T:
        """Run what frees something in a thread, whoever computes, when there is a thread."""

    def leave(self) -> None:
        """Give the right back, once no thread of it is inside the engine."""


class Synthesizer(Protocol):
    """What a stream needs of an adapter."""

    @property
    def sample_rate(self) -> int:
        """Hz of the chunks."""

    @property
    def looks_ahead(self) -> bool:
        """Whether a sentence may begin, now, while the one before it is spoken."""

    @property
    def has_word_times(self) -> bool:
        """Whether its chunks have words, when the option `word_times` asks for them."""

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        """Speak one sentence."""


class Listening(Protocol):
    """What a sentence, in the engine's thread, asks of the stream that it belongs to."""

    def pace(self) -> Pace:
        """How urgent the next chunk is."""

    def deliver(self, frames: list[AudioFrame]) -> None:
        """Take frames, and tell the consumer."""

    def wants_more(self, ran_s: float) -> bool:
        """Whether the thread, which has run for `ran_s` seconds, may go on with the next chunk."""


class Sentence:
    """One sentence's chunks; `begin`, `advance` and `close` run in a thread, one at a time.

    One in which there is nothing to say is a short silence, and the engine does not hear of it.
    Whatever the engine raises comes out as a `SynthesisError`, told in the engine's own thread.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        text: str,
        options: Mapping[str, Any],
        framer: Framer,
        listening: Listening,
        *,
        word_times: bool = False,
    ) -> None:
        """`word_times` has the frames come with words, where the engine knows them."""
        self.text = text
        self.is_sayable = is_sayable(text)
        """Whether the engine speaks it; else nothing is learned from its steps."""
        self._synthesizer = synthesizer
        self._options = options
        self._framer = framer
        self._listening = listening
        self._iterator: Iterator[AudioChunk] | None = None
        self._word_times = word_times
        self._first_chunk: tuple[NDArray[np.float32], Words] | None = None
        self._empty = 0
        self._empty_s = 0.0
        """Seconds that threads were in the engine since it made audio last."""
        self._is_last = False
        """Whether the engine said that nothing follows the chunk which it made last."""
        self.turn: Turn | None = None
        """Held from the sentence's first step to its end."""
        self.samples = 0
        """How many the engine has made."""
        self.looks_ahead = False
        """Whether the next sentence may begin, as the engine said after its last chunk."""
        self.open = False
        """Whether the engine's generator has begun and not ended."""
        self.inside = False
        """Whether a thread is in the engine now, perhaps that of an abandoned call."""
        self.engine_s = 0.0
        """Seconds that threads were in the engine."""
        self._helped: deque[float] = deque()
        """Seconds that threads of the engine's own computed beside them."""
        self.steps: deque[StepTaken] = deque()
        """Those that nobody has learned from yet."""

    @property
    def begun(self) -> bool:
        """Whether the engine has made the first chunk."""
        return self._iterator is not None

    @property
    def audio_s(self) -> float:
        """Seconds of audio that the engine has made."""
        return self.samples / self._framer.source_rate

    def begin(self) -> None:
        """Have the engine make the first chunk, and keep it."""
        self._first_chunk = self._translated(self._next_chunk)

    def advance(self) -> bool:
        """Deliver the next chunks, as many as are wanted; false at the end of the sentence.

        Each is delivered as it is made, so that none is held back by one that takes long.
        """
        return self._translated(self._advance)

    def close(self) -> None:
        """Let the engine's generator run its `finally`."""
        self._translated(self._close)

    def _translated(self, step: Callable[[], T]) -> T:
        with Translated(synthesis_error):
            return step()

    def _advance(self) -> bool:
        began = time.perf_counter()
        while (chunk := self._kept_or_next()) is not None:
            self.looks_ahead = bool(self._synthesizer.looks_ahead)
            self._listening.deliver(self._framer.feed(*chunk))
            may_go_on = self._listening.wants_more(time.perf_counter() - began)
            if not may_go_on and not self._is_last:
                return True
        return False

    def _kept_or_next(self) -> tuple[NDArray[np.float32], Words] | None:
        kept, self._first_chunk = self._first_chunk, None
        return self._next_chunk() if kept is None else kept

    def _next_chunk(self) -> tuple[NDArray[np.float32], Words] | None:
        first = self._iterator is None
        self.inside = True
        began, computed = time.perf_counter(), time.thread_time()
        try:
            pace = replace(self._listening.pace(), count_help=self._helped.append)
            with paced(pace) as asking:
                if self._iterator is None:
                    self.open = True
                    self._iterator = self._chunks()
                chunk = next(self._iterator, _END)
        finally:
            took = time.perf_counter() - began
            self.engine_s += took
            self._empty_s += took
            self.inside = False
        if chunk is _END:
            self.open = False
            return None
        self._is_last = asking.is_last
        samples = self._within_limits(samples_of(chunk, self._framer.source_rate))
        words = words_of(chunk) if self._word_times else None
        if not self.is_sayable:
            return samples, words
        step = StepTaken(
            seconds=took,
            processor_s=time.thread_time() - computed + asking.processor_s,
            helped_s=self._take_help(),
            audio_s=samples.size / self._framer.source_rate,
            first=first,
            paced=asking.has_asked,
            ahead_s=pace.ahead_s,
            last=asking.is_last,
            full=pace.is_full,
        )
        self.steps.append(step)
        return samples, words

    def _chunks(self) -> Iterator[AudioChunk]:
        rate, options = self._framer.source_rate, self._options
        told = self._word_times and bool(self._synthesizer.has_word_times)
        if not self.is_sayable:
            return iter([AudioChunk(silence(rate), rate, () if told else None)])
        if told:
            options = {**options, WORD_TIMES: True}
        return iter(self._synthesizer.synthesize(self.text, options))

    def _take_help(self) -> float:
        """Return the seconds that other threads computed since it was last asked."""
        helped = 0.0
        while self._helped:
            helped += self._helped.popleft()
        return helped

    def _within_limits(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        self.samples += samples.size
        self._empty += not samples.size
        if self._empty_s > _MOST_EMPTY_S and not samples.size:
            raise SynthesisError(f"the engine made no audio for {_MOST_EMPTY_S:g} s.")
        if samples.size:
            self._empty_s = 0.0
        if self._empty > _MOST_EMPTY or self.samples > _MOST_SECONDS * self._framer.source_rate:
            raise SynthesisError("the engine does not come to the end of a sentence.")
        return samples

    def _close(self) -> None:
        self.open = False
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()

    async def leave(self) -> None:
        """End the engine's generator, unless a thread hangs inside, and give the turn back."""
        turn, self.turn = self.turn, None
        if turn is None:
            return
        try:
            if self.open and not self.inside:
                await turn.close_engine(self.close)
        finally:
            turn.leave()


def silence(rate: int) -> NDArray[np.float32]:
    """Return `SILENCE_S` seconds of silence at `rate` Hz, shape `(n,)`."""
    return np.zeros(round(SILENCE_S * rate), np.float32)


def synthesis_error(error: BaseException) -> ModelManagerError:
    """Return what a stream ends with; an error that is none of ours is its cause, if it is small.

    A class that an engine derived from ours may do anything in `str()`: it becomes a cause as well.
    """
    if isinstance(error, ModelManagerError) and type(error).__module__ == errors.__name__:
        return error
    problem = SynthesisError(f"the stream failed: {describe_error(error)}")
    if linked_errors(error)[1]:
        problem.__cause__ = error
    return problem


class Prefetch:
    """Begins the next sentence while the present one is spoken, on cores that would idle."""

    def __init__(
        self,
        source: SentenceSource,
        sentence: Callable[[str], Sentence],
        enter_now: Callable[[], Turn | None],
    ) -> None:
        """`enter_now` gives a turn if one is free that no other stream waits for."""
        self._source = source
        self._sentence = sentence
        self._enter_now = enter_now
        self._next: Sentence | None = None
        self._beginning: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Have the engine make the next sentence's first chunk, if it does not already."""
        if self._beginning is None:
            self._beginning = asyncio.create_task(self._begin(), name="greenroom-prefetch")

    async def _begin(self) -> None:
        text = await self._source.next()
        if text is None:
            return
        self._next = self._sentence(text)
        # Without waiting: a stream that waits for a second turn while it holds one could lock up.
        turn = self._next.turn = self._enter_now()
        if turn is not None:
            await turn.run_on_idle_core(self._next.begin)

    async def next(self) -> Sentence | None:
        """Return the next sentence, begun or not; `None` after the last.

        Raises what the text or the engine raised.
        """
        if self._beginning is None:
            text = await self._source.next()
            return None if text is None else self._sentence(text)
        await self._beginning
        self._beginning, sentence, self._next = None, self._next, None
        return sentence

    async def close(self) -> None:
        """Abandon what was begun; returns when no thread is in the engine for it."""
        if self._beginning is not None:
            self._beginning.cancel()
            await asyncio.wait([self._beginning])
            if not self._beginning.cancelled():
                self._beginning.exception()  # asked for, so that asyncio does not report it
            self._beginning = None
        sentence, self._next = self._next, None
        if sentence is not None:
            await sentence.leave()
