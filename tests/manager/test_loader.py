"""The loader: what a load or an unload comes to, where it runs, and what is remembered of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenroom import ModelSpec
from greenroom.adapter import TTSAdapter
from greenroom.audio.frames import AudioChunk
from greenroom.effects.loader import (
    Failed,
    LoadAttempt,
    Loaded,
    Loader,
    Overdue,
    check_audible,
    typed,
)
from greenroom.errors import InvalidInputError, LoadTimeoutError, ModelLoadError, WarmupError
from greenroom.memory.footprint_store import FootprintStore
from greenroom.memory.leaks import MemoryAccounts
from greenroom.memory.usage import MIB, Usage
from greenroom.testing import Gate, Stage, VirtualTimeLoop

pytestmark = pytest.mark.virtual_time

RATE = 1_000


class Voice(TTSAdapter):
    """Speaks ten chunks, passes a gate before each, and notes what is done to it."""

    sample_rate = RATE
    concurrency = None
    gate: Gate
    noted: list[str]
    chunks: Iterable[AudioChunk]

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        if options.get("speed") == 9:
            raise InvalidInputError("its speed is 9; use at most 2.")

    def load(self) -> None:
        self.noted.append(f"load in {threading.current_thread().name}")

    def unload(self) -> None:
        self.noted.append(f"unload in {threading.current_thread().name}")

    def warm_up(self, text: str) -> Iterator[AudioChunk]:
        self.noted.append(f"say {text}")
        self.chunks = self._speak()
        return self.chunks

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        return self._speak()

    def _speak(self) -> Iterator[AudioChunk]:
        try:
            for number in range(10):
                self.gate.go_through()
                self.noted.append(f"chunk {number}")
                yield spoken(100)
        finally:
            self.noted.append("silent")


def spoken(samples: int, amplitude: float = 0.5, rate: int = RATE) -> AudioChunk:
    return AudioChunk(np.full(samples, amplitude, np.float32), rate)


@pytest.fixture
def voice() -> type[Voice]:
    return type("Voice", (Voice,), {"gate": Gate(), "noted": []})


@pytest.fixture
def footprints(tmp_path: Path) -> FootprintStore:
    return FootprintStore(tmp_path / "footprints.json")


@pytest.fixture
def loader(footprints: FootprintStore) -> Iterator[Loader]:
    made = Loader(
        footprints, MemoryAccounts(), load_limit=5, unload_limit=2, warmup_text="Good morning."
    )
    yield made
    made.close()


async def load(loader: Loader, spec: ModelSpec, *, quiet: bool = True) -> Any:
    return await loader.load(spec, lambda _: None, quiet=quiet, alone=True)


async def unload(loader: Loader, spec: ModelSpec, loaded: Loaded) -> Any:
    attempt = loader.begin_unload(loaded.adapter, spec, loaded.form, loaded.life, quiet=True)
    return await loader.end_of_unload(attempt)


# What the first words may be


@pytest.mark.parametrize(
    ("chunks", "problem"),
    [
        ([], "its first words have no samples."),
        ([spoken(0)], "its first words have no samples."),
        ([spoken(5, 0.00009), spoken(5, -0.00009)], "its first words are silent."),
        (
            [spoken(5, -101), spoken(5)],
            "its first words are as loud as 101; samples must be in [-1, 1].",
        ),
        ([spoken(5), spoken(5, rate=800)], "it spoke at 800 Hz, but says 1000 Hz."),
        (
            [b"pcm"],
            "its first words cannot be played: the engine made a bytes where an AudioChunk is due.",
        ),
        ([spoken(1_000), spoken(1_001)], "its first words do not end; they must in 2 s."),
        ([spoken(0)] * 10_001, "its first words do not end; they must in 2 s."),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_first_words_that_are_no_speech_are_refused_and_the_reason_told(
    chunks: list[Any], problem: str
) -> None:
    with pytest.raises(WarmupError) as raised:
        check_audible(chunks, "amy", RATE, longest=2)
    assert (raised.value.model_id, raised.value.problem) == ("amy", problem)


@pytest.mark.parametrize(
    "chunks",
    [
        [spoken(0), spoken(5), spoken(0)],
        [spoken(5), spoken(5, 0)],
        [spoken(5, 0.0002)],
        [spoken(5, 100)],
        [spoken(1_000), spoken(1_000)],
        [spoken(0)] * 9_999 + [spoken(5)],
    ],
    ids=["pauses", "fading", "soft", "loudest", "longest", "in the most chunks"],
)
def test_first_words_up_to_every_limit_are_speech(chunks: list[AudioChunk]) -> None:
    check_audible(chunks, "amy", RATE, longest=2)


@pytest.mark.parametrize(("tenths", "allowed"), [(1_600, True), (1_601, False)])
def test_first_words_may_take_a_minute_and_half_a_second_for_each_character(
    tenths: int, allowed: bool
) -> None:
    stage = Stage("b", sample_rate=RATE)
    stage["b"].chunks = tenths
    attempt = LoadAttempt(stage.catalog.get("b"), "x" * 200)
    attempt.load()
    with (
        contextlib.nullcontext()
        if allowed
        else pytest.raises(WarmupError, match=r"do not end; they must in 160 s\.$")
    ):
        attempt.warm_up()
    attempt.undo()


def test_a_voice_is_warmed_up_with_the_text_that_was_configured(voice: type[Voice]) -> None:
    attempt = LoadAttempt(ModelSpec("b", voice), "Good morning.")
    attempt.load()
    attempt.warm_up()
    assert "say Good morning." in voice.noted


def test_an_engine_that_keeps_its_generator_has_it_closed_when_its_first_words_are_refused(
    voice: type[Voice],
) -> None:
    voice.sample_rate = 2_000  # but its chunks have another rate
    attempt = LoadAttempt(ModelSpec("b", voice), "Good morning.")
    attempt.load()
    with pytest.raises(WarmupError, match="it spoke at 1000 Hz"):
        attempt.warm_up()
    assert voice.noted[-2:] == ["chunk 0", "silent"]


def test_first_words_may_come_from_an_iterator_that_cannot_be_closed(
    voice: type[Voice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice, "warm_up", lambda _, text: iter([spoken(5)]))
    attempt = LoadAttempt(ModelSpec("b", voice), "Good morning.")
    attempt.load()
    attempt.warm_up()


# What a failed load tells


def no_adapter(cls: type, spec: ModelSpec) -> Any:
    return []


def too_fast(voice: type[Voice]) -> ModelSpec:
    return ModelSpec("b", voice, options={"speed": 9})


def with_attribute(name: str, value: Any) -> Callable[[type[Voice]], ModelSpec]:
    def spec(voice: type[Voice]) -> ModelSpec:
        setattr(voice, name, value)
        return ModelSpec("b", voice)

    return spec


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (too_fast, "InvalidInputError: its speed is 9; use at most 2."),
        (
            with_attribute("__new__", no_adapter),
            "its adapter made a list, which is no TTSAdapter.",
        ),
        (with_attribute("sample_rate", 0), "it says it speaks at 0 Hz."),
        (
            with_attribute("footprint_bytes", lambda _: -1),
            "its footprint_bytes() is -1; it must be a number of bytes, or None.",
        ),
        (with_attribute("sample_rate", 2_000), "it spoke at 1000 Hz, but says 2000 Hz."),
        (with_attribute("load", lambda _: 1 // 0), "ZeroDivisionError: "),
    ],
)
async def test_a_load_that_fails_tells_why_and_the_debug_log_names_the_model(
    loader: Loader,
    voice: type[Voice],
    caplog: pytest.LogCaptureFixture,
    spec: Callable[[type[Voice]], ModelSpec],
    problem: str,
) -> None:
    caplog.set_level(logging.DEBUG, logger="greenroom")
    failed = await load(loader, spec(voice))
    assert isinstance(failed, Failed)
    assert failed.error.problem.startswith(problem)
    assert failed.error.model_id == "b"
    assert "model b: " in caplog.text
    assert "model None" not in caplog.text


def test_a_rate_that_is_none_any_more_after_the_load_names_its_model_in_the_debug_log(
    voice: type[Voice], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="greenroom")
    attempt = LoadAttempt(ModelSpec("b", voice), "Good morning.")
    attempt.load()
    voice.sample_rate = 0
    with pytest.raises(WarmupError):
        attempt.warm_up()
    assert "model 'b' cannot be loaded: it says it speaks at 0 Hz." in caplog.text


async def test_a_load_without_a_thread_says_so_and_names_its_model(
    loader: Loader,
    voice: type[Voice],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    caplog.set_level(logging.DEBUG, logger="greenroom")
    monkeypatch.setattr("greenroom.concurrency.threads._Worker.start", refuse)
    failed = await load(loader, ModelSpec("b", voice))
    assert failed.error.problem == (
        "no thread can be started (RuntimeError: can't start new thread); "
        "raise the limit of processes, or load fewer models."
    )
    assert "model 'b' cannot be loaded: no thread" in caplog.text


class FurtherError(WarmupError):
    """A kind of an adapter's own."""


def linked(error: Exception, links: int = 1) -> Exception:
    for number in range(links):
        cause = ValueError(str(number))
        cause.__cause__, error.__cause__ = error.__cause__, cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "problem"),
    [
        (ValueError("broken"), ModelLoadError, "ValueError: broken"),
        (ModelLoadError("x", "no licence."), ModelLoadError, "no licence."),
        (LoadTimeoutError("x", "too slow."), LoadTimeoutError, "too slow."),
        (WarmupError("x", "y" * 2_000), WarmupError, "y" * 2_000),
        (WarmupError("x", "y" * 2_001), WarmupError, "y" * 1_997 + "..."),
        (
            FurtherError("x", "hoarse."),
            WarmupError,
            "FurtherError: model 'x' cannot be loaded: hoarse.",
        ),
        (
            ModelLoadError("x", 7),  # type: ignore[arg-type]
            ModelLoadError,
            "ModelLoadError: model 'x' cannot be loaded: 7",
        ),
        (
            ModelLoadError.__new__(ModelLoadError),
            ModelLoadError,
            "ModelLoadError: no reason given",
        ),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_callers_get_the_nearest_of_our_kinds_with_what_was_told(
    error: Exception, kind: type[Exception], problem: str
) -> None:
    made = typed(error, "b")
    assert (type(made), made.model_id, made.problem) == (kind, "b", problem)


def test_the_engines_error_is_the_cause_unless_it_has_too_many_links_to_be_kept() -> None:
    plain, ours = linked(ValueError("broken")), linked(ModelLoadError("x", "no licence."))
    assert typed(plain, "b").__cause__ is plain
    assert typed(ours, "b").__cause__ is ours.__cause__
    assert typed(linked(ValueError("broken"), 5_000), "b").__cause__ is None
    assert typed(linked(ModelLoadError("x", "no licence."), 5_000), "b").__cause__ is None


# Loads that are abandoned


async def test_a_load_that_takes_too_long_says_so_and_names_its_model(
    loader: Loader, voice: type[Voice], clock: VirtualTimeLoop
) -> None:
    voice.gate.hold()
    loading = asyncio.create_task(load(loader, ModelSpec("b", voice)))
    await clock.advance(5.1)
    overdue = await loading
    assert isinstance(overdue, Overdue)
    assert overdue.error.model_id == "b"
    assert overdue.error.problem == "it did not warm up within 5 s; raise load_timeout_ms."
    voice.gate.open()
    await loader.end_of(overdue)


async def test_first_words_that_took_too_long_are_not_spoken_to_their_end(
    loader: Loader, voice: type[Voice], clock: VirtualTimeLoop
) -> None:
    voice.gate.hold()
    loading = asyncio.create_task(load(loader, ModelSpec("b", voice)))
    await clock.advance(5.1)
    voice.gate.open()
    await loader.end_of(await loading)
    assert [each for each in voice.noted if each.startswith("chunk")] == ["chunk 0"]
    assert sum(each.startswith("unload") for each in voice.noted) == 1


async def test_a_load_that_still_runs_at_the_end_undoes_itself(
    loader: Loader, voice: type[Voice], clock: VirtualTimeLoop
) -> None:
    voice.gate.hold()
    loading = asyncio.create_task(load(loader, ModelSpec("b", voice)))
    await clock.settle()
    loader.close()
    voice.gate.open()
    assert isinstance(await loading, Failed)
    assert [each for each in voice.noted if each.startswith("chunk")] == ["chunk 0"]
    assert sum(each.startswith("unload") for each in voice.noted) == 1


async def test_a_load_that_is_abandoned_in_its_very_last_moment_is_undone(
    loader: Loader,
    voice: type[Voice],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def late(device: str, before: Usage | None) -> Usage:
        loader.close()
        return Usage(0)

    caplog.set_level(logging.DEBUG, logger="greenroom")
    monkeypatch.setattr("greenroom.memory.usage.growth_on", late)
    failed = await load(loader, ModelSpec("b", voice))
    assert isinstance(failed, Failed)
    assert failed.error.problem == "the load was abandoned."
    assert "model 'b' cannot be loaded: the load was abandoned." in caplog.text
    assert any(each.startswith("unload") for each in voice.noted)


# Threads


async def test_the_threads_of_loads_and_unloads_are_named_for_them(
    loader: Loader, voice: type[Voice]
) -> None:
    spec = ModelSpec("b", voice)
    await unload(loader, spec, await load(loader, spec))
    assert voice.noted[0] == "load in greenroom-load-1"
    assert voice.noted[-1] == "unload in greenroom-unload-1"


@pytest.mark.parametrize("how", ["unload", "undo"])
async def test_what_frees_a_model_waits_until_a_thread_can_be_started(
    loader: Loader,
    voice: type[Voice],
    clock: VirtualTimeLoop,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    from greenroom.concurrency.threads import _Worker

    start = _Worker.start

    def refuse_unloads(worker: _Worker) -> None:
        if "unload" in worker.name:
            raise RuntimeError("can't start new thread")
        start(worker)

    spec = ModelSpec("b", voice)
    if how == "undo":
        voice.sample_rate = 2_000  # but its chunks have another rate
    with monkeypatch.context() as patch:
        patch.setattr(_Worker, "start", refuse_unloads)
        if how == "undo":
            freeing = asyncio.create_task(load(loader, spec))
        else:
            freeing = asyncio.create_task(unload(loader, spec, await load(loader, spec)))
        await clock.advance(1.1)
        assert not freeing.done()
    await clock.advance(0.5)
    assert freeing.done()
    assert voice.noted[-1] == "unload in greenroom-unload-1"


async def test_an_unload_that_breaks_off_outside_the_engine_is_told(
    loader: Loader, voice: type[Voice], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise OSError("no heap")

    spec = ModelSpec("b", voice)
    loaded = await load(loader, spec)
    monkeypatch.setattr("greenroom.memory.heap.trim", broken)
    assert (await unload(loader, spec, loaded)).problem == "OSError: no heap"


# What is remembered


@pytest.mark.parametrize(
    ("stated", "measured", "booked"),
    [
        ((None, None), True, (180, 60)),
        ((None, 3), True, (180, 3)),
        ((7, None), True, (7, 60)),
        ((7, 3), True, (7, 3)),
        ((None, None), False, (None, 0)),
        ((7, None), False, (7, 0)),
        ((7, 3), False, (7, 3)),
    ],
)
async def test_what_a_model_states_is_booked_and_what_it_does_not_is_measured(
    loader: Loader,
    voice: type[Voice],
    monkeypatch: pytest.MonkeyPatch,
    stated: tuple[int | None, int | None],
    measured: bool,
    booked: tuple[int | None, int],
) -> None:
    monkeypatch.setattr("greenroom.memory.usage.growth_on", lambda *_: Usage(180, 60))
    anonymous, mapped = stated
    monkeypatch.setattr(voice, "footprint_bytes", lambda _: anonymous)
    monkeypatch.setattr(voice, "mapped_bytes", lambda _: mapped)
    # Sizes below a megabyte count as one.
    monkeypatch.setattr("greenroom.memory.footprint_store.SMALLEST_MEASURE", 1)
    loaded = await load(loader, ModelSpec("b", voice), quiet=measured)
    assert (loaded.footprint, loaded.mapped) == booked


@pytest.mark.parametrize(("disturbed", "remembered"), [(False, 50), (True, 180)])
async def test_what_came_back_corrects_what_a_load_took_only_after_a_life_alone(
    loader: Loader,
    footprints: FootprintStore,
    voice: type[Voice],
    monkeypatch: pytest.MonkeyPatch,
    disturbed: bool,
    remembered: int,
) -> None:
    taken = iter([0, 180, 180, 130])
    monkeypatch.setattr("greenroom.memory.usage.usage", lambda: Usage(next(taken) * MIB))
    spec = ModelSpec("b", voice)
    loaded = await load(loader, spec)
    if disturbed:
        loader._activity.watch(quiet=True).stop()
    await unload(loader, spec, loaded)
    (record,) = footprints.records("b")
    assert record.anonymous == remembered * MIB
