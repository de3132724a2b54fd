"""What runs in an engine's process: its models, called over connections.

Each connection has a thread of its own, in which everything runs that is asked for over it: loads,
and a sentence from its first chunk to its last.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import pickle
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from greenroom import errors
from greenroom.adapter import ModelSpec, TTSAdapter
from greenroom.adapters.stated import memory_of, voice_of
from greenroom.audio.chunks import samples_of, words_of
from greenroom.audio.frames import AudioChunk
from greenroom.catalog import registry
from greenroom.concurrency.cores import CORES
from greenroom.errors import ModelLoadError
from greenroom.hosts import confinement
from greenroom.hosts.wire import CALL_BYTES, MOST_BYTES, Connection, word_fields
from greenroom.memory import heap
from greenroom.speech.pace import Pace, paced
from greenroom.untrusted.exceptions import describe_error
from greenroom.untrusted.printable import one_line, type_name

_END: Any = object()

_CALL_LIMIT_S = 1.0
"""The manager calls as soon as it has connected."""

Answer = tuple[dict[str, Any], bytes | memoryview]

BORROW = b"b"
"""Asks the manager for a core, and is answered with one byte, 1 or 0."""
GIVEN_BACK = struct.Struct("<Q")
"""Says how many cores the process has given back in its life; not answered."""


def serve(
    lifeline: int, control: int, cores: int, standard_error: int, *, name: str, offline: bool
) -> None:
    """Serve the manager until it closes `control`; does not return.

    `lifeline` is a pipe that the manager holds the other end of as long as it lives. Over `control`
    come new connections. Whatever the engine prints goes to `standard_error`. `offline` engines get
    no connections to other machines.
    """
    os.setsid()
    confinement.die_with(lifeline, os.getpid())
    confinement.leave_signals_to_the_manager()
    confinement.take_second_place()
    confinement.set_name(f"greenroom-{name}")
    _redirect(standard_error)
    if offline:
        confinement.refuse_network()
    faulthandler.enable()
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    heap.set_trim_threshold()
    lent = LentCores(socket.socket(fileno=cores))
    CORES.defer_to(lent)
    models = Models()
    with socket.socket(fileno=control) as connections:
        while True:
            message, descriptors, _, _ = socket.recv_fds(connections, 1, 1)
            if not message:
                os._exit(0)
            for descriptor in descriptors:
                end = socket.socket(fileno=descriptor)
                _converse(Connection(end, read_bytes=CALL_BYTES), models, lent)


def _converse(connection: Connection, models: Models, lent: LentCores) -> None:
    conversation = Conversation(connection, models, lent)
    try:
        threading.Thread(target=conversation.hold, daemon=True).start()
    except RuntimeError as error:  # the system gives no thread: this call alone fails
        with contextlib.suppress(OSError):
            if connection.next_call(_CALL_LIMIT_S) is not None:
                connection.reply({"error": _told(error)})
        connection.close()


def _redirect(standard_error: int) -> None:
    """Have standard input give nothing, and all that is printed go to one pipe."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(standard_error, 1)
    os.dup2(standard_error, 2)
    os.close(nothing)
    os.close(standard_error)


class LentCores:
    """The manager's cores, as an engine's process sees them.

    One may come with a call, for the thread that answers it. That uses it any number of times
    without asking, and what it still has in hand goes back with the reply.
    """

    def __init__(self, manager: socket.socket) -> None:
        self._manager = manager
        self._told_idle = 0
        """How many could be borrowed when the manager last said so, which it does with each call.

        Where there is none it is not asked: the answer would come only when a thread of the
        manager's gets the interpreter there, and a core would idle meanwhile.
        """
        self._asking = threading.Lock()
        self._counting = threading.Lock()
        self._given_back = 0
        self._call = _Call()

    @property
    def idle(self) -> int:
        """How many this thread could have, as far as it knows."""
        return self._call.in_hand + self._told_idle

    def begin_call(self, idle: int, lent: int) -> None:
        """Answer a call in this thread: `idle` cores could be borrowed, and `lent` come along."""
        self._told_idle = idle
        self._call.in_hand, self._call.is_answered = lent, True

    def end_call(self) -> int:
        """Return how many cores were given back in all; the manager is told by the reply."""
        in_hand, self._call.in_hand, self._call.is_answered = self._call.in_hand, 0, False
        return self._count(in_hand)

    def borrow(self) -> bool:
        """Use a core: one in hand, or one that the manager lends when it is asked."""
        if self._call.in_hand:
            self._call.in_hand -= 1
            return True
        if self._told_idle <= 0:
            return False
        with self._asking, contextlib.suppress(OSError):
            self._manager.sendall(BORROW)
            lent = self._manager.recv(1) == b"\1"
            self._told_idle = self._told_idle - 1 if lent else 0
            return lent
        return False

    def give_back(self) -> None:
        """Give it back; the thread that answers a call keeps it in hand until it has answered."""
        if self._call.is_answered:
            self._call.in_hand += 1
        else:
            self._tell(1)

    def give_back_unused(self) -> None:
        """Give back what this thread has in hand; it may be borrowed again in the same call."""
        in_hand, self._call.in_hand = self._call.in_hand, 0
        if in_hand:
            self._tell(in_hand)

    def _tell(self, count: int) -> None:
        self._told_idle += count
        with contextlib.suppress(OSError):
            self._manager.sendall(GIVEN_BACK.pack(self._count(count)))

    def _count(self, count: int) -> int:
        with self._counting:
            self._given_back += count
            return self._given_back


class _Call(threading.local):
    """The call that a thread answers, if it does."""

    in_hand = 0
    """Cores that it was lent and does not use."""
    is_answered = False


@dataclass(slots=True)
class LoadedModel:
    """A model of this process."""

    adapter: TTSAdapter
    sample_rate: int = 0
    """Hz, as stated after the load, and as the manager knows it."""


class Models:
    """The models of this process, by the numbers that the manager gave them."""

    def __init__(self) -> None:
        self._models: dict[int, LoadedModel] = {}

    def greet(self) -> dict[str, Any]:
        """Say that calls are answered."""
        return {}

    def load(self, number: int, pickled: bytes) -> dict[str, Any]:
        """Construct an adapter and load it; return how it speaks."""
        spec: ModelSpec = pickle.loads(pickled)
        made: Any = registry.resolve(spec.adapter)(spec)
        if not isinstance(made, TTSAdapter):
            raise ModelLoadError(
                spec.model_id, f"its adapter made a {type_name(made)}, which is no TTSAdapter."
            )
        # Before the load: what has been loaded by half is unloaded, too.
        model = self._models[number] = LoadedModel(made)
        made.load()
        voice = voice_of(made, spec.model_id)
        model.sample_rate = voice.sample_rate
        return {
            "rate": voice.sample_rate,
            "concurrency": voice.concurrency,
            "looks_ahead": _looks_ahead(made),
            "has_word_times": bool(made.has_word_times),
        }

    def memory(self, number: int) -> dict[str, Any]:
        """Return what a model says it takes, and its form."""
        model = self._models[number].adapter
        stated = memory_of(model, model.spec.model_id)
        shared = stated.shared
        return {
            "anonymous": stated.anonymous,
            "mapped": stated.mapped,
            "form": stated.form,
            "shared": None if shared is None else shared.name,
            "shared_bytes": None if shared is None else shared.size,
        }

    def upgrade(self, number: int) -> dict[str, Any]:
        """Move a model over to a better form; return whether it did."""
        model = self._models[number].adapter
        upgraded = bool(model.upgrade())
        heap.trim()
        return {"upgraded": upgraded, "has_word_times": bool(model.has_word_times)}

    def unload(self, number: int) -> dict[str, Any]:
        """Unload a model; one that is not there is unloaded."""
        model = self._models.pop(number, None)
        try:
            if model is not None:
                model.adapter.unload()
        finally:
            del model
            heap.trim()
        return {}

    def warm_up(self, number: int, text: str) -> Speech:
        """Begin the first words of a model."""
        model = self._models[number]
        return Speech(model, model.adapter.warm_up(text))

    def speak(self, number: int, text: str, options: Mapping[str, Any]) -> Speech:
        """Begin a sentence."""
        model = self._models[number]
        return Speech(model, model.adapter.synthesize(text, options))


class Speech:
    """A sentence that is being spoken."""

    def __init__(self, model: LoadedModel, chunks: Iterator[AudioChunk]) -> None:
        self._model = model
        self._chunks = iter(chunks)

    def next(self) -> tuple[dict[str, Any], memoryview | None]:
        """Return the next chunk, `None` after the last."""
        chunk = next(self._chunks, _END)
        if chunk is _END:
            return {"end": True, "looks_ahead": _looks_ahead(self._model.adapter)}, None
        samples = samples_of(chunk, self._model.sample_rate)
        if samples.nbytes > MOST_BYTES:
            raise errors.SynthesisError("the engine does not come to the end of a sentence.")
        told: dict[str, Any] = {"looks_ahead": _looks_ahead(self._model.adapter)}
        words = word_fields(words_of(chunk))
        if words is not None:
            told["words"] = words
        return told, samples.view(np.uint8).data

    def close(self) -> None:
        """Let the engine's generator run its `finally`."""
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()


class Conversation:
    """The calls of one connection; at most one sentence is spoken over it at a time."""

    def __init__(self, connection: Connection, models: Models, lent: LentCores) -> None:
        self._connection = connection
        self._models = models
        self._lent = lent
        self._speech: Speech | None = None
        self._helped: deque[float] = deque()
        """Seconds that other threads computed for the sentence, and that are not told yet."""
        self._pid = os.getpid()

    def hold(self) -> None:
        """Answer calls until the connection is closed."""
        try:
            with contextlib.suppress(OSError):
                while (call := self._connection.next_call()) is not None:
                    self._reply(*call)
                    del call
            with contextlib.suppress(BaseException):
                self._close()
        finally:
            # Whatever happens, so that the manager does not wait for a reply.
            self._connection.close()

    def _reply(self, name: str, *arguments: Any) -> None:
        fields: dict[str, Any] = {}
        body: bytes | memoryview = b""
        try:
            told, body = self._answer(name, *arguments)
            fields |= told
        except BaseException as error:  # noqa: BLE001 - an engine may raise anything; the caller gets it
            self._speech = None
            fields = {"error": _told(error)}
        if os.getpid() != self._pid:  # a copy of the process that the engine has forked
            os._exit(0)
        fields["given_back"] = self._lent.end_call()
        self._connection.reply(fields, body)

    def _answer(self, name: str, *arguments: Any) -> Answer:
        match name:
            case "speak" | "warm_up":
                *begin, pace = arguments
                return self._next(pace, lambda: getattr(self._models, name)(*begin))
            case "next":
                return self._next(*arguments)
            case "close":
                self._close()
                return {}, b""
        told: dict[str, Any] = getattr(self._models, name)(*arguments)
        return told, b""

    def _next(
        self,
        numbers: tuple[float | None, float, float, int, int],
        begin: Callable[[], Speech] | None = None,
    ) -> Answer:
        """Return the next chunk, and what it took of the processors."""
        ahead_s, sharers, spare_s, idle, lent = numbers
        began = time.thread_time()
        self._lent.begin_call(idle, lent)
        with paced(Pace(ahead_s, sharers, spare_s, self._helped.append)) as asking:
            if begin is not None:
                self._speech = begin()
            assert self._speech is not None
            told, body = self._speech.next()
        if body is None:
            self._speech = None
        processor_s = time.thread_time() - began
        while self._helped:
            told["helped_s"] = told.get("helped_s", 0.0) + self._helped.popleft()
        told |= {
            "asked": asking.has_asked,
            "last": asking.is_last,
            "helpable": asking.is_helpable,
            "processor_s": processor_s,
        }
        return told, b"" if body is None else body

    def _close(self) -> None:
        speech, self._speech = self._speech, None
        if speech is not None:
            speech.close()


def _looks_ahead(model: TTSAdapter) -> bool:
    """Whether a sentence may begin while another is spoken, as long as cores are idle."""
    return bool(model.looks_ahead)


def _told(error: BaseException) -> dict[str, Any]:
    """Return what the manager needs to raise the error on its side.

    The class by name only if it is one of ours: others mean nothing there.
    """
    kind = type(error)
    ours = kind.__module__ == errors.__name__
    try:
        problem = getattr(error, "problem", None)
        text = one_line(str(error), 2_000)
    except BaseException:  # noqa: BLE001 - `str()` of an engine's error may raise anything
        ours, problem, text = False, None, ""
    return {
        "kind": kind.__name__ if ours else "",
        "text": text,
        "problem": one_line(problem, 2_000) if isinstance(problem, str) else "",
        "described": describe_error(error),
    }
