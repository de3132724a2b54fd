"""One utterance on its way out: text in, synthesis in a thread, frames of 20 ms to one caller.

Two objects, so that a dropped handle frees everything: `SpeechStream` is what the caller holds,
`_Speaker` is what works. The speaker does not know the handle, so when the caller drops it, the
speaker stops at the next chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol, Self, TypeVar

from greenroom.audio import Framer
from greenroom.audio.frames import AudioFrame
from greenroom.errors import (
    InvalidInputError,
    ModelManagerError,
    ModelNotResidentError,
    SynthesisError,
)
from greenroom.speech import text as texts
from greenroom.speech.sentence import Prefetch, Sentence, Synthesizer, Turn, synthesis_error
from greenroom.speech.source import SentenceSource

T = TypeVar("T")

_BUFFER_FRAMES = 100
"""Synthesis rests while this many frames (2 s of audio) wait for the consumer."""


class Host(Protocol):
    """The place where a model lives, as a stream sees it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop in which streams are counted; `None` where they are not."""

    @property
    def leaving(self) -> bool:
        """Whether no new stream may begin."""

    @property
    def sample_rate(self) -> int | None:
        """Hz of the chunks as checked after the load; `None` where only the adapter knows."""

    @property
    def model_id(self) -> str:
        """The model's id."""

    def open(self, speaker: Speaker) -> Use:
        """Count one more stream; raises `ModelNotResidentError` when the model has left."""


class Use(Protocol):
    """One stream's counted use of its model."""

    @property
    def turn_wanted(self) -> bool:
        """Whether another stream waits for the turn that this one may hold."""

    async def enter(self) -> Turn:
        """Wait for a turn in the engine; raises `SynthesisError` when that takes too long."""

    def enter_now(self) -> Turn | None:
        """Return a turn if one is free that no other stream waits for."""

    async def run(self, step: Callable[[], T], *, must_run: bool = False) -> T:
        """Run `step` in a thread and return its result.

        Cancelling the wait does not end the step; then this returns when the step has ended.
        Raises `SynthesisError` when the step takes longer than it may, or when there is no thread
        for it, unless it `must_run`: then it waits until there is.
        """

    def close(self) -> None:
        """Count one stream fewer, once no thread of it is inside the model any more."""


class Speaker(Protocol):
    """The working side of a stream, as a host sees it."""

    def stop(self) -> None:
        """End the stream: no more frames, no more synthesis after the present chunk."""

    def notify_turn_wanted(self) -> None:
        """Finish the sentence without waiting for the listener: another stream waits for a turn."""


class SpeechStream:
    """An asynchronous iterator of `AudioFrame`, for one caller.

    Pausing or stopping it touches no other stream. Both take effect at once for the consumer;
    synthesis itself ends at the next chunk. A stream that is dropped, closed or whose consumer is
    cancelled stops as well. Its model stays in memory until the last thread has left it.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        host: Host,
        text: texts.CheckedText,
        options: Mapping[str, Any],
        *,
        output_rate: int,
    ) -> None:
        self._speaker = _Speaker(synthesizer, host, text, options, output_rate)
        self._drop = weakref.finalize(self, self._speaker.stop_from_anywhere)
        self._drop.atexit = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AudioFrame:
        """Return the next frame.

        Raises `InvalidInputError` for a piece of text that cannot be spoken and `SynthesisError`
        when the engine fails; both end the stream.
        """
        return await self._speaker.next_frame()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def pause(self) -> None:
        """Hold back frames until `resume`; synthesis rests once two seconds are made ahead."""
        self._speaker.pause(True)

    def resume(self) -> None:
        """Go on after `pause`, with no frame lost."""
        self._speaker.pause(False)

    def stop(self) -> None:
        """End the stream now; frames not yet taken are dropped."""
        self._speaker.stop()

    def take_ready(self) -> list[AudioFrame]:
        """Return the frames that need not be waited for; none while it is paused."""
        return self._speaker.take_ready()

    async def aclose(self) -> None:
        """Stop, and wait until no thread of this stream is inside the model."""
        self._speaker.stop()
        await self._speaker.wait_ended()

    @property
    def engine_s(self) -> float:
        """Seconds that its threads spent inside the engine, over the sentences that are done."""
        return self._speaker.engine_s

    def __repr__(self) -> str:
        return f"<SpeechStream {self._speaker.phase}>"


class _Speaker:
    """Synthesizes a stream's sentences in turn and keeps the frames until they are taken."""

    def __init__(
        self,
        synthesizer: Synthesizer,
        host: Host,
        text: texts.CheckedText,
        options: Mapping[str, Any],
        output_rate: int,
    ) -> None:
        self._synthesizer = synthesizer
        self._source = SentenceSource(text)
        self._options = options
        self._framer = Framer(_rate_of(synthesizer, host), output_rate)
        self._frames: deque[AudioFrame] = deque()
        self._changed = asyncio.Event()
        """Wakes the consumer: for a frame, the end, or a resume."""
        self._space = asyncio.Event()
        """Wakes the speaker: for space in the buffer, or as its turn is wanted."""
        self._task: asyncio.Task[None] | None = None
        self._loop = host.loop or _running_loop()
        self._error: BaseException | None = None
        self._paused = False
        self._has_words = False
        self.engine_s = 0.0
        self.phase = "new"  # new, speaking, made (all frames are there), ended
        self._host: Host | None = host
        self._use: Use | None = None
        if host.leaving:
            raise ModelNotResidentError(host.model_id)
        if self._loop is None or self._loop is _running_loop() or not self._loop.is_running():
            self._open()
        else:  # made in a thread: the ledger, which counts it, may be touched in its loop only
            self._loop.call_soon_threadsafe(self._open_late)

    def _open(self) -> Use:
        host, self._host = self._host, None
        if host is not None:
            self._use = host.open(self)
        assert self._use is not None
        return self._use

    def _open_late(self) -> None:
        if self.phase == "new":
            try:
                self._open()
            except ModelManagerError as error:
                self.phase, self._error = "made", error

    async def next_frame(self) -> AudioFrame:
        if self.phase == "new":
            self._start()
        while self._paused or not self._frames:
            if self.phase in ("made", "ended") and not self._frames:
                self._end()
            self._changed.clear()
            try:
                await self._changed.wait()
            except asyncio.CancelledError:
                self.stop()
                raise
        frame = self._frames.popleft()
        if len(self._frames) <= _BUFFER_FRAMES:
            self._space.set()
        return frame

    def take_ready(self) -> list[AudioFrame]:
        if self._paused or not self._frames:
            return []
        frames = list(self._frames)
        self._frames.clear()
        self._space.set()
        return frames

    def _end(self) -> NoReturn:
        self.phase = "ended"
        # No variable here holds the error: its traceback, which keeps this frame, and the frame
        # would keep each other alive, and the model with them.
        raise self._outcome()

    def _outcome(self) -> BaseException:
        """Return what a stream ends with for its consumer, once: an error, or just the end."""
        error, self._error = self._error, None
        return StopAsyncIteration() if error is None else error

    def pause(self, paused: bool) -> None:
        self._paused = paused
        self._changed.set()

    def stop(self) -> None:
        if self.phase == "ended":
            return
        started = self.phase != "new"
        self.phase = "ended"
        self._frames.clear()
        self._changed.set()
        self._host = None
        if not started:
            if self._use is not None:
                self._use.close()
        elif self._task is not None:
            self._task.cancel()

    def stop_from_anywhere(self) -> None:
        """Stop, called by the garbage collector on any thread and perhaps after the loop."""
        if self.phase == "ended":
            return
        if self._loop is None or self._loop.is_closed():
            self.phase = "ended"
            return
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.stop)

    async def wait_ended(self) -> None:
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    def _start(self) -> None:
        use = self._open()
        self.phase = "speaking"
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._speak(use), name="greenroom-stream")
        self._task.add_done_callback(self._done)

    def notify_turn_wanted(self) -> None:
        self._space.set()

    async def _speak(self, use: Use) -> None:
        try:
            await self._speak_sentences(use)
        except asyncio.CancelledError:
            self.phase = "ended"
        except Exception as error:  # noqa: BLE001 - an engine or the caller's text may raise anything
            self._fail(synthesis_error(error))

    def _done(self, task: asyncio.Task[None]) -> None:
        """Let the consumer see the end: no thread is inside the model, unless one hangs there."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(synthesis_error(error))
        if self.phase == "speaking":
            self.phase = "made"
        if self._use is not None:
            self._use.close()
        self._changed.set()

    def _fail(self, error: ModelManagerError) -> None:
        if self.phase == "speaking":
            self._error = error  # raised after what was made before the failure is heard

    async def _speak_sentences(self, use: Use) -> None:
        prefetch = Prefetch(self._source, self._sentence, use.enter_now)
        samples = 0
        spoken = False
        try:
            while (present := await prefetch.next()) is not None and self.phase == "speaking":
                spoken = True
                samples += await self._speak_one(present, use, prefetch)
            if samples:
                self._keep(await use.run(self._framer.finish))
        finally:
            await self._leave(use, prefetch)
        if not spoken:
            raise InvalidInputError("text is empty; send at least one word.")
        if not samples and not self._has_words:
            raise InvalidInputError("text has nothing in it to say; send at least one word.")
        if not samples:
            raise SynthesisError("the engine made no audio for this text.")

    async def _leave(self, use: Use, prefetch: Prefetch) -> None:
        """Leave the model, and only then the text: its source may hang, and not hold the model."""
        try:
            await prefetch.close()
        finally:
            use.close()
            await self._source.close()

    def _sentence(self, text: str) -> Sentence:
        self._has_words = self._has_words or texts.has_words(text)
        return Sentence(self._synthesizer, text, self._options, self._framer)

    async def _speak_one(self, sentence: Sentence, use: Use, prefetch: Prefetch) -> int:
        """Speak one sentence; return how many samples it had."""
        try:
            while True:
                await self._buffer_has_space(sentence, use)
                if sentence.turn is None:
                    sentence.turn = await use.enter()
                frames = await sentence.turn.run(sentence.next_frames)
                if frames is None:
                    return sentence.samples
                self._keep(frames)
                if self._source.is_whole and sentence.looks_ahead:
                    prefetch.begin()
        finally:
            self.engine_s += sentence.engine_s
            await sentence.leave()

    async def _buffer_has_space(self, sentence: Sentence, use: Use) -> None:
        """Wait while the buffer is full, but not with a turn that another stream waits for.

        Then the sentence is finished all the same: its length is bounded, and a listener who
        pauses would lock the others out.
        """
        while len(self._frames) > _BUFFER_FRAMES:
            if sentence.turn is not None and use.turn_wanted:
                return
            self._space.clear()
            await self._space.wait()

    def _keep(self, frames: list[AudioFrame]) -> None:
        if self.phase == "speaking" and frames:
            self._frames.extend(frames)
            self._changed.set()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _rate_of(synthesizer: Synthesizer, host: Host) -> int:
    """Return the rate of the chunks in Hz; outside a manager, as the adapter says itself."""
    return synthesizer.sample_rate if host.sample_rate is None else host.sample_rate
