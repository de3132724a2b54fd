"""Errors over HTTP: one shape, and when to try again."""

from __future__ import annotations

import json

import pytest

from greenroom import errors
from greenroom.worker.errors import FieldError
from greenroom.worker.http.errors import response_to


def test_a_class_of_somebody_else_is_answered_as_its_nearest_base() -> None:
    class Theirs(errors.CapacityError):
        pass

    assert response_to(Theirs("x", "it is full")).status_code == 503


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (
            errors.CapacityError("x", "full", 2.4),
            503,
            {"retry-after": "3", "retry-after-ms": "2400"},
        ),
        (errors.CapacityError("x", "full"), 503, {"x-should-retry": "false"}),
        (errors.ModelLoadError("x", "broken", 0.001), 503, {"retry-after": "1"}),
        (errors.WorkerBusyError("busy", 1.0), 429, {"retry-after": "1"}),
        (errors.ModelInUseError("x", ["me"]), 409, {"x-should-retry": "false"}),
        (errors.UnauthenticatedError("who?"), 401, {"www-authenticate": "Bearer"}),
        (errors.InputTooLargeError("big"), 413, {}),
        (FieldError("speed", "too fast"), 400, {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_clients_are_told_whether_and_when_to_try_again(
    error: errors.ModelManagerError, status: int, headers: dict[str, str]
) -> None:
    response = response_to(error)
    assert response.status_code == status
    assert headers.items() <= dict(response.headers).items()
    told = {"retry-after", "x-should-retry"} & set(headers)
    assert told == {"retry-after", "x-should-retry"} & set(response.headers)


def test_a_message_is_one_line_and_bounded() -> None:
    body = json.loads(bytes(response_to(FieldError(None, "a\nb" * 5_000)).body))
    message = body["error"]["message"]
    assert len(message) == 1_000
    assert "\n" not in message
