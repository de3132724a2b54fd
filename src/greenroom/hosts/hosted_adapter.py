"""An adapter whose model lives in a process of its own: all that it is asked, it asks there."""

from __future__ import annotations

import contextlib
import pickle
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from greenroom import errors
from greenroom.adapter import ModelSpec, Preparation, TTSAdapter
from greenroom.adapters.stated import LONGEST_NAME, MOST_BYTES, StatedMemory
from greenroom.audio.frames import AudioChunk
from greenroom.catalog.devices import gpu_of
from greenroom.catalog.registry import check_libraries
from greenroom.concurrency.cores import CORES
from greenroom.errors import (
    ConfigError,
    EngineCrashedError,
    ModelLoadError,
    ModelManagerError,
    SynthesisError,
)
from greenroom.hosts.engine_process import EngineProcess, ProcessEndedError
from greenroom.hosts.wire import Reply, WireError
from greenroom.ledger.state import SharedPart
from greenroom.memory.usage import Usage
from greenroom.speech.pace import count_processor, current_pace, given_pace, mark_last
from greenroom.untrusted.exceptions import describe_error
from greenroom.untrusted.printable import one_line

T = TypeVar("T")

Crash = Callable[[str, str], ModelManagerError]
"""Makes the error for a model's id, and how its process ended."""

_MOST_GIVEN_BACK = 1 << 53
"""Cores, in the life of a process: more than can be given back."""

_OF_TEXT: dict[str, Callable[[str], ModelManagerError]] = {
    kind.__name__: kind
    for kind in (ConfigError, SynthesisError, errors.InvalidInputError, errors.InputTooLargeError)
}
_OF_LOADS: dict[str, type[ModelLoadError]] = {
    kind.__name__: kind for kind in (ModelLoadError, errors.WarmupError, errors.LoadTimeoutError)
}


class ReleaseProcess(Protocol):
    """Gives back a model's place in a process, which ends with its last model, or lingers."""

    def __call__(self, process: EngineProcess, number: int, /, *, may_linger: bool = False) -> None:
        """Give it back."""


class EngineRaisedError(Exception):
    """What an engine raised in its process, by its kind and text there."""


class HostedAdapter(TTSAdapter):
    """A model of another adapter, in a process.

    `load`, `synthesize`, `upgrade` and `unload` take at most their limit of seconds: a process that
    takes longer is killed, and with it everything that runs there.
    """

    def __init__(
        self,
        spec: ModelSpec,
        adapter_class: type[TTSAdapter],
        number: int,
        take_process: Callable[[ModelSpec, int], EngineProcess],
        release_process: ReleaseProcess,
        *,
        load_limit: float,
        speech_limit: float,
        unload_limit: float,
    ) -> None:
        """`take_process` starts or shares a process; `number` is the model's in it."""
        super().__init__(spec)
        self.adapter_class = adapter_class
        self.concurrency = 1  # type: ignore[misc] # until it is loaded
        self.preparation: Preparation | None = adapter_class.preparation  # type: ignore[misc]
        self.sample_rate = 0
        self.process: EngineProcess | None = None
        """Where the model lives, from `start` to `unload`."""
        self._last_process: EngineProcess | None = None
        self._number = number
        self._take_process = take_process
        self._release_process = release_process
        self._load_limit = load_limit
        self._speech_limit = speech_limit
        self._unload_limit = unload_limit
        self._had_it_to_itself = False
        self._is_loaded = False
        self._memory = StatedMemory()
        self._looks_ahead = False
        self._has_word_times = False
        self._first_words: str | None = None
        # Sentences are begun and ended in threads, while another may move the model.
        self._lock = threading.Lock()
        self._sentences: Counter[EngineProcess] = Counter()
        """Those that are spoken now, by where."""

    def check_options(self, options: Mapping[str, Any]) -> None:  # type: ignore[override]
        """Raise `InvalidInputError` for an option that the engine would not understand."""
        self.adapter_class.check_options(options)

    def start(self) -> None:
        """Start the process, or find the one that has models like this; raises `ModelLoadError`.

        Again after `was_taken_along`: then it is another process.
        """
        lost, self.process = self.process, None
        self._is_loaded = False
        if lost is not None:
            self._release_process(lost, self._number)
        process = self._take_process(self.spec, self._number)
        self.process = self._last_process = process
        self._had_it_to_itself = process.models == {self._number}

    @property
    def was_taken_along(self) -> bool:
        """Whether its process has ended, and had other models that may have ended it."""
        process = self.process
        return process is not None and process.is_shared and not process.is_running

    @property
    def has_it_to_itself(self) -> bool:
        """Whether no other model has been in the process since `start`.

        Then all by which the process has grown is this model's, whatever runs beside it.
        """
        return (
            self._had_it_to_itself
            and self.process is not None
            and self.process.models == {self._number}
        )

    def lives_in(self, process: EngineProcess) -> bool:
        """Whether the model is, or was last, in this process."""
        return self._last_process is process

    def usage(self) -> Usage | None:
        """Return what the process takes of the device's memory; `None` where that is unknown.

        Once it has ended, or the model has left it to linger, that is what it took before its first
        model. Likewise before the load in a process that has lingered: what earlier models have
        left there is this one's from now on.
        """
        process = self._last_process
        if process is None:
            return None
        if process.is_shared and self.has_it_to_itself and not self._is_loaded:
            return process.baseline
        return process.usage(self.spec.device)

    def load(self) -> None:
        """Load the model there. Raises what the adapter raises, as far as it is ours."""
        pickled = pickled_spec(self.spec)
        reply = self._called(
            "load", self._number, pickled, limit=self._load_limit, crash=ModelLoadError
        )
        with self._believed(self._running_process(), ModelLoadError):
            self.sample_rate = int(reply.number("rate"))
            stated = reply.fields.get("concurrency")
            self.concurrency = None if stated is None else int(reply.number("concurrency"))  # type: ignore[misc]
            self._looks_ahead = reply.flag("looks_ahead")
            self._has_word_times = reply.flag("has_word_times")
        self._is_loaded = True

    def warm_up(self, text: str) -> Iterator[AudioChunk]:
        """Yield the audio of the first words."""
        self._first_words = text
        call = ("warm_up", self._number, text)
        return self._spoken(*call, limit=self._load_limit, crash=ModelLoadError)

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        """Yield the audio of a sentence; `EngineCrashedError` when the process ends meanwhile."""
        call = ("speak", self._number, text, dict(options))
        return self._spoken(*call, limit=self._speech_limit, crash=EngineCrashedError)

    def _spoken(self, *call: Any, limit: float, crash: Crash) -> Iterator[AudioChunk]:
        with self._lock:
            process = self._running_process()
            self._sentences[process] += 1
        try:
            yield from self._spoken_in(process, *call, limit=limit, crash=crash)
        finally:
            self._end_sentence(process)

    def _end_sentence(self, process: EngineProcess) -> None:
        with self._lock:
            self._sentences[process] -= 1
            is_last = not self._sentences[process]
            if is_last:
                del self._sentences[process]
            has_moved = is_last and self.process is not None and self.process is not process
        if has_moved:
            self._leave(process)

    def _spoken_in(
        self, process: EngineProcess, *call: Any, limit: float, crash: Crash
    ) -> Iterator[AudioChunk]:
        connection = self._outcome(process.connect, crash)
        is_open, is_helpable = True, process.borrows
        leaves_core, has_left_core = False, False

        def asked(*call: Any) -> Reply:
            reply = self._outcome(lambda: process.ask(connection, *call, limit=limit), crash)
            with self._believed(process, crash):
                process.settle_cores(int(reply.number("given_back", highest=_MOST_GIVEN_BACK)))
            return self._checked(reply)

        try:
            while True:
                numbers = _numbers(None if leaves_core else process, lends=is_helpable)
                reply = asked(*call, numbers)
                with self._believed(process, crash):
                    self._learn(reply)
                    is_helpable = reply.flag("helpable")
                    samples, words = reply.samples(), reply.words("words")
                # Once in a sentence the idle core is left to the one after it, which may begin now.
                leaves_core = not has_left_core and reply.flag("looks_ahead") and CORES.idle > 0
                has_left_core = has_left_core or leaves_core
                if reply.flag("end"):
                    is_open = False
                    return
                yield AudioChunk(samples, self.sample_rate, words)
                del reply, samples
                call = ("next",)
        except (ModelManagerError, EngineRaisedError):
            is_open = False  # the sentence has ended there, or the process has
            raise
        finally:
            if is_open:
                # Whoever gives a sentence up need not hear that its process has ended meanwhile.
                with contextlib.suppress(EngineCrashedError):
                    asked("close")
            process.give_back(connection)

    def _learn(self, reply: Reply) -> None:
        """Do on this side what the engine has done there: ask for the pace, mark the last chunk."""
        self._looks_ahead = reply.flag("looks_ahead")
        if reply.flag("asked"):
            current_pace()
        mark_last(reply.flag("last"))
        count_processor(reply.number("processor_s"))
        if "helped_s" in reply.fields:
            given_pace().count_help(reply.number("helped_s"))

    def upgrade(self) -> bool:
        """Have the model move over to a better form there."""
        limit = self._load_limit
        reply = self._called("upgrade", self._number, limit=limit, crash=EngineCrashedError)
        self._has_word_times = reply.flag("has_word_times")
        return reply.flag("upgraded")

    def move(self) -> None:
        """Load the model in another process, and speak there from the next sentence on.

        Raises what `load` and `warm_up` raise; then it stays where it is.
        """
        old, fresh = self._running_process(), self._take_process(self.spec, self._number)
        crash: Crash = ModelLoadError
        call = ("load", self._number, pickled_spec(self.spec))
        try:
            reply = self._checked(
                self._outcome(lambda: fresh.call(*call, limit=self._load_limit), crash)
            )
            if self._first_words is not None:
                words = ("warm_up", self._number, self._first_words)
                for _ in self._spoken_in(fresh, *words, limit=self._load_limit, crash=crash):
                    pass
        except BaseException:
            self._release_process(fresh, self._number)
            raise
        self._has_word_times = reply.flag("has_word_times")
        with self._lock:
            self.process = self._last_process = fresh
            is_idle = not self._sentences[old]
        try:
            self._memory = self._ask_for_memory()  # it may have another form there
        finally:
            if is_idle:
                self._leave(old)

    def unload(self) -> None:
        """Unload the model, or end its process with it."""
        with self._lock:
            process, self.process = self.process, None
        if process is not None:
            self._leave(process)

    def _leave(self, process: EngineProcess) -> None:
        """Give back what the model has in a process.

        That may linger if all went well there, and it has nothing on a GPU, which its end alone
        gives back.
        """
        may_linger = False
        try:
            # Its memory is given back all the same when it crashes now.
            with contextlib.suppress(ProcessEndedError):
                if process.is_running:
                    self._checked(process.call("unload", self._number, limit=self._unload_limit))
                    may_linger = self._is_loaded and gpu_of(self.spec.device) is None
        finally:
            self._release_process(process, self._number, may_linger=may_linger)

    @property
    def form(self) -> str:
        """The form that was stated last."""
        return self._memory.form

    @property
    def looks_ahead(self) -> bool:
        """Whether a sentence may begin while another is spoken; the cores are counted here."""
        return self._looks_ahead and CORES.idle > 0

    @property
    def has_word_times(self) -> bool:
        """Whether it knows when each word is heard, as was stated last."""
        return self._has_word_times

    def footprint_bytes(self) -> int | None:
        """Ask what the adapter states there; return its footprint."""
        self._memory = self._ask_for_memory()
        return self._memory.anonymous

    def mapped_bytes(self) -> int | None:
        """Return what was stated last."""
        return self._memory.mapped

    def shared_memory(self) -> tuple[str, int] | None:
        """Return what was stated last: it is shared with the models of the same process alone."""
        shared = self._memory.shared
        if shared is None or self.process is None:
            return None
        return f"{shared.name} in {self.process.name}", shared.size

    def _ask_for_memory(self) -> StatedMemory:
        reply = self._called("memory", self._number, limit=self._load_limit, crash=ModelLoadError)
        with self._believed(self._running_process(), ModelLoadError):
            anonymous, mapped, size = (
                None
                if reply.fields.get(name) is None
                else int(reply.number(name, highest=MOST_BYTES))
                for name in ("anonymous", "mapped", "shared_bytes")
            )
            form = one_line(reply.text("form"), LONGEST_NAME)
            shared = None if size is None else SharedPart(reply.text("shared"), size)
        return StatedMemory(anonymous, mapped, form, shared)

    @contextlib.contextmanager
    def _believed(self, process: EngineProcess, crash: Crash) -> Iterator[None]:
        """End the process if what it has replied is found to be no reply."""
        try:
            yield
        except WireError as error:
            raise self._crash(crash, process.kill_garbled(error)) from None

    # Calls

    def _running_process(self) -> EngineProcess:
        if self.process is None:
            raise errors.ModelNotResidentError(self.spec.model_id)
        return self.process

    def _called(self, *call: Any, limit: float, crash: Crash) -> Reply:
        process = self._running_process()
        return self._checked(self._outcome(lambda: process.call(*call, limit=limit), crash))

    def _outcome(self, call: Callable[[], T], crash: Crash) -> T:
        try:
            return call()
        except ProcessEndedError as error:
            raise self._crash(crash, error) from None

    def _crash(self, crash: Crash, error: ProcessEndedError) -> ModelManagerError:
        return crash(self.spec.model_id, f"its process ended: {error}.")

    def _checked(self, reply: Reply) -> Reply:
        """Return the reply; raises the error that it tells of, as one of ours."""
        told = reply.fields.get("error")
        if told is None:
            return reply
        if not isinstance(told, dict) or not all(isinstance(told.get(k), str) for k in _TOLD):
            raise EngineRaisedError("an error that it cannot tell")
        kind, text, problem, described = (one_line(told[name], 2_000) for name in _TOLD)
        if kind in _OF_LOADS:
            raise _OF_LOADS[kind](self.spec.model_id, problem or text)
        if kind in _OF_TEXT:
            raise _OF_TEXT[kind](text)
        raise EngineRaisedError(described)


_TOLD = ("kind", "text", "problem", "described")


def _numbers(
    process: EngineProcess | None, *, lends: bool
) -> tuple[float | None, float, float, int, int]:
    """Return what the engine may know of its listener, and the cores that it may use.

    How many it could borrow, and how many come along with the call; none where `process` is `None`.
    """
    pace = given_pace()
    if process is None:
        return pace.ahead_s, pace.sharers, pace.spare_s, 0, 0
    lent = int(lends and process.lend_core())
    return pace.ahead_s, pace.sharers, pace.spare_s, CORES.lendable, lent


def check_importable(adapter: type[TTSAdapter] | str) -> None:
    """Raise `ConfigError` for an adapter that another process cannot import.

    It goes by its name, so its module must be there to import; one that is registered is. What it
    names to be imported with it is checked, too.
    """
    if isinstance(adapter, str):
        return
    check_libraries(adapter)
    found: Any = sys.modules.get(adapter.__module__)
    for name in adapter.__qualname__.split("."):
        found = getattr(found, name, None)
    if adapter.__module__ == "__main__" or found is not adapter:
        raise ConfigError(
            f"adapter {adapter.__qualname__} cannot be imported by another process: move it to the "
            "top level of a module, or set isolation to none."
        )


def pickled_spec(spec: ModelSpec) -> bytes:
    """Return the model's entry as the process gets it; raises `ConfigError` for one that cannot."""
    check_importable(spec.adapter)
    try:
        return pickle.dumps(replace(spec, options=dict(spec.options)))
    except Exception as error:  # noqa: BLE001 - others' objects raise anything when pickled
        raise ConfigError(
            f"model {spec.model_id!r} has options that no other process can be given "
            f"({describe_error(error)}); give plain values, or set isolation to none."
        ) from None
