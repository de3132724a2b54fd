"""Columns are covered by tiles of few lengths, so that nothing that is wanted lacks its overlap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from greenroom.adapters.piper.prepared.tiles import Tile, tiles


@given(
    left=st.integers(0, 12),
    right=st.integers(0, 12),
    more=st.sets(st.integers(1, 60), min_size=1, max_size=3),
    beyond=st.integers(0, 400),
)
def test_every_column_is_wanted_of_one_tile_that_reaches_far_enough_beside_it(
    left: int, right: int, more: set[int], beyond: int
) -> None:
    lengths = [left + right + each for each in more]
    columns = min(lengths) + beyond
    wanted = 0
    for tile in tiles(columns, lengths, left, right):
        assert tile.last - tile.first in lengths
        assert 0 <= tile.first <= max(0, tile.start - left)
        assert min(columns, tile.end + right) <= tile.last <= columns
        assert tile.start == wanted < tile.end
        wanted = tile.end
    assert wanted == columns


def test_long_tiles_come_first_and_the_least_that_covers_the_rest_last() -> None:
    assert list(tiles(50, [10, 20], left=2, right=1)) == [
        Tile(0, 20, 0, 19),
        Tile(17, 37, 19, 36),
        Tile(30, 50, 36, 50),
    ]
    assert list(tiles(25, [10, 20], left=2, right=1)) == [Tile(0, 20, 0, 19), Tile(15, 25, 19, 25)]
