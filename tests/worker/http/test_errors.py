"""One table for all errors over HTTP, complete, and one shape."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from greenroom import errors
from greenroom.worker.http.errors import ANSWERS, FieldError, answer_to, response_to


def tree(kind: type[errors.ModelManagerError]) -> Iterator[type[errors.ModelManagerError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


def test_the_table_is_complete_and_has_nothing_else() -> None:
    assert set(ANSWERS) == set(tree(errors.ModelManagerError))


def test_no_error_is_answered_as_a_success() -> None:
    assert all(400 <= answer.status < 600 for answer in ANSWERS.values())


def test_a_class_of_somebody_else_has_the_answer_of_its_nearest_base() -> None:
    class Theirs(errors.CapacityError):
        pass

    assert answer_to(Theirs("x", "it is full")).status == 503


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
