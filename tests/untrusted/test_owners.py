"""Names of owners, told in a few words: those of one kind are counted together."""

from __future__ import annotations

import pytest

from greenroom.untrusted.owners import by_kind, summed


@pytest.mark.parametrize(
    ("owners", "words"),
    [
        ((), ""),
        (("session 7",), "session 7"),
        (("session kitchen", "session hall"), "session ×2"),
        (("call of ipv4:10.0.0.1:99", "call of unix:/a"), "call ×2"),
        (
            ("http call of ann at 10.0.0.1:99", "http call of ann at 10.0.0.1:98", "call of x:1"),
            "http call of ann ×2, call of x:1",
        ),
        (
            ("job 7", "job 8", "the night shift", "the night watch"),
            "job ×2, the night shift and 1 ",
        ),
        (("-", "-", "-"), "- ×3"),
        (("me", "me"), "me ×2"),
        (("a", "b", "b", "c", "d", "e"), "b ×2, a and 3 more"),
    ],
)
def test_owners_of_one_kind_are_counted_together(owners: tuple[str, ...], words: str) -> None:
    assert summed(owners, most=2).startswith(words)
    assert sum(len(same) for _, same in by_kind(owners)) == len(owners), "nobody is lost"


def test_few_kinds_are_told_whole() -> None:
    assert summed(("a", "b", "c")) == "a, b, c"
    assert summed(("a", "b", "c", "d")) == "a, b, c and 1 more"
