"""The one table of errors: how every protocol of the worker answers each class of the error tree.

A protocol looks an error up with `answer_to` and renders the row in its own way: gRPC as a
`google.rpc.Status` (`grpc/errors.py`), HTTP as OpenAI's JSON or Triton's (`http/errors.py`). One
more protocol reads these rows too, and needs no table of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from grpc import StatusCode

from greenroom import errors


@dataclass(frozen=True, slots=True)
class Answer:
    """One row: how an error is answered."""

    grpc: StatusCode
    http: int
    """The HTTP status."""
    code: str | None = None
    """One of `CODES`; a `FieldError` has its own. `None` where no class says what is wrong."""
    retry: bool = False
    """Whether the same request can succeed later. Only where clients try again by themselves: of
    the statuses that they do not retry it is false."""


def is_retried(http: int) -> bool:
    """Return whether OpenAI's SDK repeats a request with this status, unless it is told not to."""
    return http in (408, 409, 429) or http >= 500


class FieldError(errors.InvalidInputError):
    """A field of a request is wrong; `param` is the protocol's name of it, `code` says how."""

    def __init__(self, param: str | None, message: str, *, code: str = "invalid_value") -> None:
        assert code in CODES, code
        self.param = param
        self.code = code
        super().__init__(message)


CODES: dict[str, str] = {
    "misconfigured": "the worker's configuration cannot work",
    "model_not_found": "no model has this name",
    "model_not_resident": "the model is not in memory",
    "model_in_use": "the model is held or speaking",
    "model_load_failed": "the model could not be loaded, or not in time",
    "model_unload_failed": "the model did not unload cleanly",
    "no_room": "there is no room for the model; without a time it never will be",
    "lease_released": "the reference was given back before",
    "overloaded": "one more stream could not be kept up beside those that speak",
    "shutting_down": "the worker is about to end",
    "synthesis_failed": "the model could not speak this text",
    "engine_crashed": "the process of the model's engine ended while it spoke",
    "invalid_value": "a field, or the text, has a value that cannot be used",
    "invalid_json": "the body is no JSON object",
    "missing_required_parameter": "a field is not there",
    "voice_not_found": "no voice has this name",
    "request_too_large": "the request is longer than the worker reads",
    "session_not_found": "no such session is open",
    "session_mismatch": "the session speaks with another model, other options or another rate",
    "invalid_api_key": "there is no key, or none that the worker knows",
    "insufficient_permissions": "the key's role does not allow this",
    "too_many_requests": "a limit of the worker's or of the key's is reached",
    "stalled": "the caller kept the worker waiting for too long",
    "stream_ended": "an administrator ended the stream",
    "not_in_index": "the index of voices has none of this name",
    "pull_failed": "a voice could not be brought here",
    "worker_failed": "another worker, asked for this, failed",
}
"""Every code that a caller can see, and what it means."""

ANSWERS: dict[type[errors.ModelManagerError], Answer] = {
    errors.ModelManagerError: Answer(StatusCode.INTERNAL, 500, None, retry=True),
    errors.ConfigError: Answer(StatusCode.FAILED_PRECONDITION, 500, "misconfigured"),
    errors.ModelNotFoundError: Answer(StatusCode.NOT_FOUND, 404, "model_not_found"),
    errors.ModelNotResidentError: Answer(StatusCode.FAILED_PRECONDITION, 409, "model_not_resident"),
    errors.ModelInUseError: Answer(StatusCode.FAILED_PRECONDITION, 409, "model_in_use"),
    errors.ModelLoadError: Answer(StatusCode.UNAVAILABLE, 503, "model_load_failed", retry=True),
    errors.WarmupError: Answer(StatusCode.UNAVAILABLE, 503, "model_load_failed", retry=True),
    errors.LoadTimeoutError: Answer(
        StatusCode.DEADLINE_EXCEEDED, 503, "model_load_failed", retry=True
    ),
    errors.UnloadError: Answer(StatusCode.INTERNAL, 500, "model_unload_failed"),
    errors.CapacityError: Answer(StatusCode.RESOURCE_EXHAUSTED, 503, "no_room", retry=True),
    errors.LeaseReleasedError: Answer(StatusCode.FAILED_PRECONDITION, 409, "lease_released"),
    errors.ManagerClosedError: Answer(StatusCode.UNAVAILABLE, 503, "shutting_down", retry=True),
    errors.SynthesisError: Answer(StatusCode.INTERNAL, 500, "synthesis_failed", retry=True),
    errors.InvalidInputError: Answer(StatusCode.INVALID_ARGUMENT, 400, "invalid_value"),
    FieldError: Answer(StatusCode.INVALID_ARGUMENT, 400, "invalid_value"),
    errors.InputTooLargeError: Answer(StatusCode.INVALID_ARGUMENT, 413, "request_too_large"),
    errors.TraceError: Answer(StatusCode.INVALID_ARGUMENT, 400, "invalid_value"),
    errors.SessionNotFoundError: Answer(StatusCode.NOT_FOUND, 404, "session_not_found"),
    errors.SessionMismatchError: Answer(StatusCode.FAILED_PRECONDITION, 409, "session_mismatch"),
    errors.UnauthenticatedError: Answer(StatusCode.UNAUTHENTICATED, 401, "invalid_api_key"),
    errors.ForbiddenError: Answer(StatusCode.PERMISSION_DENIED, 403, "insufficient_permissions"),
    errors.EngineCrashedError: Answer(StatusCode.UNAVAILABLE, 503, "engine_crashed", retry=True),
    errors.OverloadedError: Answer(StatusCode.RESOURCE_EXHAUSTED, 503, "overloaded", retry=True),
    errors.WorkerBusyError: Answer(
        StatusCode.RESOURCE_EXHAUSTED, 429, "too_many_requests", retry=True
    ),
    errors.StalledError: Answer(StatusCode.DEADLINE_EXCEEDED, 408, "stalled", retry=True),
    errors.StreamEndedError: Answer(StatusCode.ABORTED, 503, "stream_ended"),
    errors.VoiceNotFoundError: Answer(StatusCode.NOT_FOUND, 404, "not_in_index"),
    errors.PullError: Answer(StatusCode.UNAVAILABLE, 502, "pull_failed", retry=True),
    errors.WorkerError: Answer(StatusCode.UNKNOWN, 502, "worker_failed", retry=True),
}
"""Complete, each class with a row of its own: tests walk the tree."""


@contextlib.contextmanager
def about_field(param: str) -> Iterator[None]:
    """Name the field, in the protocol's words, of a value that is refused inside the block."""
    try:
        yield
        return
    except errors.InvalidInputError as error:
        problem = str(error)
    raise FieldError(param, problem)


def answer_to(error: errors.ModelManagerError) -> Answer:
    """Return the row of an error; a class from outside Greenroom has that of its nearest base."""
    return next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)


def code_of(error: errors.ModelManagerError) -> str | None:
    """Return the code that an error is answered with."""
    return error.code if isinstance(error, FieldError) else answer_to(error).code


def retry_after(error: errors.ModelManagerError) -> float | None:
    """Return in how many seconds to try again; `None` where that is not known."""
    seconds: float | None = getattr(error, "retry_after", None)
    return seconds


def can_succeed_later(error: errors.ModelManagerError) -> bool:
    """Return whether the same request can; without a time there is no room for a model, ever."""
    never = isinstance(error, errors.CapacityError) and error.retry_after is None
    return answer_to(error).retry and not never


def one_line(message: str, longest: int) -> str:
    """Return a message without line breaks, and cut to `longest` characters."""
    line = " ".join(message.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
