"""What every adapter must do, run against every adapter that Greenroom has."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from greenroom import (
    AudioChunk,
    Catalog,
    InvalidInputError,
    Lease,
    ModelManager,
    ModelSpec,
    TTSAdapter,
)
from greenroom.adapters.piper.prepared.run.prepared_voice import PreparedVoice
from greenroom.catalog import registry
from greenroom.catalog.registry import GROUP
from greenroom.testing import Stage
from tests.piper.real_voice import PATIENT, cache_beside

TEXT = "The quick brown fox jumps over the lazy dog."


def spec_of(name: str) -> ModelSpec:
    if name == "staged":
        return next(iter(Stage("a").catalog))
    return next(iter(Catalog.discover(adapters=[name])))


@pytest.fixture(params=["tone", "piper", pytest.param("prepared piper", marks=PATIENT), "staged"])
def spec(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> ModelSpec:
    if request.param == "prepared piper":
        cache = request.getfixturevalue("prepared_cache")
        for name, value in cache_beside(cache, tmp_path).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("GREENROOM_PREPARE", "on")
    return spec_of(request.param.removeprefix("prepared "))


@pytest.fixture
def adapter(spec: ModelSpec) -> Iterator[TTSAdapter]:
    made = registry.resolve(spec.adapter)(spec)
    made.load()
    for _ in made.synthesize("Warm up.", dict(spec.options)):
        pass
    yield made
    made.unload()


def test_every_built_in_adapter_is_under_this_contract() -> None:
    assert set(entry_points(group=GROUP).names) == {"tone", "piper"} == set(registry.names())


def test_the_prepared_form_is_under_it_too(
    adapter: TTSAdapter, request: pytest.FixtureRequest
) -> None:
    prepared = isinstance(getattr(adapter, "_session", None), PreparedVoice)
    assert prepared == ("prepared piper" in request.node.name)


def test_chunks_are_float32_mono_in_range_at_the_stated_rate(
    adapter: TTSAdapter,
) -> None:
    chunks = list(adapter.synthesize(TEXT, dict(adapter.spec.options)))
    assert chunks
    for chunk in chunks:
        assert isinstance(chunk, AudioChunk)
        assert chunk.sample_rate == adapter.sample_rate
        assert chunk.samples.dtype == np.float32
        assert chunk.samples.ndim == 1
        assert np.isfinite(chunk.samples).all()
        assert np.abs(chunk.samples).max() <= 1.0
    assert max(np.abs(chunk.samples).max() for chunk in chunks) > 0.01


def test_constructing_is_cheap_and_opens_nothing(spec: ModelSpec) -> None:
    before = threading.active_count()
    for _ in range(50):
        registry.resolve(spec.adapter)(spec)
    assert threading.active_count() <= before  # others may end meanwhile


def test_it_can_be_loaded_again_after_unloading(spec: ModelSpec) -> None:
    adapter = registry.resolve(spec.adapter)(spec)
    for _ in range(2):
        adapter.load()
        assert list(adapter.synthesize(TEXT, dict(spec.options)))
        adapter.unload()


def test_unload_may_follow_a_load_that_never_was(spec: ModelSpec) -> None:
    adapter = registry.resolve(spec.adapter)(spec)
    adapter.unload()
    adapter.load()
    chunks = list(adapter.synthesize(TEXT, dict(spec.options)))
    assert sum(chunk.samples.size for chunk in chunks) > 0
    adapter.unload()


def test_nothing_keeps_it_alive_after_unloading(spec: ModelSpec) -> None:
    adapter = registry.resolve(spec.adapter)(spec)
    adapter.load()
    list(adapter.synthesize(TEXT, dict(spec.options)))
    adapter.unload()
    dead = weakref.ref(adapter)
    del adapter
    assert dead() is None


def test_it_speaks_from_any_thread_and_from_several_at_once(adapter: TTSAdapter) -> None:
    options = {**adapter.spec.options}
    if adapter.spec.adapter == "piper":
        options |= {"noise_scale": 0.0, "noise_w_scale": 0.0}

    def speak(text: str) -> np.ndarray:
        return np.concatenate([chunk.samples for chunk in adapter.synthesize(text, options)])

    texts = [TEXT, "Another sentence, rather different.", TEXT, "One."]
    alone = [speak(text) for text in texts]
    threads = 4 if adapter.concurrency is None else adapter.concurrency
    with ThreadPoolExecutor(threads) as pool:
        together = list(pool.map(speak, texts))
    for one, other in zip(alone, together, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() < 1e-4


def test_a_generator_that_is_closed_early_leaves_the_model_fit(adapter: TTSAdapter) -> None:
    options = dict(adapter.spec.options)
    chunks = adapter.synthesize(TEXT, options)
    assert isinstance(chunks, Generator)
    next(chunks)
    chunks.close()
    assert list(adapter.synthesize(TEXT, options))


def test_an_unknown_option_is_refused_by_name(spec: ModelSpec) -> None:
    adapter_class = registry.resolve(spec.adapter)
    adapter_class.check_options(dict(spec.options))
    if isinstance(spec.adapter, str):
        with pytest.raises(InvalidInputError, match="'pitch' is not known; this engine has:"):
            adapter_class.check_options({"pitch": 2})


async def test_it_lives_in_a_manager(spec: ModelSpec) -> None:
    async with ModelManager(catalog=Catalog([spec]), default_model_id=spec.model_id) as manager:
        async with manager.lease(spec.model_id) as lease:
            frames = [frame async for frame in lease.synthesize_stream(TEXT)]
            both = await asyncio.gather(*(count(lease) for _ in range(2)))
        assert len(frames) > 10
        assert all(abs(n - len(frames)) < 0.3 * len(frames) for n in both)


async def count(lease: Lease) -> int:
    return len([frame async for frame in lease.synthesize_stream(TEXT)])
