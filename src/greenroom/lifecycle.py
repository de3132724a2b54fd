"""One model's way in and out: construct, load, warm up, unload; in threads, within limits.

Nothing here decides; the manager carries out the ledger's decisions with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import numbers
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from greenroom import memory, registry
from greenroom.adapter import TTSAdapter
from greenroom.errors import LoadTimeoutError, ModelLoadError, WarmupError
from greenroom.measuring import Life, Measuring, Watch
from greenroom.memory import Usage
from greenroom.speech import AudioChunk, ModelSpec
from greenroom.threads import Lane

logger = logging.getLogger(__name__)

_SILENCE = 1e-4
"""Peak amplitude below which a warmup counts as silent (-80 dBFS)."""

_HIGHEST_RATE = 1_000_000


@dataclass(slots=True)
class Arrival:
    """A model that is loaded and has spoken its first words."""

    adapter: TTSAdapter
    load_s: float
    warmup_s: float
    life: Life
    taken: Usage | None
    """By how much the process has grown; `None` if something else ran that may have done that."""
    stated: int | None
    """Bytes of anonymous memory that the adapter says it takes."""
    stated_mapped: int | None


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

    def load(self) -> None:
        """Construct the adapter and load it."""
        memory.keep_little()
        self.before = memory.usage_on(self.spec.device)
        adapter_class = registry.resolve(self.spec.adapter)
        adapter_class.check_options(self.spec.options)
        self.adapter = adapter_class(self.spec)
        self.adapter.load()
        self._undo_if_abandoned()

    def warm_up(self) -> tuple[Usage | None, int | None, int | None]:
        """Speak the first words; return by how much the process has grown, and what is stated.

        What is stated is the adapter's own word on its anonymous and its mapped memory. Raises
        `WarmupError`.
        """
        adapter = self.adapter
        if adapter is None:
            return None, None, None
        check_rate(adapter.sample_rate, self.spec.model_id)
        if self._warmup_text:
            spoken = adapter.warm_up(self._warmup_text)
            check_audible(spoken, self.spec.model_id, adapter.sample_rate)
        stated = adapter.footprint_bytes(), adapter.mapped_bytes()
        self._undo_if_abandoned()
        return memory.growth_on(self.spec.device, self.before), *stated

    def undo(self) -> None:
        """Unload whatever was loaded; does nothing the second time."""
        adapter, self.adapter = self.adapter, None
        if adapter is not None:
            try:
                adapter.unload()
            except BaseException as error:  # noqa: BLE001 - the engine is being given up; it may even raise SystemExit
                logger.warning("model %s: clean-up raised: %r", self.spec.model_id, error)
            finally:
                del adapter
                memory.together.trim()

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
        self._measuring = Measuring()
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
        watch = attempt.watch = self._measuring.watch(quiet=quiet)
        hung = False
        try:
            load_s, _ = await self._step(attempt, attempt.load, "load")
            warming(load_s)
            warmup_s, (grown, *stated) = await self._step(attempt, attempt.warm_up, "warm up")
            if attempt.abandoned:  # after its thread had looked
                raise ModelLoadError(spec.model_id, "the load was abandoned.")
        except Hung:
            hung = True
            raise
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is a failed load
            problem = typed(error, spec.model_id)
            undone = self._out.submit(attempt.undo)
            if not await self._within(undone, self.unload_limit):
                hung = True
                raise Hung(problem, undone, attempt) from None
            raise problem from problem.__cause__
        finally:
            if not hung:
                watch.rest()
            self._attempts.discard(attempt)
        adapter, attempt.adapter = attempt.adapter, None
        assert adapter is not None
        taken = grown if watch.undisturbed else None
        life = Life(watch, attempt.before)
        return Arrival(adapter, load_s, warmup_s, life, taken, *stated)

    async def _step(
        self, attempt: Attempt, call: Callable[[], Any], what: str
    ) -> tuple[float, Any]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        future = self._in.submit(call)
        if not await self._within(future, self.load_limit):
            attempt.abandoned = True
            error = LoadTimeoutError(
                attempt.spec.model_id,
                f"it did not {what} within {self.load_limit:g} s; raise load_timeout_ms.",
            )
            raise Hung(error, future, attempt)
        return loop.time() - began, future.result()

    async def end_of(self, hung: Hung) -> None:
        """Wait, as long as it takes, until a hung load has ended and was undone."""
        with contextlib.suppress(Exception):
            await asyncio.shield(hung.end)
        await asyncio.shield(self._out.submit(hung.attempt.undo))
        hung.attempt.watch.rest()

    def take_out(
        self, adapter: TTSAdapter, device: str, life: Life, *, quiet: bool
    ) -> tuple[Departure, asyncio.Future[None]]:
        """Begin to unload a model after its `life`; `quiet` says that no stream runs now.

        The future is done when no thread is inside the engine any more and what was freed is the
        system's again.
        """
        own = life.before if life.watch.undisturbed else None
        watch = self._measuring.watch(quiet=quiet)
        departure = Departure(adapter, device, watch, own)
        end = self._out.submit(departure.leave)
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
        self._before: Usage | None = None
        self._after: Usage | None = None

    def leave(self) -> None:
        """Unload; runs in a thread."""
        adapter, self._adapter = self._adapter, None
        self._before = memory.usage_on(self._device)
        try:
            if adapter is not None:
                adapter.unload()
        finally:
            del adapter
            memory.together.trim()
        self._after = memory.usage_on(self._device)

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


def check_rate(sample_rate: float, model_id: str) -> None:
    """Raise `WarmupError` for a rate that no audio can have."""
    if not isinstance(sample_rate, numbers.Real) or not 0 < sample_rate < _HIGHEST_RATE:
        raise WarmupError(model_id, f"it says it speaks at {sample_rate!r} Hz.")


def check_audible(chunks: Iterable[AudioChunk], model_id: str, sample_rate: int) -> None:
    """Raise `WarmupError` unless `chunks` are speech, as far as that can be told cheaply."""
    count = 0
    peak = 0.0
    for chunk in chunks:
        if chunk.sample_rate != sample_rate:
            raise WarmupError(
                model_id, f"it spoke at {chunk.sample_rate} Hz, but says {sample_rate} Hz."
            )
        samples = np.asarray(chunk.samples)
        count += samples.size
        peak = max(peak, float(np.abs(samples).max(initial=0.0)))
        if not np.isfinite(samples).all():
            raise WarmupError(model_id, "its first words are not numbers.")
    if not count:
        raise WarmupError(model_id, "its first words have no samples.")
    if peak < _SILENCE:
        raise WarmupError(model_id, "its first words are silent.")


def typed(error: Exception, model_id: str) -> ModelLoadError:
    """Return what the callers of a failed load get; the engine's error is its cause.

    Tracebacks are logged, then dropped: their frames would keep the half-loaded model alive.
    """
    logger.debug("model %s: %s", model_id, "".join(traceback.format_exception(error)))
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    if isinstance(error, ModelLoadError):
        return error
    text = " ".join(str(error).split()) or "no reason given"
    problem = ModelLoadError(model_id, f"{type(error).__name__}: {text}")
    problem.__cause__ = error
    return problem
