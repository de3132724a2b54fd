"""Errors as gRPC statuses, and the same error read back by a client."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import status_pb2

from greenroom import errors
from greenroom.worker.grpc.errors import status_of, worker_error


def failed(
    code: grpc.StatusCode, details: str = "", status: status_pb2.Status | None = None
) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata()
    if status is not None:
        trailing.add("grpc-status-details-bin", status.SerializeToString())
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=details)


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
