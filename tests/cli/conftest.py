"""The worker that commands talk to, as in the tests of the worker."""

from tests.worker.conftest import (
    _grpc_for_all_tests,
    _heard_at_once,
    _no_unexpected_answers,
    metered_catalog,
    metered_worker,
    meters,
    tone_catalog,
    tones,
)

__all__ = [
    "_grpc_for_all_tests",
    "_heard_at_once",
    "_no_unexpected_answers",
    "metered_catalog",
    "metered_worker",
    "meters",
    "tone_catalog",
    "tones",
]
