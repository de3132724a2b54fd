"""In which process a model lives: one for each engine and device, one for each model, or none."""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from greenroom.adapter import Isolation, ModelSpec, TTSAdapter
from greenroom.catalog import registry
from greenroom.errors import ModelLoadError
from greenroom.hosts.engine_process import EngineProcess
from greenroom.hosts.hosted_adapter import HostedAdapter, check_importable
from greenroom.hosts.idle_processes import IdleProcesses
from greenroom.hosts.launcher import BrokenOffError, Launcher, LaunchError, is_supported
from greenroom.memory.usage import MIB
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)


_GRACE_S = 0.5
"""The manager's own limits come first: its error says which setting to raise."""

_MOST_KEPT = 64 * MIB
"""A process that keeps more than this of models that have left does not linger: only its end gives
that back."""


class EngineProcesses:
    """The engines' processes of one manager. `close` and what adapters call block."""

    def __init__(
        self,
        isolation: Isolation = "none",
        of_adapters: Mapping[str, Isolation] | None = None,
        *,
        load_limit: float = 60.0,
        speech_limit: float = 60.0,
        unload_limit: float = 10.0,
        linger: float = 0.0,
    ) -> None:
        """A model's own `isolation` comes first, then its adapter's in `of_adapters`.

        Limits are in seconds. `linger` is for how many of them a process waits for its next model
        when the last has left.
        """
        self.crashed: Callable[[EngineProcess], None] = _nothing
        """Called in a thread when a process with models has ended."""
        self.spare_bytes: Callable[[], int] = _boundless
        """How much of the machine's memory nobody needs; may be called from any thread."""
        self._isolation = isolation
        self._of_adapters = dict(of_adapters or {})
        self._adapters: set[type[TTSAdapter] | str] = set()
        self._launcher: Launcher | None = None
        self._limits = load_limit + _GRACE_S, speech_limit + _GRACE_S, unload_limit + _GRACE_S
        self._numbers = itertools.count(1)
        # Two: a process takes its time to start, and `all` is asked on the event loop.
        self._starting = threading.Lock()
        self._lock = threading.Lock()
        self._by_key: dict[Hashable, EngineProcess] = {}
        self._running: set[EngineProcess] = set()
        self._idle = IdleProcesses(linger)
        self.crashes: Counter[tuple[str, str]] = Counter()
        """Processes that ended with models in them, by adapter and by one of `ENDINGS`."""
        self._restarts: Counter[str] = Counter()
        """The same by the process's name."""
        self._closed = False
        # For a manager that is dropped without a shutdown, as at the end of `asyncio.run`.
        self._launchers: list[Launcher] = []
        left = (self._running, self._launchers, self._idle)
        self._dropped = weakref.finalize(self, _end_left, *left)
        self._dropped.atexit = False  # then they end with this process

    def isolation_of(self, spec: ModelSpec) -> Isolation:
        """Return where a model is to live."""
        wanted = spec.isolation or self._of_adapters.get(_adapter_name(spec), self._isolation)
        if wanted != "none" and not is_supported():
            _say_unsupported()
            return "none"
        return wanted

    def expect(self, specs: Iterable[ModelSpec]) -> None:
        """Look at all models that there are; raises `ConfigError` for one that cannot be isolated.

        That is one whose adapter no other process can import.
        """
        isolated = {spec.adapter for spec in specs if self.isolation_of(spec) != "none"}
        for adapter in isolated:
            check_importable(adapter)
        self._adapters = isolated

    @property
    def are_expected(self) -> bool:
        """Whether any model is to live in a process."""
        return bool(self._adapters)

    def start(self) -> None:
        """Have the engines of these models imported, before any process starts.

        Raises `LaunchError`, and `ConfigError` for an adapter that cannot be found.
        """
        classes = [registry.resolve(each) for each in self._adapters]
        self._prepared_launcher(modules_of(classes)).start()

    def _prepared_launcher(self, modules: Sequence[str] = ()) -> Launcher:
        with self._lock:
            if self._closed:
                raise LaunchError("the manager is closed")
            if self._launcher is None:
                self._launcher = Launcher(modules)
                self._launchers.append(self._launcher)
            return self._launcher

    def adapter_for(self, spec: ModelSpec, adapter_class: type[TTSAdapter]) -> Any:
        """Construct the adapter of a model, or one that finds it in a process.

        Processes that linger make room first, where there is none to spare. Raises what the adapter
        raises, which may also return anything at all.
        """
        if self._is_short():  # the model's own room is booked by now
            self._idle.end_all()
        isolation = self.isolation_of(spec)
        if isolation == "none":
            return adapter_class(spec)
        load_limit, speech_limit, unload_limit = self._limits
        return HostedAdapter(
            spec,
            adapter_class,
            next(self._numbers),
            functools.partial(self._take, isolation),
            self._release,
            load_limit=load_limit,
            speech_limit=speech_limit,
            unload_limit=unload_limit,
        )

    @property
    def all(self) -> tuple[EngineProcess, ...]:
        """Those that run."""
        return tuple(self._running)

    def growth_bytes(self) -> int:
        """Return the anonymous memory that they take beyond what each began with."""
        return sum(process.growth_bytes() for process in self.all)

    def give_way(self) -> None:
        """Have processes that linger end, where their memory is needed; does not wait for that."""
        if self._is_short():
            self._idle.hurry()

    def _is_short(self) -> bool:
        idle = self._idle.all
        return bool(idle) and sum(process.growth for process in idle) > self.spare_bytes()

    def _take(self, isolation: Isolation, spec: ModelSpec, number: int) -> EngineProcess:
        name, key = _place_of(spec, isolation)
        with self._starting:
            process = self._joined(key, number)
            if process is None:
                process = self._start(spec, name)
                with self._lock:
                    self._by_key[key] = process
                    process.models.add(number)
        return process

    def _joined(self, key: Hashable, number: int) -> EngineProcess | None:
        # In one step: the last of its models may be leaving, and the process with it.
        with self._lock:
            process = self._by_key.get(key)
            if process is None or not process.is_running:
                return None
            if process.models:
                return process.join(number)
            if not self._idle.take(process):  # it is being ended
                return None
        # Before it has a model, so that nothing is lost with it. Nobody else takes it meanwhile:
        # whoever wants one waits for `_starting`.
        if not process.answers():
            process.end()
            return None
        with self._lock:
            return process.join(number)

    def _start(self, spec: ModelSpec, name: str) -> EngineProcess:
        try:
            try:
                process = self._started(spec, name)
            except BrokenOffError:
                process = self._started(spec, name)
        except LaunchError as error:
            raise ModelLoadError(
                spec.model_id, f"its process cannot be started: {error}."
            ) from None
        with self._lock:
            if not process.ending:
                self._running.add(process)
            closed = self._closed
        if closed:
            process.end()
            raise ModelLoadError(spec.model_id, "the manager is closed.")
        return process

    def _started(self, spec: ModelSpec, name: str) -> EngineProcess:
        return EngineProcess(
            self._prepared_launcher(),
            name,
            adapter=_adapter_name(spec),
            restarts=self._restarts[name],
            offline=registry.resolve(spec.adapter).offline,
            when_ended=_weakly(self._has_ended),
        )

    def _release(self, process: EngineProcess, number: int, *, may_linger: bool = False) -> None:
        kept = process.growth_bytes() if may_linger else 0
        may_linger = may_linger and kept <= min(_MOST_KEPT, self.spare_bytes())
        with self._lock:
            process.models.discard(number)
            ends = not (process.models or (may_linger and self._begins_to_linger(process)))
            if ends:
                self._forget(process)
        if ends:
            process.end()

    def _begins_to_linger(self, process: EngineProcess) -> bool:
        is_wanted = process.is_running and process in self._by_key.values()
        return is_wanted and self._idle.begin(process)

    def _has_ended(self, process: EngineProcess) -> None:
        self._idle.take(process)
        with self._lock:
            self._running.discard(process)
            self._forget(process)
            has_crashed = bool(process.models)
            if has_crashed:
                self.crashes[process.adapter, process.ending_kind] += 1
                self._restarts[process.name] += 1
        if has_crashed:
            self.crashed(process)

    def retire(self, process: EngineProcess) -> None:
        """Let no further model live in this process."""
        with self._lock:
            self._forget(process)

    def _forget(self, process: EngineProcess) -> None:
        for key in [key for key, each in self._by_key.items() if each is process]:
            del self._by_key[key]

    def close(self) -> None:
        """End every process."""
        with self._lock:
            self._closed = True
            self._dropped.detach()
            left = list(self._running)
            launcher = self._launcher
        self._idle.close()
        for process in left:
            process.end()
        if launcher is not None:
            launcher.close()


def _weakly(method: Callable[[EngineProcess], None]) -> Callable[[EngineProcess], None]:
    """Return a function that calls a method as long as its object is there, and keeps it not."""
    found = weakref.WeakMethod(method)

    def call(process: EngineProcess) -> None:
        there = found()
        if there is not None:
            there(process)

    return call


def _end_left(running: set[EngineProcess], launchers: list[Launcher], idle: IdleProcesses) -> None:
    """End what nobody ends any more, in a thread: this is called amid anything."""

    def end() -> None:
        idle.close()
        for process in tuple(running):
            process.end()
        for launcher in launchers:
            launcher.close()

    with contextlib.suppress(RuntimeError):  # no thread is to be had: they end with this process
        threading.Thread(target=end, name="greenroom-end", daemon=True).start()


def modules_of(adapters: Iterable[type[TTSAdapter]]) -> list[str]:
    """Return the modules that processes of these adapters share, each once."""
    found: dict[str, None] = {}
    for adapter in adapters:
        found |= dict.fromkeys((*adapter.libraries, adapter.__module__))
    return list(found)


def _nothing(_: EngineProcess) -> None:
    pass


def _boundless() -> int:
    return sys.maxsize


@functools.cache
def _say_unsupported() -> None:
    logger.warning("engines run in the manager's own process: this system cannot isolate them")


def _place_of(spec: ModelSpec, isolation: Isolation) -> tuple[str, Hashable]:
    """Return the name of the process that a model goes to, and what is equal for all in it."""
    if isolation == "model":
        return spec.model_id, (spec.adapter, spec.device, spec.model_id)
    return _adapter_name(spec), (spec.adapter, spec.device)


def _adapter_name(spec: ModelSpec) -> str:
    return spec.adapter if isinstance(spec.adapter, str) else spec.adapter.__name__
