"""Every error that Greenroom raises, one tree.

::

    ModelManagerError
    ├── ConfigError                a configuration that cannot work
    ├── ModelNotFoundError         not in the catalog
    ├── ModelNotResidentError      in the catalog, not in memory
    ├── ModelInUseError            somebody holds it
    ├── ModelLoadError             it could not be loaded (.retry_after)
    │   ├── WarmupError            it loaded, but could not speak
    │   └── LoadTimeoutError       it took longer than it may
    ├── UnloadError                unloading raised, or took longer than it may
    ├── CapacityError              no room (.retry_after)
    ├── LeaseReleasedError         the lease, or the reference, was given back before
    ├── ManagerClosedError         the manager is not running
    ├── SynthesisError             the model could not speak this text
    │   └── InvalidInputError      the text or an option cannot be spoken
    │       └── InputTooLargeError a request is larger than the worker reads
    ├── SessionNotFoundError       a worker's session that was never started, ended, or reaped
    ├── SessionMismatchError       the session speaks with another model, options or rate
    ├── UnauthenticatedError       the worker does not know the caller's key, or got none
    ├── ForbiddenError             the worker knows the caller, who may not do this
    ├── WorkerBusyError            the worker has too many sessions or streams (.retry_after)
    ├── StalledError               the caller neither sent text nor took audio for too long
    └── WorkerError                what a worker answered, as its client sees it (.code)

The message is one plain sentence with the fix; the data is on the exception.
"""

from __future__ import annotations

from collections.abc import Sequence


class ModelManagerError(Exception):
    """Base of every error that Greenroom raises on purpose."""


class ConfigError(ModelManagerError):
    """A configuration that cannot work, refused before anything is started.

    `problems` are all that is wrong with it, a sentence each; the message is the first of them.
    """

    def __init__(self, message: str, *, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems) or (message,)
        super().__init__(message)


class ModelNotFoundError(ModelManagerError):
    """The id is not in the catalog; `near` names ids that look like it."""

    def __init__(self, model_id: str, near: Sequence[str] = ()) -> None:
        self.model_id = model_id
        self.near = tuple(near)
        shown = model_id if len(model_id) <= 80 else model_id[:77] + "..."
        fix = f"did you mean {', '.join(self.near)}?" if near else "`greenroom ls` shows what is."
        super().__init__(f"model {shown!r} is not in the catalog; {fix}")


class ModelNotResidentError(ModelManagerError):
    """The model is not in memory, so there is nothing to give back or unload."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        super().__init__(f"model {model_id!r} is not in memory; load it first.")


class ModelInUseError(ModelManagerError):
    """Somebody holds the model; `owners` names them, `streams` counts running streams."""

    def __init__(self, model_id: str, owners: Sequence[str] = (), streams: int = 0) -> None:
        self.model_id = model_id
        self.owners = tuple(owners)
        self.streams = streams
        held = f"held by {first_few(owners)}" if owners else f"speaking ({streams} streams)"
        super().__init__(f"model {model_id!r} is {held}; unload with drain=True to wait for them.")


class ModelLoadError(ModelManagerError):
    """The model could not be loaded; `retry_after` seconds from now it will be tried again."""

    def __init__(self, model_id: str, problem: str, retry_after: float | None = None) -> None:
        self.model_id = model_id
        self.problem = problem
        self.retry_after = retry_after
        again = "" if retry_after is None else f" (next try in {retry_after:.1f} s)"
        super().__init__(f"model {model_id!r} cannot be loaded: {problem}{again}")


class WarmupError(ModelLoadError):
    """The model loaded, but its first utterance failed, was silent, or had the wrong rate."""


class LoadTimeoutError(ModelLoadError):
    """Loading or warming up took longer than `load_timeout_ms`."""


class UnloadError(ModelManagerError):
    """Unloading raised, or took longer than it may; its room stays booked until it ends."""

    def __init__(self, model_id: str, problem: str) -> None:
        self.model_id = model_id
        self.problem = problem
        super().__init__(f"model {model_id!r} did not unload cleanly: {problem}")


class CapacityError(ModelManagerError):
    """No room; `retry_after` seconds from now there can first be some, `None` when never."""

    def __init__(self, model_id: str, problem: str, retry_after: float | None = None) -> None:
        self.model_id = model_id
        self.problem = problem
        self.retry_after = retry_after
        fix = (
            "unpin or unload a model, or raise resident_cap or memory_budget_mb."
            if retry_after is None
            else f"try again in {retry_after:.1f} s."
        )
        super().__init__(f"no room for model {model_id!r}: {problem}; {fix}")


class LeaseReleasedError(ModelManagerError):
    """The lease or reference was given back already, or never belonged to this owner."""


class ManagerClosedError(ModelManagerError):
    """The manager was not initialized yet, or is shutting down."""


class SynthesisError(ModelManagerError):
    """The model could not speak this text."""


class InvalidInputError(SynthesisError):
    """The text, an option or another argument cannot be used; nothing was started."""


class InputTooLargeError(InvalidInputError):
    """A request is larger than the worker reads."""


class SessionNotFoundError(ModelManagerError):
    """The worker has no such session: it never began, was ended, or was idle for too long."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        shown = session_id if len(session_id) <= 80 else session_id[:77] + "..."
        super().__init__(f"session {shown!r} is not open; start it (again) with StartSession.")


class SessionMismatchError(ModelManagerError):
    """The session is open with another model, other options or another rate."""


class UnauthenticatedError(ModelManagerError):
    """The worker asks for a key, and got none that it knows."""


class ForbiddenError(ModelManagerError):
    """The worker knows who asks, and they may not do this."""


class WorkerBusyError(ModelManagerError):
    """The worker has as much to do as it may; `retry_after` seconds from now it may have less."""

    def __init__(self, problem: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        again = "later" if retry_after is None else f"in {retry_after:.1f} s"
        super().__init__(f"{problem}; try again {again}.")


class StalledError(ModelManagerError):
    """The caller neither sent text, nor took audio, nor resumed, for longer than it may."""


class WorkerError(ModelManagerError):
    """What a worker answered to its client; `code` is the name of the gRPC status."""

    def __init__(self, problem: str, code: str, retry_after: float | None = None) -> None:
        self.code = code
        self.retry_after = retry_after
        super().__init__(problem)


_FEW = 5
"""Names that a sentence gives; a model may have hundreds of holders."""


def first_few(names: Sequence[str]) -> str:
    """Return names for a sentence: all if they are few, else the first of them and how many more.

    Statistics and `explain` have them all.
    """
    more = len(names) - _FEW
    few = ", ".join(names[:_FEW])
    return few if more <= 0 else f"{few} and {more} more"
