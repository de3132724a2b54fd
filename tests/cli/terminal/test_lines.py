"""Lines that a terminal has no room for are broken between words; anywhere else they stay whole."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from greenroom.cli.terminal.lines import wrapped_lines

TOLD = """\
amy: ready, in use: 20 references
  held by session ×20 for 0.12 s to 5m 07s
   3.2 s ago  draining: its turn: another model was waited for, and this one had its place for long (me)
"""  # noqa: E501 - that is what it is about


def test_a_long_line_is_broken_between_words_and_goes_on_further_in() -> None:
    lines = wrapped_lines(TOLD, 80)
    assert lines[:2] == TOLD.splitlines()[:2]
    assert lines[2:] == [
        "   3.2 s ago  draining: its turn: another model was waited for, and this one had",
        "      its place for long (me)",
    ]


def test_without_a_terminal_each_line_stays_whole() -> None:
    assert wrapped_lines(TOLD, None) == TOLD.splitlines()
    assert wrapped_lines(TOLD, 5) == TOLD.splitlines(), "too narrow for anything"


def test_names_with_hyphens_stay_whole() -> None:
    said = "booked with piper-en-us-joe-medium, shared by piper-en-us-amy-medium"
    assert wrapped_lines(said, 40) == [
        "booked with piper-en-us-joe-medium,",
        "  shared by piper-en-us-amy-medium",
    ]


@pytest.mark.parametrize("width", [20, 21, 33, 80])
@pytest.mark.parametrize("said", ["word" * 60, "部屋" * 50 + " x", "  held by 部屋 " * 9, ""])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_lost(said: str, width: int) -> None:
    lines = wrapped_lines(said, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(said.split())
