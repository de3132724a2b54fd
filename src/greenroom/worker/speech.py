"""One running utterance, which its session may pause, resume and stop, and what it took."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Self

from greenroom.adapter import open_stream
from greenroom.audio.frames import FRAME_MS, AudioFrame
from greenroom.effects.lease import Lease
from greenroom.errors import EngineCrashedError, ModelManagerError, StalledError
from greenroom.speech.stream import SpeechStream
from greenroom.speech.text import CheckedText
from greenroom.untrusted.logs import safe_logger
from greenroom.voice import Voice
from greenroom.worker.input import TextInput

logger = safe_logger(__name__)

Retake = Callable[[], Awaitable[Lease]]
"""Returns a lease of a model that was loaded afresh."""


class Timing:
    """Begins when the speech is asked for."""

    def __init__(self) -> None:
        self.first_audio_s: float | None = None
        """From asking to the first frame, loading included; `None` until it is heard."""
        self.audio_s = 0.0
        """Of the frames that were taken."""
        self.engine_s = 0.0
        """That threads spent in the engine; known when the speech has ended."""
        self.gaps = 0
        """Silences of more than 20 ms in the midst of speech; known when it has ended."""
        self.late_s = 0.0
        """Seconds of silence in the midst of speech; known when it has ended."""
        self.over = False
        """Whether it was heard to its end."""
        self.waited_s: float | None = None
        """From asking until it had its model; `None` while it has none."""
        self._asked = time.monotonic()

    @property
    def age_s(self) -> float:
        """Since it was asked for."""
        return time.monotonic() - self._asked

    def has_model(self) -> None:
        """Note that the wait for its model is over."""
        if self.waited_s is None:
            self.waited_s = self.age_s

    def heard(self, frames: int) -> None:
        """Count frames that their caller takes now, at least one."""
        if self.first_audio_s is None:
            self.first_audio_s = self.age_s
        self.audio_s += frames * FRAME_MS / 1000

    @property
    def real_time_factor(self) -> float | None:
        """Seconds in the engine for a second of audio; `None` unless it was heard to its end."""
        return self.engine_s / self.audio_s if self.over and self.audio_s else None


@dataclass(frozen=True, slots=True)
class RunningSpeech:
    """What can be seen of a request for speech while it is answered."""

    number: int
    """Of this life of the worker; what it is stopped by."""
    model_id: str
    owner: str
    """Who asked for it, as owners of references are shown."""
    state: Literal["waiting", "beginning", "speaking", "paused"]
    """It waits for its model; nothing was heard yet; something was; it is held back."""
    age_s: float
    """Since it was asked for."""
    first_audio_s: float | None
    """From asking to the first frame; `None` until it is heard."""
    audio_s: float
    """Seconds that its caller has taken."""
    ahead_s: float | None
    """Seconds that its listener, who plays at real time, has left to hear; `None` until then."""
    gaps: int
    """How often its listener had heard all that was made for it."""
    late_s: float
    """Seconds of silence in those gaps."""


class Speech:
    """An asynchronous iterator of frames.

    It exists from the moment its slot is booked, before there is a model to speak it, so that a
    pause or a stop that comes meanwhile is not lost. When the engine crashes before anything was
    heard, the text is spoken once more from its beginning, by the model loaded afresh.
    """

    def __init__(
        self,
        patience: float,
        begin_limit: float | None = None,
        *,
        number: int = 0,
        model_id: str = "",
        owner: str = "",
    ) -> None:
        """`patience` is how many seconds it may stay paused.

        `begin_limit` is how many it may wait until it can be kept up. The rest is shown.
        """
        self.number = number
        self._model_id = model_id
        self._owner = owner
        self.stopped = False
        """Whether it was stopped on request: it has ended well, with what was heard."""
        self.sample_rate = 0
        """Hz of the frames, known once it has begun."""
        self.timing = Timing()
        """When it was heard, and what it took."""
        self._patience = patience
        self._begin_limit = begin_limit
        self._paused: asyncio.TimerHandle | None = None
        self._error: ModelManagerError | None = None
        self._stream: SpeechStream | None = None
        self._begin_again: Callable[[], Awaitable[None]] | None = None
        """Opens the stream that takes the place of one whose engine crashed; at most once."""
        self._wait: asyncio.Timeout | None = None

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Wait inside the block for a model; being cut off ends the wait."""
        try:
            async with asyncio.timeout(None) as self._wait:
                yield
                return
        except TimeoutError:
            if self._error is None:
                raise
        finally:
            self._wait = None
        self._raise_error()

    @contextlib.asynccontextmanager
    async def begun(
        self, lease: Lease, voice: Voice, text: CheckedText, *, retake: Retake
    ) -> AsyncIterator[Self]:
        """Speak inside the block; at its end no thread of this speech is inside the model."""

        async def begin_again() -> None:
            self._begin_again = None
            await self._leave()
            async with self.waiting():
                fresh = await retake()
            self._open(fresh, voice, text.again())

        self._begin_again = begin_again
        self.timing.has_model()
        try:
            await self._open_or_retake(lease, voice, text)
            yield self
        finally:
            self._begin_again = None
            self._end_pause()
            await self._leave()
            if isinstance(text.source, TextInput):
                await text.source.close()

    async def _open_or_retake(self, lease: Lease, voice: Voice, text: CheckedText) -> None:
        assert self._begin_again is not None
        try:
            self._open(lease, voice, text)
            return
        except EngineCrashedError:
            pass  # between the lease and this moment
        await self._begin_again()

    def _open(self, lease: Lease, voice: Voice, text: CheckedText) -> None:
        """Begin to speak with a lease; raises `EngineCrashedError` if its engine is gone."""
        stream = open_stream(
            lease.adapter,
            text,
            voice.options,
            voice.sample_rate,
            begin_limit=self._begin_limit,
            word_times=voice.word_times,
        )
        self._stream = stream
        self.sample_rate = voice.sample_rate
        if self.stopped or self._error is not None:
            stream.stop()
        elif self._paused is not None:
            stream.pause()

    async def _leave(self) -> None:
        """Leave the model, with no thread in it, and take note of what that has cost."""
        stream = self._stream
        if stream is None:
            return
        try:
            await stream.aclose()
        finally:
            self.timing.engine_s += stream.engine_s
            self.timing.gaps += stream.gaps
            self.timing.late_s += stream.late_s
            self._stream = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AudioFrame:
        """Return the next frame; raises what `SpeechStream` raises, or why it was cut off."""
        while self._stream is not None:
            try:
                frame = await anext(self._stream)
            except StopAsyncIteration:
                break
            except EngineCrashedError:
                if self._begin_again is None or self.timing.first_audio_s is not None:
                    raise
            else:
                self.timing.heard(1)
                return frame
            logger.warning("an engine crashed before anything was heard: the text is spoken again")
            await self._begin_again()
        self._raise_error()
        self.timing.over = not self.stopped
        raise StopAsyncIteration

    def take_ready(self) -> list[AudioFrame]:
        """Return the frames that need not be waited for; none while it is paused."""
        frames = [] if self._stream is None else self._stream.take_ready()
        if frames:
            self.timing.heard(len(frames))
        return frames

    @property
    def is_over(self) -> bool:
        """Whether the last frame was taken, and nothing failed: the next step is the end."""
        return self._error is None and self._stream is not None and self._stream.is_over

    def pause(self) -> None:
        """Hold back frames until `resume`, or until patience is at its end."""
        if self._paused is None:
            self._paused = asyncio.get_running_loop().call_later(self._patience, self._give_up)
        if self._stream is not None:
            self._stream.pause()

    def resume(self) -> None:
        """Go on, with no frame lost."""
        self._end_pause()
        if self._stream is not None:
            self._stream.resume()

    def stop(self) -> None:
        """End now, as a success; frames not yet taken are dropped."""
        self.stopped = True
        self._end()

    def cut(self, error: ModelManagerError) -> None:
        """End now, as a failure: the reader of the frames gets `error`."""
        if not self.stopped:
            self._error = self._error or error
            self._end()
            if self._wait is not None:
                self._wait.reschedule(0.0)

    def snapshot(self) -> RunningSpeech:
        """Return what can be seen of it now."""
        timing, stream = self.timing, self._stream
        state: Literal["waiting", "beginning", "speaking", "paused"] = "speaking"
        if self._paused is not None:
            state = "paused"
        elif stream is None:
            state = "waiting"
        elif timing.first_audio_s is None:
            state = "beginning"
        return RunningSpeech(
            number=self.number,
            model_id=self._model_id,
            owner=self._owner,
            state=state,
            age_s=timing.age_s,
            first_audio_s=timing.first_audio_s,
            audio_s=timing.audio_s,
            ahead_s=None if stream is None else stream.ahead_s,
            gaps=timing.gaps + (0 if stream is None else stream.gaps),
            late_s=timing.late_s + (0.0 if stream is None else stream.late_s),
        )

    def _raise_error(self) -> None:
        if self._error is not None:
            # No variable here holds the error: its traceback, which keeps this frame, and the
            # frame would keep each other alive, and the model with them.
            raise self._taken_error()

    def _taken_error(self) -> BaseException:
        error, self._error = self._error, None
        assert error is not None
        return error

    def _end(self) -> None:
        self._end_pause()
        if self._stream is not None:
            self._stream.stop()

    def _give_up(self) -> None:
        self.cut(StalledError(f"it was paused for {self._patience:g} s; speak it again."))

    def _end_pause(self) -> None:
        handle, self._paused = self._paused, None
        if handle is not None:
            handle.cancel()
