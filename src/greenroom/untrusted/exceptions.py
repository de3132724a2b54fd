"""Errors that others raised: described, walked and translated safely.

An engine may raise anything: an error whose `str()` raises, whose causes form a circle, or that
links to a million others. Nothing here raises, and every walk has a bound. `str()` of an error is
the engine's own code, which may take its time: call `describe_error` and `format_traceback`
in the engine's thread.
"""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable
from types import TracebackType

from greenroom.untrusted.printable import one_line, type_name

MOST_LINKS = 1_000
"""So many errors that are linked to one are looked at."""

_LONGEST = 2_000
"""Characters of an error's text that are told."""

_TRACED_ERRORS = 10
_TRACED_FRAMES = 20
"""Of a traceback in the log: linked errors, and the last frames of each."""


def describe_error(error: BaseException) -> str:
    """Return the kind of an error and its text, on one line, whatever its `str()` does."""
    try:
        text = one_line(str(error), _LONGEST)
    except BaseException:  # noqa: BLE001 - `str()` of an engine's error may raise anything
        return f"{type_name(error)}: its text cannot be told"
    return f"{type_name(error)}: {text or 'no reason given'}"


def linked_errors(error: BaseException) -> tuple[list[BaseException], bool]:
    """Return the error and all that are linked to it, each once, and whether that is all.

    Linked are the cause, the context and the members of a group, and theirs in turn, up to
    `MOST_LINKS` errors. Read past the error's own class, which may have properties of these names.
    """
    found: dict[int, BaseException] = {}
    ahead = [error]
    while ahead and len(found) < MOST_LINKS:
        each = ahead.pop()
        if id(each) not in found:
            found[id(each)] = each
            ahead += _links(each)
    return list(found.values()), all(id(each) in found for each in ahead)


def _links(error: BaseException) -> list[BaseException]:
    fields = BaseException.__dict__
    links = [fields[name].__get__(error) for name in ("__context__", "__cause__")]
    if issubclass(type(error), BaseExceptionGroup):
        members = BaseExceptionGroup.__dict__["exceptions"].__get__(error)
        links += reversed(members[: MOST_LINKS + 1])
    return [link for link in links if link is not None]


def without_tracebacks(error: BaseException) -> BaseException | None:
    """Drop the tracebacks of the error and of all linked to it: their frames keep objects alive.

    Returns the error; `None` if there are more links than can be walked, so that some tracebacks
    are still there and the error must not be kept.
    """
    found, whole = linked_errors(error)
    for each in found:
        BaseException.with_traceback(each, None)
    return error if whole else None


def format_traceback(error: BaseException) -> str:
    """Return what `traceback` would say of the error and those linked to it, within bounds."""
    found, _ = linked_errors(error)
    return "\n".join(map(_trace, itertools.islice(found, _TRACED_ERRORS)))


def _trace(error: BaseException) -> str:
    frames = BaseException.__dict__["__traceback__"].__get__(error)
    try:
        lines = traceback.format_tb(frames, limit=-_TRACED_FRAMES)
    except Exception:  # noqa: BLE001 - source lines may come from an importer of anybody's
        lines = ["  (its frames cannot be told)\n"]
    return "".join(lines) + describe_error(error)


class Translated:
    """A `with` block out of which every error comes as one of ours, free of the frames below it.

    `translate` makes an error of ours from what was raised; it is called in the thread of the
    block. The new error has no context, and nothing here refers to either error afterwards: the
    frames that an error went through, and the engine or the model in them, are not kept alive by
    it, unless `translate` links the old error as the cause.

    An error that `translate` returns unchanged goes on as it is.
    """

    def __init__(self, translate: Callable[[BaseException], BaseException]) -> None:
        self._translate = translate

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        frames: TracebackType | None,
    ) -> None:
        if error is None:
            return
        problem = self._translate(error)
        try:
            if problem is not error:
                raise problem
        finally:
            if problem is not error:
                # Python links what is being handled to what is raised; `from None` only hides it.
                problem.__context__ = None
            # An error keeps its traceback, and that this frame: without these they are a cycle.
            del problem, error, frames
