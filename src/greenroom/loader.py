"""One model's way in and out: construct, load, warm up, unload; in threads, within limits.

Nothing here decides; the manager carries out the ledger's decisions with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from greenroom.adapter import ModelSpec, TTSAdapter
from greenroom.adapters.stated import StatedMemory, memory_of, voice_of
from greenroom.audio.chunks import samples_of
from greenroom.audio.frames import AudioChunk
from greenroom.catalog import registry
from greenroom.concurrency.threads import Lane, NoThreadError
from greenroom.errors import LoadTimeoutError, ModelLoadError, SynthesisError, WarmupError
from greenroom.memory import heap, usage
from greenroom.memory.measurement import ActivityCounter, Life, Watch
from greenroom.memory.usage import Usage
from greenroom.speech.host import StatedVoice
from greenroom.untrusted.exceptions import told, trace, without_tracebacks
from greenroom.untrusted.logs import safe_logger
from greenroom.untrusted.printable import kind_of, one_line

logger = safe_logger(__name__)

T = TypeVar("T")

_SILENCE = 1e-4
"""Peak amplitude below which a warmup counts as silent (-80 dBFS)."""

_LOUDEST = 100.0
"""Peak amplitude above which samples are no audio in [-1, 1] that is a little too loud."""

_MOST_CHUNKS = 10_000
_MOST_SECONDS = 60.0
_SECONDS_A_CHARACTER = 0.5
"""A warmup that makes more chunks, or more audio for its text, does not end by itself."""


@dataclass(slots=True)
class Arrival:
    """A model that is loaded and has spoken its first words."""

    adapter: TTSAdapter
    load_s: float
    warmup_s: float
    life: Life
    voice: StatedVoice
    taken: Usage | None
    """By how much the process has grown; `None` if something else ran that may have done that."""
    stated: StatedMemory


class Hung(Exception):  # noqa: N818 - not an error of the caller's
    """A load, or the clean-up after one that failed, outlasted its limit.

    `error` is for the callers, `end` is done when the thread has left the engine.
    """

    def __init__(self, error: ModelLoadError, end: asyncio.Future[Any], attempt: Attempt) -> None:
        super().__init__(str(error))
        self.error = error
        self.end = end
        self.attempt = attempt


class Attempt:
    """One attempt to load a model. Its methods run in threads, never two at once."""

    def __init__(self, spec: ModelSpec, warmup_text: str) -> None:
        self.spec = spec
        self.abandoned = False
        """Nobody waits any more: what is loaded is unloaded again by the same thread."""
        self.adapter: TTSAdapter | None = None
        self._warmup_text = warmup_text
        self.watch: Watch
        self.before: Usage | None = None
        """What the process took of the device before the load, where that is told."""

    def load(self) -> StatedVoice:
        """Construct the adapter and load it; return how it speaks. Raises `ModelLoadError`."""
        return self._typed(self._load)

    def warm_up(self) -> tuple[Usage | None, StatedMemory]:
        """Speak the first words; return by how much the process has grown, and what is stated.

        What is stated is the adapter's own word on its memory. Raises `ModelLoadError`.
        """
        return self._typed(self._warm_up)

    def _typed(self, step: Callable[[], T]) -> T:
        """Run a step; whatever it raises is told here, in the engine's own thread."""
        try:
            return step()
        except BaseException as error:  # noqa: BLE001 - whatever an engine raises is a failed load
            problem = typed(error, self.spec.model_id)
        try:
            raise problem
        finally:
            del problem  # else its traceback and this frame keep each other alive

    def _load(self) -> StatedVoice:
        heap.set_trim_threshold()
        self.before = usage.usage_on(self.spec.device)
        adapter_class = registry.resolve(self.spec.adapter)
        adapter_class.check_options(self.spec.options)
        made: Any = adapter_class(self.spec)
        if not isinstance(made, TTSAdapter):
            raise ModelLoadError(
                self.spec.model_id, f"its adapter made a {kind_of(made)}, which is no TTSAdapter."
            )
        self.adapter = made
        made.load()
        voice = voice_of(made, self.spec.model_id)
        self._undo_if_abandoned()
        return voice

    def _warm_up(self) -> tuple[Usage | None, StatedMemory]:
        adapter, model_id = self.adapter, self.spec.model_id
        if adapter is None:
            return None, StatedMemory()
        if self._warmup_text:
            rate = voice_of(adapter, model_id).sample_rate
            most = _MOST_SECONDS + _SECONDS_A_CHARACTER * len(self._warmup_text)
            with contextlib.closing(self._spoken(adapter)) as chunks:
                check_audible(chunks, model_id, rate, longest=most)
        stated = memory_of(adapter, model_id)
        self._undo_if_abandoned()
        return usage.growth_on(self.spec.device, self.before), stated

    def _spoken(self, adapter: TTSAdapter) -> Generator[AudioChunk, None, None]:
        """Yield the first words while somebody waits for them, then end the engine's generator."""
        chunks = adapter.warm_up(self._warmup_text)
        try:
            for chunk in chunks:
                if self.abandoned:
                    return
                yield chunk
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def undo(self) -> None:
        """Unload whatever was loaded; does nothing the second time."""
        adapter, self.adapter = self.adapter, None
        if adapter is not None:
            try:
                adapter.unload()
            except BaseException as error:  # noqa: BLE001 - the engine is being given up; it may even raise SystemExit
                logger.warning("model %s: clean-up raised %s", self.spec.model_id, told(error))
            del adapter
            heap.trim()

    def _undo_if_abandoned(self) -> None:
        if self.abandoned:
            self.undo()


class Lifecycle:
    """Brings models in and takes them out; times in seconds."""

    def __init__(self, *, load_limit: float, unload_limit: float, warmup_text: str) -> None:
        self.load_limit = load_limit
        self.unload_limit = unload_limit
        self._warmup_text = warmup_text
        self._in = Lane("load", 4)
        self._out = Lane("unload", 4)
        self._activity = ActivityCounter()
        self._attempts: set[Attempt] = set()

    async def bring_in(
        self, spec: ModelSpec, warming: Callable[[float], None], *, quiet: bool
    ) -> Arrival:
        """Load and warm up; `warming` is called between the two with the seconds of the load.

        `quiet` says that no stream runs now. Raises `ModelLoadError` after everything was undone,
        or `Hung` when a thread is still inside the engine.
        """
        attempt = Attempt(spec, self._warmup_text)
        self._attempts.add(attempt)
        attempt.watch = self._activity.watch(quiet=quiet)
        hung = False
        try:
            return await self._arrive(attempt, warming)
        except Hung:
            hung = True
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the load has failed
            problem = typed(error, spec.model_id)
            undone = self._undone(attempt)
            hung = not await self._within(undone, self.unload_limit)
        finally:
            if not hung:
                attempt.watch.rest()
            self._attempts.discard(attempt)
        try:
            raise Hung(problem, undone, attempt) if hung else problem
        finally:
            del problem  # else its traceback and this frame keep each other alive

    async def _arrive(self, attempt: Attempt, warming: Callable[[float], None]) -> Arrival:
        load_s, voice = await self._step(attempt, attempt.load, "load")
        warming(load_s)
        warmup_s, (grown, stated) = await self._step(attempt, attempt.warm_up, "warm up")
        if attempt.abandoned or attempt.adapter is None:  # after its thread had looked
            raise ModelLoadError(attempt.spec.model_id, "the load was abandoned.")
        adapter, attempt.adapter = attempt.adapter, None
        taken = grown if attempt.watch.undisturbed else None
        life = Life(attempt.watch, attempt.before)
        return Arrival(adapter, load_s, warmup_s, life, voice, taken, stated)

    async def _step(self, attempt: Attempt, call: Callable[[], T], what: str) -> tuple[float, T]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            future = self._in.submit(call)
        except NoThreadError as error:
            raise ModelLoadError(attempt.spec.model_id, f"{error}.") from None
        if not await self._within(future, self.load_limit):
            attempt.abandoned = True
            late = LoadTimeoutError(
                attempt.spec.model_id,
                f"it did not {what} within {self.load_limit:g} s; raise load_timeout_ms.",
            )
            raise Hung(late, future, attempt)
        return loop.time() - began, future.result()

    def _undone(self, attempt: Attempt) -> asyncio.Future[None]:
        """Begin to undo what an attempt has done; what made no adapter needs no thread for it."""
        if attempt.adapter is None:
            nothing = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        return self._out.submit_surely(attempt.undo)

    async def end_of(self, hung: Hung) -> None:
        """Wait, as long as it takes, until a hung load has ended and was undone."""
        try:
            with contextlib.suppress(Exception):
                await asyncio.shield(hung.end)
            await asyncio.shield(self._undone(hung.attempt))
        finally:
            hung.attempt.watch.rest()

    def take_out(
        self, adapter: TTSAdapter, device: str, life: Life, *, quiet: bool
    ) -> tuple[Departure, asyncio.Future[None]]:
        """Begin to unload a model after its `life`; `quiet` says that no stream runs now.

        The future is done when no thread is inside the engine any more and what was freed is the
        system's again. Where no thread can be started, the unload begins as soon as one can.
        """
        own = life.before if life.watch.undisturbed else None
        watch = self._activity.watch(quiet=quiet)
        departure = Departure(adapter, device, watch, own)
        end = self._out.submit_surely(departure.leave)
        end.add_done_callback(lambda _: departure.watch.rest())
        return departure, end

    async def _within(self, future: asyncio.Future[Any], limit: float) -> bool:
        done, _ = await asyncio.wait([future], timeout=limit)
        return bool(done)

    def close(self) -> None:
        """Have loads that still run undo themselves, and let the threads end."""
        for attempt in self._attempts:
            attempt.abandoned = True
        self._in.close()
        self._out.close()


class Departure:
    """An unload, and what it gives back; keeps no reference to the adapter, nor to its error."""

    def __init__(self, adapter: TTSAdapter, device: str, watch: Watch, began: Usage | None) -> None:
        self.watch = watch
        self._adapter: TTSAdapter | None = adapter
        self._device = device
        self._began = began
        """What the process took before the load, if the model had its life to itself."""
        self.problem: str | None = None
        """What the engine raised, told."""
        self._before: Usage | None = None
        self._after: Usage | None = None

    def leave(self) -> None:
        """Unload; runs in a thread. What the engine raises is its `problem`."""
        adapter, self._adapter = self._adapter, None
        before = usage.usage_on(self._device)
        try:
            if adapter is not None:
                adapter.unload()
        except BaseException as error:  # noqa: BLE001 - whatever an engine raises, it has been left
            self.problem = told(error)
        del adapter
        heap.trim()
        if self.problem is None:
            self._before, self._after = before, usage.usage_on(self._device)

    @property
    def returned(self) -> int | None:
        """The bytes that came back; `None` if that failed, or something else ran meanwhile."""
        if self._before is None or self._after is None or not self.watch.undisturbed:
            return None
        return self._before.anonymous - self._after.anonymous

    @property
    def remainder(self) -> int | None:
        """The bytes that the process takes more than before the load; `None` if others did that."""
        if self._after is None or self._began is None or self.returned is None:
            return None
        return self._after.anonymous - self._began.anonymous


def check_audible(
    chunks: Iterable[AudioChunk], model_id: str, sample_rate: int, *, longest: float = _MOST_SECONDS
) -> None:
    """Raise `WarmupError` unless `chunks` are speech, as far as that can be told cheaply.

    They are taken to their end, but no more than `longest` seconds of them.
    """
    count = 0
    peak = 0.0
    for number, chunk in enumerate(chunks):
        if isinstance(chunk, AudioChunk) and chunk.sample_rate != sample_rate:
            raise WarmupError(
                model_id, f"it spoke at {chunk.sample_rate} Hz, but says {sample_rate} Hz."
            )
        try:
            samples = samples_of(chunk, sample_rate)
        except SynthesisError as error:
            raise WarmupError(model_id, f"its first words cannot be played: {error}") from None
        count += samples.size
        peak = max(peak, float(np.abs(samples).max(initial=0.0)))
        if number >= _MOST_CHUNKS or count > longest * sample_rate:
            raise WarmupError(model_id, f"its first words do not end; they must in {longest:g} s.")
    if not count:
        raise WarmupError(model_id, "its first words have no samples.")
    if peak < _SILENCE:
        raise WarmupError(model_id, "its first words are silent.")
    if peak > _LOUDEST:
        raise WarmupError(
            model_id, f"its first words are as loud as {peak:g}; samples must be in [-1, 1]."
        )


_KINDS = (WarmupError, LoadTimeoutError, ModelLoadError)


def typed(error: BaseException, model_id: str) -> ModelLoadError:
    """Return what the callers of a failed load get; the engine's error is its cause.

    Tracebacks are logged, then dropped: their frames would keep the half-loaded model alive. An
    error of a kind that an adapter derived from one of ours becomes the nearest of ours: nobody
    knows how to make another of its own.
    """
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("model %s: %s", model_id, trace(error))
    ours = type(error) in _KINDS
    problem = getattr(error, "problem", None) if ours else None
    text = one_line(problem, 2_000) if isinstance(problem, str) else told(error)
    kind = next((each for each in _KINDS if issubclass(type(error), each)), ModelLoadError)
    made = kind(model_id, text)
    kept = without_tracebacks(error)
    made.__cause__ = error.__cause__ if ours and kept is not None else kept
    return made
