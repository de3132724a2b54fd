"""The working side of a stream: sentences in turn, frames kept for the listener, gaps counted."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from typing import Any, NoReturn

from greenroom.audio import Framer
from greenroom.audio.frames import FRAME_MS, AudioFrame
from greenroom.errors import (
    InvalidInputError,
    ModelManagerError,
    SynthesisError,
)
from greenroom.speech import text as texts
from greenroom.speech.cost import SpeechCost
from greenroom.speech.pace import Pace
from greenroom.speech.playback import GAP_S, PlaybackClock
from greenroom.speech.scheduler import TARGET_S
from greenroom.speech.sentence import Prefetch, Sentence, Synthesizer, silence, synthesis_error
from greenroom.speech.source import SentenceSource
from greenroom.speech.use import Host, Use

_BUFFER_FRAMES = 100
"""Synthesis rests while this many frames (2 s of audio) wait for the consumer."""

_LEAST_LEFT_S = 0.2
"""Seconds of audio that a sentence which is not at its end is taken to have left."""

_TEXT_SOON_S = 0.02
"""Text that comes within this many seconds was there; longer, and what is made is handed over."""


_LONGEST_RUN_S = 0.1
"""A thread makes chunk after chunk for so long before it comes back to the event loop."""

_LEAST_RUN_S = 0.005
"""For so long it does so even when other steps wait for its core: they wait for longer behind most
single chunks, and to change threads for one that takes less costs more than to make it."""

_WELL_AHEAD_S = 0.2
_GATHER_S = 0.01
"""A listener who has so much left to hear gets at once what is made in so many seconds after the
first chunk: each change of thread is a wait for the interpreter, of the engine's thread too."""


class Speaker:
    """Synthesizes a stream's sentences in turn and keeps the frames until they are taken."""

    def __init__(
        self,
        synthesizer: Synthesizer,
        host: Host,
        text: texts.CheckedText,
        options: Mapping[str, Any],
        output_rate: int,
        begin_limit: float | None,
        *,
        word_times: bool = False,
    ) -> None:
        self._synthesizer = synthesizer
        self._word_times = word_times
        self._begin_limit = begin_limit
        self._source = SentenceSource(text)
        self._options = options
        self._framer = Framer(_rate_of(synthesizer, host), output_rate)
        self._frames: deque[AudioFrame] = deque()
        self._outbox: deque[list[AudioFrame]] = deque()
        """What the engine's thread has delivered and the loop has not taken yet."""
        self._is_told = False
        """Whether the loop has been told of the outbox."""
        self._gathering: asyncio.TimerHandle | None = None
        """When the loop looks at the outbox without being told."""
        self._present: tuple[Sentence, Prefetch] | None = None
        """The sentence that is spoken, and what may begin the next one meanwhile."""
        self._changed = asyncio.Event()
        """Wakes the consumer: for a frame, the end, or a resume."""
        self._space = asyncio.Event()
        """Wakes the speaker: for space in the buffer, or as its turn is wanted."""
        self._task: asyncio.Task[None] | None = None
        self._loop = host.loop or _running_loop()
        self._error: BaseException | None = None
        self._paused = False
        self._held = True
        """Whether frames are held back, as what is made would not last until more is."""
        self._waiting_since: float | None = None
        """When the consumer began to wait for a frame."""
        self._has_words = False
        self._characters = len(text.source) if isinstance(text.source, str) else 0
        """Of a whole text: those of which no sentence has been spoken."""
        self.clock = PlaybackClock()
        self.engine_s = 0.0
        self.phase = "new"  # new, speaking, made (all frames are there), ended
        self._host: Host | None = host
        self._use: Use | None = None
        if host.leaving:
            raise host.why_left()
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

    # The consumer

    async def next_frame(self) -> AudioFrame:
        if self.phase == "new":
            self._start()
        while self._paused or self._held or not self._frames:
            if self.phase in ("made", "ended") and not self._frames:
                self._end()
            await self._wait_for_frames()
        frame = self._frames.popleft()
        self._taken(1)
        if len(self._frames) <= _BUFFER_FRAMES:
            self._space.set()
        return frame

    async def _wait_for_frames(self) -> None:
        assert self._loop is not None
        self._changed.clear()
        if self._waiting_since is None:
            self._waiting_since = self._loop.time()
        try:
            await self._changed.wait()
        except asyncio.CancelledError:
            self.stop()
            raise

    def take_ready(self) -> list[AudioFrame]:
        if self._paused or self._held or not self._frames:
            return []
        frames = list(self._frames)
        self._frames.clear()
        self._taken(len(frames))
        self._space.set()
        return frames

    @property
    def is_over(self) -> bool:
        """Whether the last frame was taken, and nothing failed."""
        ended = self.phase in ("made", "ended")
        return ended and not self._frames and self._error is None

    @property
    def ahead_s(self) -> float | None:
        """Seconds that the listener has left to hear; `None` before the first audio is taken."""
        if self._loop is None or not self.clock.started:
            return None
        now = self._loop.time()
        return max(0.0, self.clock.due(now, self._buffered_s) - now)

    def _taken(self, frames: int) -> None:
        assert self._loop is not None
        self._waiting_since = None
        self.clock.take(frames * FRAME_MS / 1000, self._loop.time())
        self._update_state()

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
        if self._loop is not None and paused != self._paused:
            (self.clock.pause if paused else self.clock.resume)(self._loop.time())
        self._paused = paused
        self._changed.set()
        self._update_state()

    def stop(self) -> None:
        if self.phase == "ended":
            return
        started = self.phase != "new"
        self.phase = "ended"
        self._frames.clear()
        self._held = False
        self._changed.set()
        self._host = None
        if not started:
            if self._use is not None:
                self._use.close()
        elif self._task is not None:
            self._task.cancel()

    def fail(self, error: ModelManagerError) -> None:
        if self.phase == "new":
            self.phase, self._error, self._host = "made", error, None
            if self._use is not None:
                self._use.close()
            self._changed.set()
        elif self.phase == "speaking" and self._task is not None:
            self._error = self._error or error
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

    # The scheduler

    @property
    def _buffered_s(self) -> float:
        """Seconds of audio that are made and not taken."""
        return len(self._frames) * FRAME_MS / 1000

    def _update_state(self) -> None:
        """Tell the scheduler when the listener falls silent, and how much is left to make."""
        if self._use is None or self._loop is None:
            return
        state = self._use.state
        state.heard = self.clock.started or (not self._held and bool(self._frames))
        state.due = self.clock.due(self._loop.time(), self._buffered_s)
        state.resting = self._paused

    def _count_left(self, sentence: Sentence, use: Use) -> None:
        """Estimate the audio that is still to be made, of a text that is all there."""
        if not self._source.is_whole:
            return
        per_character = use.cost.audio_per_character
        of_sentence = max(_LEAST_LEFT_S, len(sentence.text) * per_character - sentence.audio_s)
        rest = max(0, self._characters - len(sentence.text))
        use.state.left_s = of_sentence + rest * per_character

    # The engine's thread

    def pace(self) -> Pace:
        """Say how urgent the next chunk is; called in the engine's thread."""
        use, loop = self._use, self._loop
        if use is None or loop is None:
            return Pace()
        made = self._buffered_s + self._delivered * FRAME_MS / 1000
        if not self.clock.started:
            return use.pace(made or None)
        now = loop.time()
        return use.pace(max(0.0, self.clock.due(now, made) - now))

    def deliver(self, frames: list[AudioFrame]) -> None:
        """Take frames from the engine's thread, and tell the loop once for all that are there.

        A loop that gathers is told once more when there is enough to keep its consumer busy.
        """
        self._outbox.append(frames)
        if self._is_told or self._loop is None:
            return
        if self._gathering is None or self._delivered > _BUFFER_FRAMES // 2:
            self._is_told = True
            with contextlib.suppress(RuntimeError):  # the loop may have been closed meanwhile
                self._loop.call_soon_threadsafe(self._receive)

    @property
    def _delivered(self) -> int:
        """Frames that the loop has not taken from the outbox yet; may be asked from any thread."""
        return sum(map(len, list(self._outbox)))

    def wants_more(self, ran_s: float) -> bool:
        """Whether the engine's thread, which has run for so long, may go on; called there."""
        use = self._use
        if self.phase != "speaking" or use is None or ran_s > _LONGEST_RUN_S:
            return False
        if use.core_wanted and ran_s > _LEAST_RUN_S:
            return False
        return len(self._frames) + self._delivered <= _BUFFER_FRAMES or use.turn_wanted

    def _receive(self) -> None:
        """Take what the engine's thread has delivered, in the loop, and perhaps gather more."""
        self._is_told = False
        has_come = self._take_delivered()
        if self._present is not None:
            sentence, prefetch = self._present
            if self._source.is_whole and sentence.looks_ahead:
                prefetch.begin()
            if has_come and self._gathering is None and self._is_well_ahead:
                assert self._loop is not None
                self._gathering = self._loop.call_later(_GATHER_S, self._receive_gathered)

    def _receive_gathered(self) -> None:
        # Cleared before the outbox is looked at: what comes after that is told of.
        self._gathering = None
        self._receive()

    def _take_delivered(self) -> bool:
        """Keep what the engine's thread has delivered; return whether there was anything."""
        frames: list[AudioFrame] = []
        while self._outbox:
            frames += self._outbox.popleft()
        self._keep(frames)
        return bool(frames)

    @property
    def _is_well_ahead(self) -> bool:
        """Whether the listener has so much left to hear that a few milliseconds change nothing."""
        assert self._loop is not None
        now = self._loop.time()
        return self.clock.started and self.clock.due(now, self._buffered_s) - now > _WELL_AHEAD_S

    # The speaker

    def _start(self) -> None:
        use = self._open()
        self.phase = "speaking"
        self._loop = asyncio.get_running_loop()
        use.state.arrived = self._loop.time()
        self._task = self._loop.create_task(self._speak(use), name="greenroom-stream")
        self._task.add_done_callback(self._done)

    def notify_turn_wanted(self) -> None:
        self._space.set()

    async def _speak(self, use: Use) -> None:
        try:
            await self._speak_sentences(use)
            if self.phase == "speaking":
                self.phase = "made"  # at once, so that the last frames are known to be the last
        except asyncio.CancelledError:
            if self._error is None:
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
        if self._gathering is not None:
            self._gathering.cancel()
        if self._use is not None:
            self._use.close()
        self._held = False
        self._changed.set()

    def _fail(self, error: ModelManagerError) -> None:
        if self.phase == "speaking":
            self._error = error  # raised after what was made before the failure is heard

    async def _speak_sentences(self, use: Use) -> None:
        prefetch = Prefetch(self._source, self._sentence, use.enter_now)
        samples = 0
        spoken = False
        try:
            while (present := await self._next_sentence(prefetch, use)) is not None:
                if self.phase != "speaking":
                    break
                if not spoken:
                    await use.begin(self._begin_limit)
                spoken = True
                samples += await self._speak_one(present, use, prefetch)
            if samples or (spoken and not self._has_words):
                if not samples:  # only signs, for which this engine has no name
                    self._keep(await use.run(self._silence))
                self._keep(await use.run(self._framer.finish))
                self._be_heard()  # before the text is closed, which its source may take long for
        finally:
            await self._leave(use, prefetch)
        if not spoken:
            raise InvalidInputError("text is empty; send at least one word.")
        if not samples and self._has_words:
            raise SynthesisError("the engine made no audio for this text.")

    async def _next_sentence(self, prefetch: Prefetch, use: Use) -> Sentence | None:
        """Return the next sentence; while its text is waited for, silence is nobody's fault."""
        if self._source.is_whole:
            return await prefetch.next()
        assert self._loop is not None
        asked = self._loop.time()
        use.state.wants_text = True
        hand_over = self._loop.call_later(_TEXT_SOON_S, self._be_heard)
        try:
            return await prefetch.next()
        finally:
            hand_over.cancel()
            use.state.wants_text = False
            came = self._loop.time()
            if came - asked > _TEXT_SOON_S:
                self.clock.excuse(came + TARGET_S)
                self._update_state()

    async def _leave(self, use: Use, prefetch: Prefetch) -> None:
        """Leave the model, and only then the text: its source may hang, and not hold the model."""
        try:
            await prefetch.close()
        finally:
            use.close()
            await self._source.close()

    def _sentence(self, text: str) -> Sentence:
        self._has_words = self._has_words or texts.has_words(text)
        return Sentence(
            self._synthesizer,
            text,
            self._options,
            self._framer,
            self,
            word_times=self._word_times,
        )

    def _silence(self) -> list[AudioFrame]:
        told = self._word_times and bool(self._synthesizer.has_word_times)
        return self._framer.feed(silence(self._framer.source_rate), () if told else None)

    async def _speak_one(self, sentence: Sentence, use: Use, prefetch: Prefetch) -> int:
        """Speak one sentence; return how many samples it had."""
        self._present = sentence, prefetch
        try:
            more = True
            while more:
                await self._buffer_has_space(sentence, use)
                if sentence.turn is None:
                    sentence.turn = await use.enter()
                use.state.begins = not sentence.begun
                self._count_left(sentence, use)
                more = await sentence.turn.run(sentence.advance)
                self._take_delivered()
                _learn(sentence, use.cost)
            if sentence.is_sayable:
                use.cost.learn_sentence(sentence.audio_s, len(sentence.text))
            return sentence.samples
        finally:
            self._present = None
            self.engine_s += sentence.engine_s
            self._characters -= len(sentence.text)
            await sentence.leave()

    async def _buffer_has_space(self, sentence: Sentence, use: Use) -> None:
        """Wait while the buffer is full, but not with a turn that another stream waits for.

        Then the sentence is finished all the same: its length is bounded, and a listener who
        pauses would lock the others out.
        """
        while len(self._frames) > _BUFFER_FRAMES:
            self._be_heard()
            if sentence.turn is not None and use.turn_wanted:
                return
            use.state.resting = True
            self._space.clear()
            await self._space.wait()
            self._update_state()

    def _keep(self, frames: list[AudioFrame]) -> None:
        if self.phase != "speaking" or not frames:
            return
        assert self._loop is not None
        if not self._frames and not self._held:
            self._count_gap()
        self._frames.extend(frames)
        if self._held and (self._use is None or self._use.may_be_heard(self._buffered_s)):
            self._held = False
        if not self._held:
            self._changed.set()
        self._update_state()

    def _count_gap(self) -> None:
        """Count the silence that ends with the audio which has just come."""
        assert self._loop is not None
        late = self.clock.come(self._loop.time(), self._waiting_since)
        if late > GAP_S and self._use is not None:
            sentence = None if self._present is None else self._present[0]
            step_s = sentence.steps[-1].seconds if sentence and sentence.steps else 0.0
            self._use.silent(late, step_s, first=self.clock.gaps == 1)

    def _be_heard(self) -> None:
        """Hand over what is made, if anything is: more does not come soon, or has no space."""
        if not self._frames:
            return
        self._held = False
        self._changed.set()
        self._update_state()


def _learn(sentence: Sentence, cost: SpeechCost) -> None:
    while sentence.steps:
        cost.learn_step(sentence.steps.popleft())


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _rate_of(synthesizer: Synthesizer, host: Host) -> int:
    """Return the rate of the chunks in Hz; outside a manager, as the adapter says itself."""
    return synthesizer.sample_rate if host.sample_rate is None else host.sample_rate
