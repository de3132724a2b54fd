"""One table for all errors, complete, and the same error read back by a client."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.rpc import status_pb2

from greenroom import errors
from greenroom.worker.errors import CODES, code_of, status_of, worker_error


def tree(kind: type[errors.ModelManagerError]) -> Iterator[type[errors.ModelManagerError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


def failed(
    code: grpc.StatusCode, details: str = "", status: status_pb2.Status | None = None
) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata()
    if status is not None:
        trailing.add("grpc-status-details-bin", status.SerializeToString())
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=details)


def test_the_table_is_complete_and_has_nothing_else() -> None:
    assert set(CODES) == set(tree(errors.ModelManagerError))


def test_no_error_is_answered_as_a_success() -> None:
    assert grpc.StatusCode.OK not in CODES.values()


def test_the_tree_in_the_docstring_names_every_error() -> None:
    assert errors.__doc__ is not None
    for kind in tree(errors.ModelManagerError):
        assert f"{kind.__name__} " in errors.__doc__ or kind is errors.ModelManagerError


def test_a_class_of_somebody_else_has_the_code_of_its_nearest_base() -> None:
    class Theirs(errors.InvalidInputError):
        pass

    assert code_of(Theirs("no")) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ModelNotFoundError("x"), "NOT_FOUND"),
        (errors.ModelInUseError("x", ["somebody"]), "FAILED_PRECONDITION"),
        (errors.ModelLoadError("x", "it is broken", 2.0), "UNAVAILABLE"),
        (errors.LoadTimeoutError("x", "it is slow", 2.0), "DEADLINE_EXCEEDED"),
        (errors.CapacityError("x", "it is full", 2.0), "RESOURCE_EXHAUSTED"),
        (errors.ManagerClosedError("it is closed"), "UNAVAILABLE"),
        (errors.InvalidInputError("it is empty"), "INVALID_ARGUMENT"),
        (errors.SynthesisError("it failed"), "INTERNAL"),
    ],
)
def test_codes_are_those_of_the_contract(error: errors.ModelManagerError, code: str) -> None:
    assert code_of(error).name == code


def test_a_time_to_try_again_is_told_and_read_back() -> None:
    status = status_of(errors.CapacityError("x", "it is full", 12.345))
    read = worker_error(failed(grpc.StatusCode.RESOURCE_EXHAUSTED, "", status), "here")
    assert read.retry_after == pytest.approx(12.345)
    assert read.code == "RESOURCE_EXHAUSTED"
    assert "it is full" in str(read)


@pytest.mark.parametrize("retry_after", [0.0, -1.0])
def test_a_time_that_has_passed_is_now(retry_after: float) -> None:
    status = status_of(errors.WorkerBusyError("full", retry_after))
    read = worker_error(failed(grpc.StatusCode.RESOURCE_EXHAUSTED, "", status), "here")
    assert read.retry_after == 0.0


@pytest.mark.parametrize(
    "error", [errors.CapacityError("x", "it is full"), errors.SynthesisError("it failed")]
)
def test_no_time_is_told_where_none_is_known(error: errors.ModelManagerError) -> None:
    assert not status_of(error).details


def test_a_message_is_one_line_and_fits_into_the_trailing_metadata() -> None:
    status = status_of(errors.SynthesisError("two\nlines " + "🎙" * 5_000))
    assert status.message.startswith("two lines 🎙")
    assert status.message.endswith("…")
    percent_encoded = 3 * len(status.message.encode())
    base64 = len(status.SerializeToString()) * 4 // 3
    assert percent_encoded + base64 < 8_192


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (grpc.StatusCode.UNAVAILABLE, "greenroom serve"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "did not answer in time"),
        (grpc.StatusCode.UNKNOWN, "UNKNOWN.*a bug of two lines"),
    ],
)
def test_what_gave_no_status_of_ours_is_told_by_its_code(code: grpc.StatusCode, words: str) -> None:
    read = worker_error(failed(code, "a bug of\ntwo lines"), "localhost:1")
    with pytest.raises(errors.WorkerError, match=words):
        raise read
    assert "localhost:1" in str(read)
    assert "\n" not in str(read)
