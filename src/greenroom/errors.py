"""Every error that Greenroom raises, one tree.

::

    ModelManagerError
    ├── ConfigError                a configuration that cannot work (.problems)
    ├── ModelNotFoundError         not in the catalog (.near)
    ├── ModelNotResidentError      in the catalog, not in memory
    ├── ModelInUseError            callers hold it, or it is speaking (.owners, .streams)
    ├── ModelLoadError             it could not be loaded (.retry_after)
    │   ├── WarmupError            it loaded, but could not speak
    │   └── LoadTimeoutError       loading took longer than load_timeout_ms
    ├── UnloadError                unloading raised, or took longer than its limit
    ├── CapacityError              no room (.retry_after)
    ├── LeaseReleasedError         the lease or reference was released before
    ├── ManagerClosedError         the manager is not initialized, or shut down
    ├── SynthesisError             the model could not speak this text
    │   └── InvalidInputError      the text or an option cannot be spoken
    │       ├── InputTooLargeError a request is larger than the worker reads
    │       └── TraceError         a trace of requests cannot be read, or made
    ├── SessionNotFoundError       a worker's session that was never started, or has ended
    ├── SessionMismatchError       the session has another model, other options or another rate
    ├── UnauthenticatedError       the caller sent no key, or one that the worker does not know
    ├── ForbiddenError             the caller's key does not allow this
    ├── EngineCrashedError         the process of the model's engine ended (.model_id)
    ├── OverloadedError            one more stream could not be kept up (.retry_after)
    ├── WorkerBusyError            too many sessions, streams or requests (.retry_after)
    ├── StalledError               the caller neither sent text nor took audio for too long
    ├── StreamEndedError           an administrator of the worker ended the stream
    ├── VoiceNotFoundError         the index of voices has none of that name (.near)
    ├── PullError                  a voice could not be brought here (.voice, .resumable)
    └── WorkerError                an error that a worker returned to its client (.code)

Each message is one plain sentence with the fix; the data is in the exception's attributes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


class ModelManagerError(Exception):
    """Base class of every error that Greenroom raises on purpose; each can be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default an error is made again from its message alone, as if that were the arguments.
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(
    kind: type[ModelManagerError], arguments: tuple[Any, ...], data: Mapping[str, Any]
) -> ModelManagerError:
    """Return an unpickled error: the class's own `__init__` wants the data, not the message."""
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(data)
    return error


class ConfigError(ModelManagerError):
    """A configuration that cannot work, refused before anything is started.

    `problems` are all that is wrong with it, a sentence each; the message is the first of them.
    """

    def __init__(self, message: str, *, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems) or (message,)
        super().__init__(message)


class ModelNotFoundError(ModelManagerError):
    """The id is not in the catalog; `near` are similar ids that are."""

    def __init__(self, model_id: str, near: Sequence[str] = ()) -> None:
        self.model_id = model_id
        self.near = tuple(near)
        shown = model_id if len(model_id) <= 80 else model_id[:77] + "..."
        fix = f"did you mean {', '.join(self.near)}?" if near else "`greenroom ls` shows what is."
        super().__init__(f"model {shown!r} is not in the catalog; {fix}")


class ModelNotResidentError(ModelManagerError):
    """The model is not in memory, so there is nothing to release or unload."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        super().__init__(f"model {model_id!r} is not in memory; load it first.")


class ModelInUseError(ModelManagerError):
    """The model cannot be unloaded now: `owners` hold it, or `streams` of it are running."""

    def __init__(self, model_id: str, owners: Sequence[str] = (), streams: int = 0) -> None:
        self.model_id = model_id
        self.owners = tuple(owners)
        self.streams = streams
        held = f"held by {first_few(owners)}" if owners else f"speaking ({streams} streams)"
        super().__init__(f"model {model_id!r} is {held}; unload with drain=True to wait for them.")


class ModelLoadError(ModelManagerError):
    """The model could not be loaded; a request after `retry_after` seconds tries it again."""

    def __init__(self, model_id: str, problem: str, retry_after: float | None = None) -> None:
        self.model_id = model_id
        self.problem = problem
        self.retry_after = retry_after
        again = "" if retry_after is None else f" (next try in {duration(retry_after)})"
        super().__init__(f"model {model_id!r} cannot be loaded: {problem}{again}")


class WarmupError(ModelLoadError):
    """The model loaded, but its first utterance failed, was silent, or had the wrong rate."""


class LoadTimeoutError(ModelLoadError):
    """Loading or warming up took longer than `load_timeout_ms`."""


class UnloadError(ModelManagerError):
    """Unloading raised, or took longer than its limit; its capacity stays booked until it ends."""

    def __init__(self, model_id: str, problem: str) -> None:
        self.model_id = model_id
        self.problem = problem
        super().__init__(f"model {model_id!r} did not unload cleanly: {problem}")


class CapacityError(ModelManagerError):
    """There is no capacity for the model before `retry_after` seconds from now; `None` is never."""

    def __init__(self, model_id: str, problem: str, retry_after: float | None = None) -> None:
        self.model_id = model_id
        self.problem = problem
        self.retry_after = retry_after
        fix = (
            "unpin or unload a model, or raise resident_cap or memory_budget_mb."
            if retry_after is None
            else f"try again in {duration(retry_after)}."
        )
        super().__init__(f"no room for model {model_id!r}: {problem}; {fix}")


class LeaseReleasedError(ModelManagerError):
    """The lease or reference was released already, or never belonged to this owner."""


class ManagerClosedError(ModelManagerError):
    """The manager was not initialized yet, is shutting down, or has shut down."""


class SynthesisError(ModelManagerError):
    """The model could not speak this text."""


class InvalidInputError(SynthesisError):
    """The text, an option or another argument cannot be used; nothing was started."""


class InputTooLargeError(InvalidInputError):
    """A request is larger than the worker reads."""


class TraceError(InvalidInputError):
    """A trace cannot be read, or made; the message says where it is wrong, and the fix."""


class SessionNotFoundError(ModelManagerError):
    """The worker has no such session: it was never started, has ended, or was idle for too long."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        shown = session_id if len(session_id) <= 80 else session_id[:77] + "..."
        super().__init__(f"session {shown!r} is not open; start it (again) with StartSession.")


class SessionMismatchError(ModelManagerError):
    """The session is open with another model, other options or another rate."""


class UnauthenticatedError(ModelManagerError):
    """The worker requires a key; the caller sent none, or one that it does not know."""


class ForbiddenError(ModelManagerError):
    """The worker knows the caller's key, whose role does not allow this."""


class EngineCrashedError(ModelManagerError):
    """The process in which the model's engine ran has ended; the next request starts another."""

    def __init__(self, model_id: str, problem: str, *, fix: str = "Try again.") -> None:
        self.model_id = model_id
        self.problem = problem
        super().__init__(f"model {model_id!r} broke off: {problem} {fix}")


class OverloadedError(ModelManagerError):
    """One more stream would have others fall silent; `retry_after` is in seconds from now."""

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(
            "this machine cannot keep up one more stream beside those that speak; "
            f"try again in {duration(retry_after)}."
        )


class WorkerBusyError(ModelManagerError):
    """The worker is at one of its limits; try again in `retry_after` seconds, if that is known."""

    def __init__(self, problem: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        again = "later" if retry_after is None else f"in {duration(retry_after)}"
        super().__init__(f"{problem}; try again {again}.")


class StalledError(ModelManagerError):
    """The caller sent no text, took no audio, and did not resume, for longer than the limit."""


class StreamEndedError(ModelManagerError):
    """An administrator of the worker ended the stream before it was over."""


class VoiceNotFoundError(ModelManagerError):
    """The index of voices that can be pulled has none of that name; `near` are similar ones."""

    def __init__(self, name: str, near: Sequence[str] = ()) -> None:
        self.name = name
        self.near = tuple(near)
        shown = name if len(name) <= 80 else name[:77] + "..."
        fix = (
            f"did you mean {', '.join(self.near)}?"
            if near
            else "`greenroom search` shows what there is."
        )
        super().__init__(f"the index has no voice {shown!r}; {fix}")


class PullError(ModelManagerError):
    """A voice, or the index of voices, could not be brought here.

    `voice` is its name, empty for the index. When `resumable`, what came is kept and the next pull
    goes on from there; else nothing of it is left behind.
    """

    def __init__(self, voice: str, problem: str, *, resumable: bool = False) -> None:
        self.voice = voice
        self.problem = problem
        self.resumable = resumable
        about = f"voice {voice!r} cannot be pulled: " if voice else ""
        super().__init__(f"{about}{problem}.")


class WorkerError(ModelManagerError):
    """An error that a worker returned to its client; `code` is the name of the gRPC status."""

    def __init__(self, problem: str, code: str, retry_after: float | None = None) -> None:
        self.code = code
        self.retry_after = retry_after
        super().__init__(problem)


_FEW = 5
"""Names given in one sentence: a model may have hundreds of owners."""


def first_few(names: Sequence[str]) -> str:
    """Return names for a sentence: all of them if few, else the first ones and how many more.

    Statistics and `explain` have them all.
    """
    more = len(names) - _FEW
    few = ", ".join(names[:_FEW])
    return few if more <= 0 else f"{few} and {more} more"


def duration(seconds: float) -> str:
    """Return a time or an age as people read it: `0.04 s`, `3.2 s`, `42 s`, `5m 07s`, `2h 05m`.

    The one form for all that is shown in words or in a table; `-` for what is no number.
    """
    if not math.isfinite(seconds):
        return "-"
    if seconds < 0.005:
        return "0 s"
    for digits, below in ((2, 1), (1, 10)):
        if round(seconds, digits) < below:
            return f"{seconds:.{digits}f} s"
    minutes, whole = divmod(round(seconds), 60)
    if not minutes:
        return f"{whole} s"
    if minutes < 60:
        return f"{minutes}m {whole:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours:02d}h"
