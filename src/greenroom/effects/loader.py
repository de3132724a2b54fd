"""Brings one model in and takes it out: construct, load, warm up, unload; in threads, with limits.

Nothing here decides, and nothing is raised for a load that fails: its result is a value, `Loaded`,
`Failed` or `Overdue`. What a model was measured to take is remembered here, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from greenroom.adapter import ModelSpec, TTSAdapter
from greenroom.adapters.stated import StatedMemory, memory_of, voice_of
from greenroom.audio.chunks import samples_of
from greenroom.audio.frames import AudioChunk
from greenroom.catalog import registry
from greenroom.concurrency.threads import DaemonExecutor, NoThreadError
from greenroom.errors import LoadTimeoutError, ModelLoadError, SynthesisError, WarmupError
from greenroom.hosts.hosted_adapter import HostedAdapter
from greenroom.hosts.processes import EngineProcesses
from greenroom.ledger.state import SharedPart
from greenroom.memory import heap, usage
from greenroom.memory.footprint_store import FootprintStore
from greenroom.memory.leaks import MemoryAccounts
from greenroom.memory.measurement import ActivityCounter, Life, Watch
from greenroom.memory.usage import Usage
from greenroom.speech.host import StatedVoice
from greenroom.untrusted.exceptions import (
    Translated,
    describe_error,
    format_traceback,
    without_tracebacks,
)
from greenroom.untrusted.logs import safe_logger
from greenroom.untrusted.printable import one_line, type_name

logger = safe_logger(__name__)

T = TypeVar("T")

_SILENCE = 1e-4
"""Peak amplitude below which a warmup counts as silent (-80 dBFS)."""

_LOUDEST = 100.0
"""Peak amplitude above which samples are no audio in [-1, 1] that is a little too loud."""

_KEPT_THREADS = 4
"""Threads that are kept for the next loads, and for the next unloads; more run when needed."""

_MOST_CHUNKS = 10_000
_MOST_SECONDS = 60.0
_SECONDS_A_CHARACTER = 0.5
"""A warmup that makes more chunks, or more audio for its text, does not end by itself."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is loaded and has spoken its first words."""

    adapter: TTSAdapter
    load_s: float
    warmup_s: float
    audio_s: float
    """Of the first words, which the warmup made."""
    voice: StatedVoice
    life: Life
    """What its unload is compared with."""
    form: str
    """Which form of the model is in memory."""
    mapped: int
    """Bytes of mapped files."""
    footprint: int | None
    """Bytes to book from now on; `None` if nothing new is known."""
    shared: SharedPart | None
    """What it has in common with others, beside these."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A load that went wrong; everything was undone."""

    error: ModelLoadError
    """For the callers; it was never raised, so no frame keeps the half-loaded model alive."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """A load, or the clean-up after one that failed, that outlasted its limit.

    A thread is inside the engine still. `Loader.end_of` waits until it has left.
    """

    error: ModelLoadError
    """For the callers."""
    attempt: LoadAttempt
    call: asyncio.Future[Any]
    """Done when the thread has left the engine."""


LoadResult = Loaded | Failed | Overdue


@dataclass(frozen=True, slots=True)
class Unloaded:
    """A model that no thread is inside of any more."""

    problem: str | None = None
    """The kind and the text of what the engine raised."""
    leaked: int | None = None
    """Bytes that its last lives left behind, if it has just been found to leak."""


@dataclass(slots=True, eq=False, repr=False)
class LoadAttempt:
    """One attempt to load a model. Its methods run in threads, never two at once."""

    spec: ModelSpec
    warmup_text: str
    processes: EngineProcesses = field(default_factory=EngineProcesses)
    """Where it may be loaded."""
    abandoned: bool = False
    """Nothing waits for it any more: what is loaded is unloaded again by the same thread."""
    adapter: TTSAdapter | None = None
    before: Usage | None = None
    """What its process took of the device before the load; `None` where that is unknown."""
    audio_s: float = 0.0
    """Seconds of the first words."""

    def load(self) -> StatedVoice:
        """Construct the adapter and load it; return how it speaks. Raises `ModelLoadError`."""
        # Here, in the engine's own thread: telling what an engine raised is the engine's code.
        with Translated(self._typed):
            return self._load()

    def warm_up(self) -> tuple[Usage | None, StatedMemory]:
        """Speak the first words; return by how much the process has grown, and what is stated.

        What is stated is the adapter's own word on its memory. Raises `ModelLoadError`.
        """
        with Translated(self._typed):
            return self._warm_up()

    def _typed(self, error: BaseException) -> ModelLoadError:
        return typed(error, self.spec.model_id)

    def _load(self) -> StatedVoice:
        heap.set_trim_threshold()
        self.before = usage.usage_on(self.spec.device)
        adapter_class = registry.resolve(self.spec.adapter)
        adapter_class.check_options(self.spec.options)
        made: Any = self.processes.adapter_for(self.spec, adapter_class)
        if not isinstance(made, TTSAdapter):
            raise ModelLoadError(
                self.spec.model_id, f"its adapter made a {type_name(made)}, which is no TTSAdapter."
            )
        self.adapter = made
        self._once_more(made, lambda: self._load_adapter(made))
        voice = voice_of(made, self.spec.model_id)
        self._undo_if_abandoned()
        return voice

    def _load_adapter(self, adapter: TTSAdapter) -> None:
        if isinstance(adapter, HostedAdapter):
            adapter.start()
            self.before = adapter.usage()
        adapter.load()

    def _once_more(self, adapter: TTSAdapter, step: Callable[[], None]) -> None:
        """Take a step, and again where it failed by what may have been another model's doing."""
        try:
            step()
        except ModelLoadError:
            if not (isinstance(adapter, HostedAdapter) and adapter.was_taken_along):
                raise
            step()

    def _warm_up(self) -> tuple[Usage | None, StatedMemory]:
        adapter, model_id = self.adapter, self.spec.model_id
        if adapter is None:
            return None, StatedMemory()
        if self.warmup_text:
            rate = voice_of(adapter, model_id).sample_rate
            most = _MOST_SECONDS + _SECONDS_A_CHARACTER * len(self.warmup_text)

            def speak_first_words() -> None:
                if isinstance(adapter, HostedAdapter) and adapter.was_taken_along:
                    self._load_adapter(adapter)
                with contextlib.closing(self._spoken(adapter)) as chunks:
                    self.audio_s = check_audible(chunks, model_id, rate, longest=most)

            self._once_more(adapter, speak_first_words)
        stated = memory_of(adapter, model_id)
        self._undo_if_abandoned()
        if isinstance(adapter, HostedAdapter):
            return usage.growth(adapter.usage(), self.before), stated
        return usage.growth_on(self.spec.device, self.before), stated

    def _spoken(self, adapter: TTSAdapter) -> Generator[AudioChunk, None, None]:
        """Yield the first words until the attempt is abandoned, then end the engine's generator."""
        chunks = adapter.warm_up(self.warmup_text)
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
                logger.warning(
                    "model %s: clean-up raised %s", self.spec.model_id, describe_error(error)
                )
            del adapter
            heap.trim()

    def _undo_if_abandoned(self) -> None:
        if self.abandoned:
            self.undo()


class Loader:
    """Loads and unloads models, and remembers what they take; times in seconds."""

    def __init__(
        self,
        footprints: FootprintStore,
        accounts: MemoryAccounts,
        *,
        load_limit: float,
        unload_limit: float,
        warmup_text: str,
        processes: EngineProcesses | None = None,
    ) -> None:
        self.load_limit = load_limit
        self.unload_limit = unload_limit
        self._footprints = footprints
        self._accounts = accounts
        self._warmup_text = warmup_text
        self._processes = processes or EngineProcesses()
        # Apart, so that loads which hang keep no thread from an unload, which makes room for all.
        self._load_executor = DaemonExecutor("load", _KEPT_THREADS)
        self._unload_executor = DaemonExecutor("unload", _KEPT_THREADS)
        self._activity = ActivityCounter()
        self._attempts: dict[LoadAttempt, Watch] = {}

    async def load(
        self, spec: ModelSpec, warming: Callable[[float], None], *, quiet: bool, alone: bool
    ) -> LoadResult:
        """Load a model and let it speak its first words.

        `warming` is called between the two with the seconds of the load. `quiet` says that no
        stream runs now, `alone` that no other model but pinned ones is in memory.
        """
        attempt = LoadAttempt(spec, self._warmup_text, self._processes)
        watch = self._attempts[attempt] = self._activity.watch(quiet=quiet)
        result: LoadResult | None = None
        try:
            result = await self._attempt(attempt, watch, warming, alone=alone)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the load has failed
            result = await self._undone(attempt, typed(error, spec.model_id))
        finally:
            # An overdue load goes on disturbing what others measure; see `end_of`.
            if not isinstance(result, Overdue):
                watch.stop()
                del self._attempts[attempt]
        return result

    async def _attempt(
        self,
        attempt: LoadAttempt,
        watch: Watch,
        warming: Callable[[float], None],
        *,
        alone: bool,
    ) -> Loaded | Overdue:
        step = await self._step(attempt, attempt.load, "load")
        if isinstance(step, Overdue):
            return step
        load_s, voice = step
        warming(load_s)
        last_step = await self._step(attempt, attempt.warm_up, "warm up")
        if isinstance(last_step, Overdue):
            return last_step
        warmup_s, (grown, stated) = last_step
        # Its thread looks at `abandoned` for the last time before its result is here.
        if attempt.abandoned or attempt.adapter is None:
            raise ModelLoadError(attempt.spec.model_id, "the load was abandoned.")
        adapter = attempt.adapter
        alone_there = isinstance(adapter, HostedAdapter) and adapter.has_it_to_itself
        taken = grown if watch.undisturbed or alone_there else None
        footprint = self._remember_load(attempt.spec, taken, stated, alone=alone)
        mapped = self._footprints.mapped(attempt.spec, stated.form)
        # Last: what goes wrong before this is undone with the attempt.
        adapter, attempt.adapter = attempt.adapter, None
        life = Life(watch, attempt.before)
        return Loaded(
            adapter,
            load_s,
            warmup_s,
            audio_s=attempt.audio_s,
            voice=voice,
            life=life,
            form=stated.form,
            mapped=mapped,
            footprint=footprint,
            shared=stated.shared,
        )

    async def _step(
        self, attempt: LoadAttempt, call: Callable[[], T], what: str
    ) -> tuple[float, T] | Overdue:
        """Run one step in a thread; return its seconds and its result. Raises what it raises."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            future = self._load_executor.submit(call)
        except NoThreadError as error:
            raise ModelLoadError(attempt.spec.model_id, f"{error}.") from None
        if await _ends_within(future, self.load_limit):
            return loop.time() - began, future.result()
        attempt.abandoned = True
        problem = f"it did not {what} within {self.load_limit:g} s; raise load_timeout_ms."
        return Overdue(LoadTimeoutError(attempt.spec.model_id, problem), attempt, future)

    async def _undone(self, attempt: LoadAttempt, error: ModelLoadError) -> Failed | Overdue:
        undo = self._begin_undo(attempt)
        if await _ends_within(undo, self.unload_limit):
            return Failed(error)
        return Overdue(error, attempt, undo)

    def _begin_undo(self, attempt: LoadAttempt) -> asyncio.Future[None]:
        """Begin to undo what an attempt has done; what made no adapter needs no thread for it."""
        if attempt.adapter is None:
            nothing = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        return self._unload_executor.submit(attempt.undo, must_run=True)

    async def end_of(self, overdue: Overdue) -> None:
        """Wait, as long as it takes, until an overdue load has ended and was undone."""
        # Shielded: a wait that is cancelled at the manager's end must not cancel the futures, on
        # which the threads still deliver.
        try:
            with contextlib.suppress(Exception):  # the callers have had their error
                await asyncio.shield(overdue.call)
            await asyncio.shield(self._begin_undo(overdue.attempt))
        finally:
            self._attempts.pop(overdue.attempt).stop()

    def begin_unload(
        self, adapter: TTSAdapter, spec: ModelSpec, form: str, life: Life, *, quiet: bool
    ) -> UnloadAttempt:
        """Begin to unload a model after its `life`; `quiet` says that no stream runs now.

        Where no thread can be started, the unload begins as soon as one can. The caller must keep
        no reference to the adapter: what it has is measured as returned only once it is free.
        """
        # Before the unload's own watch begins, which disturbs that of the life.
        before_life = life.before if life.watch.undisturbed else None
        watch = self._activity.watch(quiet=quiet)
        attempt = UnloadAttempt(adapter, spec, form, watch, before_life)
        attempt.call = self._unload_executor.submit(attempt.unload, must_run=True)
        attempt.call.add_done_callback(lambda _: watch.stop())
        return attempt

    async def end_of_unload(self, attempt: UnloadAttempt) -> Unloaded:
        """Wait until no thread is inside the engine; return what came of it, and remember that."""
        await asyncio.wait([attempt.call])
        raised = attempt.call.exception()
        problem = attempt.problem if raised is None else describe_error(raised)
        return Unloaded(problem, self._remember_unload(attempt))

    def _remember_load(
        self, spec: ModelSpec, taken: Usage | None, stated: StatedMemory, *, alone: bool
    ) -> int | None:
        """Remember what a model takes; return what to book, `None` if nothing new is known."""
        footprint = None
        if taken is not None:
            mapped = taken.mapped if stated.mapped is None else stated.mapped
            grown = Usage(taken.anonymous, mapped)
            footprint = self._footprints.add_measurement(spec, stated.form, grown, alone=alone)
        # What the adapter states wins over what was measured: only it knows its own memory from
        # what the process took beside it.
        if stated.anonymous is not None:
            known = self._footprints.mapped(spec, stated.form)
            said = Usage(stated.anonymous, known if stated.mapped is None else stated.mapped)
            footprint = self._footprints.set_stated(spec, stated.form, said, stated.shared)
        self._accounts.loaded(spec.model_id, None if taken is None else taken.anonymous)
        return footprint

    def _remember_unload(self, attempt: UnloadAttempt) -> int | None:
        """Book what came back; return what the last lives left, if the model just began to leak."""
        spec, returned, remainder = attempt.spec, attempt.returned, attempt.remainder
        # Without a life of its own what came back may be what others had taken.
        if returned is not None and remainder is not None:
            self._footprints.correct_last(spec, attempt.form, returned)
        self._footprints.mark_stale(spec)
        return self._accounts.unloaded(spec.model_id, returned, remainder)

    def close(self) -> None:
        """Have loads that still run undo themselves, and let the threads end."""
        for attempt in self._attempts:
            attempt.abandoned = True
        self._load_executor.close()
        self._unload_executor.close()


async def _ends_within(call: asyncio.Future[Any], limit: float) -> bool:
    """Wait for a call up to `limit` seconds; `asyncio.wait` cancels nothing when it gives up."""
    done, _ = await asyncio.wait([call], timeout=limit)
    return bool(done)


@dataclass(slots=True, eq=False, repr=False)
class UnloadAttempt:
    """An unload, and what it gives back; keeps no reference to the adapter, nor to its error."""

    adapter: TTSAdapter | None
    """Until its thread has begun, which has the last reference then."""
    spec: ModelSpec
    form: str
    watch: Watch
    before_life: Usage | None
    """What the process took before the load, if the model had its life to itself."""
    problem: str | None = None
    """The kind and the text of what the engine raised."""
    before: Usage | None = None
    after: Usage | None = None
    """What the process took before and after the unload; `None` if that failed."""
    call: asyncio.Future[None] = field(init=False)
    """Done when its thread has left the engine and what was freed is the system's again."""

    def unload(self) -> None:
        """Unload; runs in a thread. What the engine raises is its `problem`."""
        adapter, self.adapter = self.adapter, None
        if adapter is None:
            return
        # That of a process is asked still when its adapter is gone.
        measured: Callable[[], Usage | None] = functools.partial(usage.usage_on, self.spec.device)
        if isinstance(adapter, HostedAdapter):
            measured = adapter.usage
        before = measured()
        try:
            adapter.unload()
        except BaseException as error:  # noqa: BLE001 - whatever an engine raises, it has been left
            self.problem = describe_error(error)
        del adapter  # the last reference: what hangs on it is free before it is measured
        heap.trim()
        if self.problem is None:
            self.before = before
            self.after = measured()

    async def ends_within(self, limit: float) -> bool:
        """Wait up to `limit` seconds; return whether the thread has left the engine."""
        return await _ends_within(self.call, limit)

    @property
    def returned(self) -> int | None:
        """The bytes that came back; `None` if that failed, or something else ran meanwhile."""
        if self.before is None or self.after is None or not self.watch.undisturbed:
            return None
        return self.before.anonymous - self.after.anonymous

    @property
    def remainder(self) -> int | None:
        """The bytes that the process takes more than before the load; `None` if others did that."""
        if self.after is None or self.before_life is None or self.returned is None:
            return None
        return self.after.anonymous - self.before_life.anonymous


def check_audible(
    chunks: Iterable[AudioChunk], model_id: str, sample_rate: int, *, longest: float
) -> float:
    """Return the seconds of `chunks`; raise `WarmupError` unless they are speech.

    That is seen as far as it can be seen cheaply. They are taken to their end, but no more than
    `longest` seconds of them.
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
    return count / sample_rate


_KINDS = (WarmupError, LoadTimeoutError, ModelLoadError)


def typed(error: BaseException, model_id: str) -> ModelLoadError:
    """Return what the callers of a failed load get; the engine's error is its cause.

    Tracebacks are logged, then dropped: their frames would keep the half-loaded model alive. An
    error of a kind that an adapter derived from one of ours becomes the nearest of ours: nobody
    knows how to make another of its own.
    """
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("model %s: %s", model_id, format_traceback(error))
    ours = type(error) in _KINDS
    problem = getattr(error, "problem", None) if ours else None
    text = one_line(problem, 2_000) if isinstance(problem, str) else describe_error(error)
    kind = next((each for each in _KINDS if issubclass(type(error), each)), ModelLoadError)
    made = kind(model_id, text)
    kept = without_tracebacks(error)
    made.__cause__ = error.__cause__ if ours and kept is not None else kept
    return made
