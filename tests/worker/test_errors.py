"""The one table of errors: complete, and what its rows promise."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import grpc
import pytest

import greenroom.worker.app
import greenroom.worker.client
from greenroom import errors
from greenroom.cli.reference import reference
from greenroom.worker.errors import ANSWERS, CODES, FieldError, answer_to, code_of, is_retried

FIELD_CODES = {"invalid_json", "missing_required_parameter", "voice_not_found"}
"""Those that only a `FieldError` has."""

reference()  # which imports every command: their errors are of the tree too


def tree(kind: type[errors.ModelManagerError]) -> Iterator[type[errors.ModelManagerError]]:
    """Yield a class and all that Greenroom derives from it, wherever it is defined."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.partition(".")[0] == greenroom.__name__:
            yield from tree(child)


def test_each_class_of_the_tree_has_a_row_of_its_own_and_there_is_no_other_row() -> None:
    classes = list(tree(errors.ModelManagerError))
    assert len(classes) == len(set(classes))
    assert set(ANSWERS) == set(classes)


def test_no_error_is_answered_as_a_success() -> None:
    for answer in ANSWERS.values():
        assert answer.grpc is not grpc.StatusCode.OK
        assert 400 <= answer.http < 600


def test_each_code_is_documented_and_used() -> None:
    used = {answer.code for answer in ANSWERS.values()} - {None}
    assert used | FIELD_CODES == set(CODES)
    assert not used & FIELD_CODES
    assert len(set(CODES.values())) == len(CODES)


def test_a_retry_is_promised_only_where_clients_retry() -> None:
    for kind, answer in ANSWERS.items():
        assert is_retried(answer.http) or not answer.retry, kind


def test_a_narrower_class_is_retried_no_more_than_its_base() -> None:
    for kind, answer in ANSWERS.items():
        base = ANSWERS.get(kind.__base__, answer) if kind.__base__ else answer
        assert base.retry or not answer.retry, kind


def test_a_field_has_a_code_of_its_own() -> None:
    assert code_of(FieldError("voice", "no", code="voice_not_found")) == "voice_not_found"
    assert code_of(errors.InvalidInputError("no")) == "invalid_value"
    with pytest.raises(AssertionError):
        FieldError("voice", "no", code="not_documented")


def test_the_tree_in_the_docstring_names_every_error() -> None:
    assert errors.__doc__ is not None
    for kind in tree(errors.ModelManagerError):
        if kind.__module__ != errors.__name__:
            continue
        assert f"{kind.__name__} " in errors.__doc__ or kind is errors.ModelManagerError


def test_a_class_of_somebody_else_has_the_row_of_its_nearest_base() -> None:
    class Theirs(errors.InvalidInputError):
        pass

    assert answer_to(Theirs("no")) is ANSWERS[errors.InvalidInputError]
    assert answer_to(Theirs("no")).grpc is grpc.StatusCode.INVALID_ARGUMENT


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
    assert answer_to(error).grpc.name == code


EXAMPLES: dict[type[errors.ModelManagerError], tuple[object, ...]] = {
    errors.ModelNotFoundError: ("joe", ["jo"]),
    errors.ModelNotResidentError: ("joe",),
    errors.ModelInUseError: ("joe", ["somebody"], 2),
    errors.ModelLoadError: ("joe", "it is broken", 2.0),
    errors.WarmupError: ("joe", "it is silent", 2.0),
    errors.LoadTimeoutError: ("joe", "it is slow", None),
    errors.UnloadError: ("joe", "it hangs"),
    errors.CapacityError: ("joe", "it is full", 2.0),
    errors.SessionNotFoundError: ("s-1",),
    errors.EngineCrashedError: ("joe", "killed."),
    errors.OverloadedError: (2.0,),
    errors.WorkerBusyError: ("busy", 2.0),
    errors.PullError: ("amy", "the disk is full"),
    errors.WorkerError: ("it failed", "INTERNAL", 2.0),
    FieldError: ("voice", "it is wrong"),
}
"""Arguments of the classes that want more, or other, than a message."""


@pytest.mark.parametrize("kind", list(tree(errors.ModelManagerError)))
def test_an_error_is_the_same_in_another_process(kind: type[errors.ModelManagerError]) -> None:
    error = kind(*EXAMPLES.get(kind, ("it went wrong",)))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
