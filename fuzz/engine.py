"""Engines for the adapter's door: one that behaves, and one that does what a plan says."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fuzz.junk import ERRORS, VALUES, Touchy
from greenroom import AudioChunk, ModelSpec, TTSAdapter
from greenroom.adapter import Preparation

RATE = 16_000
CHUNKS = 4
HANG_S = 1.5

Plan = tuple[tuple[str, str], ...]
"""Steps of the engine, and what each does instead of what it should: `give`, `raise` or `hang`."""

ATTRIBUTES = ("sample_rate", "concurrency", "looks_ahead", "form", "preparation")
CALLS = (
    "__init__",
    "load",
    "footprint_bytes",
    "mapped_bytes",
    "warm_up",
    "synthesize",
    "unload",
)
CLASS_CALLS = ("check_options", "check_spec", "discover")
PREPARATION_CALLS = ("is_prepared", "command", "next_form")
CHUNK_STEPS = tuple(
    f"{what} {number}" for what in ("warm_up", "synthesize") for number in (0, 1, CHUNKS)
)
CLOSE_STEPS = ("close", "first step", "next step")
STEPS = (
    *ATTRIBUTES,
    *(*CALLS, *CALLS),
    *CLASS_CALLS,
    *PREPARATION_CALLS,
    *(*CHUNK_STEPS, *CHUNK_STEPS),
    *CLOSE_STEPS,
)
"""Those that can do more harm are there twice."""

HANGING = ("__init__", "load", "footprint_bytes", "warm_up", "synthesize", "unload", *CHUNK_STEPS)
"""The steps that are called in threads, and may take their time."""


def _samples(count: int = RATE // 10) -> Any:
    return np.full(count, 0.25, np.float32)


CHUNK_JUNK: dict[str, Callable[[], Any]] = {
    "no samples": lambda: AudioChunk(_samples(0), RATE),
    "None samples": lambda: AudioChunk(None, RATE),  # type: ignore[arg-type]
    "list": lambda: AudioChunk([0.1] * 1600, RATE),  # type: ignore[arg-type]
    "text samples": lambda: AudioChunk("aaaa", RATE),  # type: ignore[arg-type]
    "int16": lambda: AudioChunk(np.full(1600, 9_000, np.int16), RATE),
    "float64": lambda: AudioChunk(np.full(1600, 0.2), RATE),
    "complex": lambda: AudioChunk(np.full(1600, 0.2j), RATE),
    "objects": lambda: AudioChunk(np.full(16, Touchy, object), RATE),
    "two channels": lambda: AudioChunk(_samples().reshape(-1, 2), RATE),
    "a number": lambda: AudioChunk(np.float32(0.5), RATE),  # type: ignore[arg-type]
    "every other": lambda: AudioChunk(_samples(3_200)[::2], RATE),
    "read-only": lambda: AudioChunk(np.broadcast_to(np.float32(0.2), 1600), RATE),
    "nan": lambda: AudioChunk(np.full(1600, np.nan, np.float32), RATE),
    "inf": lambda: AudioChunk(np.full(1600, np.inf, np.float32), RATE),
    "loud": lambda: AudioChunk(np.full(1600, 1e30, np.float32), RATE),
    "rate nan": lambda: AudioChunk(_samples(), float("nan")),  # type: ignore[arg-type]
    "rate None": lambda: AudioChunk(_samples(), None),  # type: ignore[arg-type]
    "rate text": lambda: AudioChunk(_samples(), "16000"),  # type: ignore[arg-type]
    "rate touchy": lambda: AudioChunk(_samples(), Touchy()),  # type: ignore[arg-type]
    "rate np": lambda: AudioChunk(_samples(), np.int64(RATE)),  # type: ignore[arg-type]
    "rate other": lambda: AudioChunk(_samples(), 22_050),
    "a pair": lambda: (_samples(), RATE),
    "an array": _samples,
}

_BAD_IDS: tuple[Any, ...] = (
    *(None, 3, "", "\x1b[2J", "a b", "\ud800", "x" * 10_000, b"a", [], Touchy()),
)

FOUND_JUNK: dict[str, Callable[[], Any]] = {
    "no specs": lambda: [None, 3, "tone", Touchy()],
    "bad ids": lambda: [ModelSpec(name, "tone") for name in _BAD_IDS],
    "the same twice": lambda: [ModelSpec("twice", "tone"), ModelSpec("twice", "tone")],
    "nobody's": lambda: [ModelSpec("lost", "no such adapter"), ModelSpec("lost too", None)],  # type: ignore[arg-type]
    "bad traits": lambda: [
        ModelSpec("odd-1", "tone", options=3),  # type: ignore[arg-type]
        ModelSpec("odd-2", "tone", aliases=("odd-1", "", "\x07")),
        ModelSpec("odd-3", "tone", aliases=7),  # type: ignore[arg-type]
        ModelSpec("odd-4", "tone", languages=None),  # type: ignore[arg-type]
        ModelSpec("odd-5", "tone", footprint_mb=float("nan")),
        ModelSpec("odd-6", "tone", footprint_mb="much"),  # type: ignore[arg-type]
        ModelSpec("odd-7", "tone", ttl_ms="long"),  # type: ignore[arg-type]
        ModelSpec("odd-8", "tone", device=4),  # type: ignore[arg-type]
        ModelSpec("odd-9", "tone", path=b"\xff"),  # type: ignore[arg-type]
    ],
    "a failing list": lambda: (ModelSpec(f"n-{1 // (2 - n)}", "tone") for n in range(4)),
}
"""What `discover` may return."""

GIVEN = VALUES | CHUNK_JUNK | FOUND_JUNK


class Tame(TTSAdapter):
    """Speaks 100 ms of the same for each chunk, four chunks a sentence."""

    concurrency: ClassVar[int | None] = None
    sample_rate = RATE

    def load(self) -> None:
        """Need nothing."""

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        """Yield the chunks."""
        for _ in range(CHUNKS):
            yield AudioChunk(_samples(), RATE)

    def footprint_bytes(self) -> int:
        """Return a megabyte, so that nothing need be measured."""
        return 1 << 20

    def mapped_bytes(self) -> int:
        """Return nothing."""
        return 0

    def unload(self) -> None:
        """Give nothing back."""


def wild(plan: Plan, living: weakref.WeakSet[TTSAdapter]) -> type[TTSAdapter]:
    """Return an adapter class that does what the plan says; its objects are put into `living`."""
    steps = dict(plan)

    def act(step: str, value: Callable[[], Any]) -> Any:
        return _act(steps[step]) if step in steps else value()

    class Wild(Tame):
        def __new__(cls, *args: Any) -> Any:
            made = super().__new__(cls)
            living.add(made)
            return made

        def __init__(self, spec: ModelSpec) -> None:
            act("__init__", lambda: None)
            super().__init__(spec)

        def load(self) -> Any:
            return act("load", lambda: None)

        def footprint_bytes(self) -> Any:
            return act("footprint_bytes", super().footprint_bytes)

        def mapped_bytes(self) -> Any:
            return act("mapped_bytes", super().mapped_bytes)

        def warm_up(self, text: str) -> Any:
            return act("warm_up", lambda: _speech("warm_up", steps))

        def synthesize(self, text: str, options: Mapping[str, Any]) -> Any:
            return act("synthesize", lambda: _speech("synthesize", steps))

        def unload(self) -> Any:
            return act("unload", lambda: None)

    for name in CLASS_CALLS:
        if name in steps:
            setattr(Wild, name, classmethod(_calling(steps[name])))
    if not steps.keys().isdisjoint(PREPARATION_CALLS):
        Wild.preparation = WildPreparation(steps)
    for name in ATTRIBUTES:
        if name in steps:
            verb, _, what = steps[name].partition(" ")
            found = VALUES[what]() if verb == "give" else property(_calling(steps[name]))
            setattr(Wild, name, found)
    return Wild


class WildPreparation(Preparation):
    """Does what the plan says; what it does not say is that there is nothing to prepare."""

    def __init__(self, steps: Mapping[str, str]) -> None:
        self._steps = steps

    def is_prepared(self, spec: ModelSpec) -> Any:
        """Return that there is a form to make, for a plan that has the command do something."""
        if "is_prepared" in self._steps:
            return _act(self._steps["is_prepared"])
        return False if "command" in self._steps else None

    def command(self, spec: ModelSpec) -> Any:
        """Return nothing that could be started."""
        return _act(self._steps["command"]) if "command" in self._steps else ()

    def next_form(self, spec: ModelSpec) -> Any:
        """Return what the plan says."""
        return _act(self._steps["next_form"]) if "next_form" in self._steps else ""


class TameFinder(Tame):
    """Finds the model `found`, whatever others do."""

    @classmethod
    def discover(cls, directories: Sequence[Path]) -> Iterable[ModelSpec]:
        """Return one model."""
        return [ModelSpec("found", cls)]


def _calling(doing: str) -> Callable[..., Any]:
    return lambda *_: _act(doing)


def _act(doing: str) -> Any:
    verb, _, what = doing.partition(" ")
    match verb:
        case "give":
            return GIVEN[what]()
        case "raise":
            raise ERRORS[what]()
        case "hang":
            time.sleep(HANG_S)
            return None
    raise AssertionError(doing)


def _speech(what: str, steps: Mapping[str, str]) -> Any:
    iterator: Any = _chunks(what, steps)
    if "first step" in steps or "next step" in steps or "close" in steps:
        return _Bare(iterator, steps)
    return iterator


def _chunks(what: str, steps: Mapping[str, str]) -> Iterator[Any]:
    for number in range(CHUNKS + 1):
        doing = steps.get(f"{what} {number}")
        if doing is not None:
            yield _act(doing)
        elif number < CHUNKS:
            yield AudioChunk(_samples(), RATE)


class _Bare:
    """An iterator that is no generator, and whose own methods may bite."""

    def __init__(self, inner: Iterator[Any], steps: Mapping[str, str]) -> None:
        self._inner = inner
        self._steps = steps

    def __iter__(self) -> Any:
        return _act(self._steps["first step"]) if "first step" in self._steps else self

    def __next__(self) -> Any:
        return _act(self._steps["next step"]) if "next step" in self._steps else next(self._inner)

    def close(self) -> Any:
        """Be closed, or not."""
        return _act(self._steps["close"]) if "close" in self._steps else None
