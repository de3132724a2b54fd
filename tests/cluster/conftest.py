"""Workers of these tests are started as those of the worker's own."""

from tests.worker.conftest import _grpc_for_all_tests, _no_unexpected_answers

__all__ = ["_grpc_for_all_tests", "_no_unexpected_answers"]
