"""A piece is as large as there is time for: small for who waits, large for who is far ahead."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.adapters.piper.prepared.windows import (
    FIRST,
    LARGEST,
    LARGEST_BLOCK,
    Piece,
    first_size,
    least_size,
    next_piece,
    time_limit,
)

RIGHT = 11
FLOW_OVERLAP, OVERLAP = 64, 11
START = Piece(0, 0, 0)


def seconds(flow: int, frames: int) -> float:
    """A medium voice on a core of 2023: 0.1 ms for the flow of a frame, 0.35 to decode it."""
    flowing = 0.1e-3 * (flow + FLOW_OVERLAP) if flow > 0 else 0.0
    return flowing + 0.35e-3 * (frames + OVERLAP)


def ten_times(flow: int, frames: int) -> float:
    return 10 * seconds(flow, frames)


@pytest.mark.parametrize(
    ("sharers", "frames"),
    [(0.5, 16), (1.0, 16), (1.5, 24), (2.0, 32), (3.0, 48), (4.0, 64), (32.0, 64)],
)
def test_the_first_piece_grows_with_those_who_share_a_core(sharers: float, frames: int) -> None:
    assert first_size(sharers) == frames
    piece = next_piece(START, 1000, RIGHT, seconds, 0.0, least=first_size(sharers))
    assert piece == Piece(0, frames, frames + RIGHT)


@pytest.mark.parametrize(
    ("left_s", "spare_s", "frames"),
    [
        (-1.0, 9.0, 16),
        (0.0, 9.0, 16),
        (0.04, 9.0, 21),  # 10.25 ms for the overlaps, and 0.45 for each frame
        (0.04, 0.0, 16),
        (0.1, 9.0, 88),
        (0.1, 0.025, 32),
        (0.186, 9.0, 128),
        (1.0, math.inf, 128),
        (60.0, math.inf, 128),
        (60.0, 0.02, 21),
        (60.0, -1.0, 16),
    ],
)
def test_later_pieces_are_as_large_as_the_listener_and_the_others_have_time(
    left_s: float, spare_s: float, frames: int
) -> None:
    before = Piece(0, 16, 27)
    piece = next_piece(before, 10_000, RIGHT, seconds, time_limit(left_s, spare_s))
    assert (piece.start, piece.end - piece.start) == (16, frames)
    assert piece.flow_end >= piece.end + RIGHT
    if frames > FIRST:
        made = piece.flow_end - before.flow_end
        assert seconds(made, frames) <= min(left_s / 2, spare_s)


@pytest.mark.parametrize(
    ("sharers", "frames"), [(0.5, 16), (1.0, 16), (8.0, 16), (10.0, 24), (14.0, 56), (17.0, 112)]
)
def test_where_many_share_a_core_no_piece_is_too_small_to_keep_up(
    sharers: float, frames: int
) -> None:
    """16 frames are 186 ms of audio and take 17 ms; 128 are 1.5 s and take 68."""
    assert least_size(sharers, 256 / 22_050, lambda n: seconds(n, n)) == frames


def test_where_no_size_keeps_up_it_is_the_cheapest() -> None:
    assert least_size(1_000.0, 256 / 22_050, lambda n: seconds(n, n)) == LARGEST


def test_a_machine_ten_times_slower_makes_smaller_pieces() -> None:
    before, limit = Piece(0, 16, 27), time_limit(0.6, math.inf)
    sizes = [
        piece.end - piece.start
        for piece in (
            next_piece(before, 10_000, RIGHT, cost, limit) for cost in (seconds, ten_times)
        )
    ]
    assert sizes == [128, 43]


@pytest.mark.parametrize(
    ("limit_s", "frames", "block"),
    [(0.0, 16, 27), (0.08, 128, 249), (0.1, 128, 449), (1.0, 128, 512)],
)
def test_the_flow_is_made_ahead_as_far_as_there_is_time(
    limit_s: float, frames: int, block: int
) -> None:
    """128 frames take 48.65 ms to decode, the flow's overlap 6.4, each frame of a block 0.1."""
    piece = next_piece(Piece(0, 100, 100), 10_000, RIGHT, seconds, limit_s)
    assert piece == Piece(100, 100 + frames, 100 + block)


def test_no_flow_is_made_where_it_is_there_already() -> None:
    asked: list[int] = []

    def cost(flow: int, frames: int) -> float:
        asked.append(flow)
        return 0.0

    piece = next_piece(Piece(0, 100, 500), 10_000, RIGHT, cost, 1.0)
    assert piece == Piece(100, 228, 500)
    assert max(asked) <= 0


@given(
    st.integers(1, 5_000),
    st.integers(0, 40),
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
    st.floats(1e-9, 1.0),
)
def test_pieces_partition_the_frames_however_much_time_there_is(
    frames: int, right: int, limits: list[float], frame_s: float
) -> None:
    def cost(flow: int, frames: int) -> float:
        return frame_s * (max(0, flow) + 3 * frames + 40)

    pieces = [START]
    while pieces[-1].end < frames:
        limit = limits[len(pieces) % len(limits)]
        pieces.append(next_piece(pieces[-1], frames, right, cost, limit))
    for before, piece in pairwise(pieces):
        assert piece.start == before.end
        size, made = piece.end - piece.start, piece.flow_end - before.flow_end
        assert min(FIRST, frames) <= size < LARGEST + FIRST
        assert before.flow_end <= piece.flow_end <= frames
        assert min(frames, piece.end + right) <= piece.flow_end
        assert made < max(size + right, LARGEST_BLOCK) + 2 * FIRST
