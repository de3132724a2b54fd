"""The contract for engines: `TTSAdapter`, and `Preparation` for those that prepare models.

Both are synchronous: an engine's author needs to know no asyncio.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from greenroom.audio.frames import OUTPUT_RATE, AudioChunk
from greenroom.audio.framing import SampleRate, check_rate
from greenroom.speech.host import UnmanagedHost
from greenroom.speech.stream import SpeechStream
from greenroom.speech.text import CheckedText
from greenroom.speech.use import Host

Isolation = Literal["none", "engine", "model"]
"""Where a model lives: in the manager's process, in one with all of its engine and device, or in
one of its own."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model that could be loaded: an entry of the catalog."""

    model_id: str
    adapter: type[TTSAdapter] | str
    """An adapter class, or the name under which one is registered."""
    path: Path | str | None = None
    """The engine's main file, or `None` for an engine that needs none."""
    device: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Defaults for every synthesis; a caller's options override them."""
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    footprint_mb: float | None = None
    """Memory to book before it was ever measured; `None` estimates from the file size."""
    ttl_ms: int | None = None
    """Idle time of this model alone; `None` takes the manager's."""
    aliases: tuple[str, ...] = ()
    """Other names that find this model."""
    isolation: Isolation | None = None
    """Where this model lives; `None` takes the manager's."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What an adapter found and cannot serve; it is named to users, and the others are served."""

    name: str
    """The file or folder."""
    reason: str
    """One clause, with the fix; the line first where the reason is in one."""


class Preparation(ABC):
    """How an engine keeps its models in a form that loads faster: what is kept, how it is made.

    One object for a whole engine, `TTSAdapter.preparation`. Any thread may call it, and none of it
    imports the engine: lists ask it about every model, and the form is made by another process.
    """

    @abstractmethod
    def is_prepared(self, spec: ModelSpec) -> bool | None:
        """Whether the prepared form of the model is kept; `None` for a model that can have none.

        Cheap: a list asks it of 10,000 models.
        """

    @abstractmethod
    def command(self, spec: ModelSpec) -> Sequence[str]:
        """Return the command line that makes the prepared form of a model that can have one.

        It ends with 0, or with the reason as its last line on standard error. Its standard input
        is a pipe: when that is closed its parent is gone, and it ends soon. Models whose command
        lines are equal are prepared by running it once.
        """

    def memory_bytes(self, spec: ModelSpec) -> int:
        """Return the memory that the command takes: the manager books it while it runs."""
        return 0

    def next_form(self, spec: ModelSpec) -> str:
        """Return the `TTSAdapter.form` that a load of the model would bring into memory now.

        May look at the disk: called off the event loop.
        """
        return ""

    def prune(self, *, everything: bool) -> int:
        """Remove prepared forms that are of no use any more, or all; return the bytes freed.

        Of the whole engine, as the models that they were made for may be gone. Raises `OSError`
        where they cannot be removed.
        """
        return 0

    def switched_off(self) -> str:
        """Return why nothing that is prepared would be used now, with the fix; else nothing."""
        return ""


class TTSAdapter(ABC):
    """One model of one engine. Synchronous: the manager calls it in threads of its own.

    The manager calls `load` once, `synthesize` any number of times, `unload` once, and never
    `unload` while a thread is inside `synthesize`. A constructor must be cheap and open nothing.
    """

    concurrency: ClassVar[int | None] = 1
    """How many sentences may be spoken at once; `None` when any number may.

    A sentence is spoken from the first step of `synthesize` to its end.
    """

    libraries: ClassVar[tuple[str, ...]] = ()
    """Modules of the engine that its processes share: imported once, before the first starts."""

    offline: ClassVar[bool] = False
    """Whether it needs no other machine; then its process may open no connection to any."""

    listed: ClassVar[bool] = True
    """Whether its models are found without being named in the configuration."""

    reads_phonemes: ClassVar[bool] = False
    """Whether it says what stands between `[[` and `]]` as phonemes, as Piper does."""

    preparation: ClassVar[Preparation | None] = None
    """How models are prepared to load faster; `None` for an engine whose models have one form."""

    sample_rate: int
    """Hz of the chunks; an attribute or a property, right once `load` has returned."""

    @property
    def looks_ahead(self) -> bool:
        """Whether a sentence may begin, now, while the one before it is spoken.

        For engines that leave cores idle, and that any number of threads may be inside.
        """
        return False

    @property
    def has_word_times(self) -> bool:
        """Whether it knows when each word is heard, now that it is loaded.

        Then `synthesize` is asked for that by the option `word_times`, and its chunks have `words`.
        """
        return False

    @property
    def form(self) -> str:
        """Which form of the model is in memory, for an engine that has several; else nothing.

        Forms may differ in what they take, so footprints are remembered for each. Right once
        `load` has returned.
        """
        return ""

    _host: Host | None = None

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    @abstractmethod
    def load(self) -> None:
        """Bring the model into memory. Raise anything when that fails."""

    @abstractmethod
    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        """Yield the audio of `text` (one sentence) in order, at `sample_rate`.

        `options` are the model's own, overridden by the caller's. Yield early and often: stopping
        takes effect between two chunks.
        """

    def warm_up(self, text: str) -> Iterator[AudioChunk]:
        """Yield the audio of the first words after a load, before anyone may use the model."""
        return self.synthesize(text, dict(self.spec.options))

    def upgrade(self) -> bool:
        """Move to a better form of the model that is there now; return whether it did.

        Called when the model has been prepared, at a moment when it does not speak if there is one
        soon; any thread may be inside `synthesize` meanwhile, and all speech must sound alike. What
        the model takes is asked for anew.
        """
        return False

    @abstractmethod
    def unload(self) -> None:
        """Give the memory back. Also called after a `load` that raised."""

    @classmethod
    def discover(cls, directories: Sequence[Path]) -> Iterable[ModelSpec | LeftOut]:
        """Return what this engine could load from `directories`. Opens no model.

        What is there and cannot be served may be among it, as a `LeftOut`: it is named to users.
        """
        return ()

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise `InvalidInputError` for an option that `synthesize` would not understand.

        Called on the event loop, for each request that gives options: compare values, and return.
        """

    @classmethod
    def check_spec(cls, spec: ModelSpec) -> None:
        """Raise `ConfigError` for a model that `load` would refuse, without loading it."""

    @classmethod
    def speakers(cls, spec: ModelSpec) -> Sequence[str]:
        """Return who speaks in a model of several, as its option `speaker` has them, in order.

        Empty for a model of one. Looks at files at most: called for models that are not in memory.
        """
        return ()

    def footprint_bytes(self) -> int | None:
        """Return the memory this loaded model takes, or `None` to have the manager measure it.

        Without mapped files and `shared_memory`: what only unloading it gives back.
        """
        return None

    def mapped_bytes(self) -> int | None:
        """Return the bytes of mapped files it takes, or `None` to have the manager measure it."""
        return None

    def shared_memory(self) -> tuple[str, int] | None:
        """Return the name and the bytes of what it has in common with other models of its engine.

        Such as a graph that several voices run through: it is there once, from the first of them
        to the last, and is booked once. `footprint_bytes` does not count it. `None` is nothing.
        """
        return None

    def synthesize_stream(
        self,
        text: str | AsyncIterable[str],
        *,
        sample_rate: int = OUTPUT_RATE,
        word_times: bool = False,
        **options: Any,
    ) -> SpeechStream:
        """Speak `text`, or pieces of text as they come, as frames of 20 ms at `sample_rate` Hz.

        With `word_times`, each frame has the `words` that begin in it; they stay `None` where the
        engine does not know them, as `has_word_times` says beforehand.

        Raises before anything is started: `InvalidInputError` for a text, rate or option that
        cannot be spoken, `ModelNotResidentError` when the model has been unloaded.
        """
        rate, checked = check_rate(sample_rate), CheckedText(text)
        self.check_options(options)
        return open_stream(self, checked, options, rate, word_times=word_times)


def open_stream(
    adapter: TTSAdapter,
    text: CheckedText,
    options: Mapping[str, Any],
    sample_rate: SampleRate,
    *,
    begin_limit: float | None = None,
    word_times: bool = False,
) -> SpeechStream:
    """Speak a request that was checked, as frames of 20 ms; `synthesize_stream` checks first.

    `options` are those that the adapter's `check_options` let pass. Where the machine cannot keep
    up one more stream it waits, at most `begin_limit` seconds (`None`: `synthesis_timeout_ms`), and
    then the first frame raises `OverloadedError`. Raises `ModelNotResidentError` when the model has
    been unloaded.
    """
    host = adapter._host or UnmanagedHost()
    merged = {**_spec_options(adapter), **options}
    return SpeechStream(
        adapter,
        host,
        text,
        merged,
        output_rate=sample_rate,
        begin_limit=begin_limit,
        word_times=word_times,
    )


def _spec_options(adapter: TTSAdapter) -> Mapping[str, Any]:
    spec: ModelSpec | None = getattr(adapter, "spec", None)
    return spec.options if spec is not None else {}
