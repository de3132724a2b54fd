"""The fewest loads that any order of evictions could do with: Belady's optimum.

L. A. Belady, A study of replacement algorithms for a virtual-storage computer (1966): evict what is
asked for again last. It knows the future, has every model at once, refuses nobody and serves all in
the order in which they came: so nothing loads less in as many places but what refuses callers, or
has them wait while others go first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 16


def fewest_loads(model: NDArray[np.int32], places: int, resident: Sequence[int] = ()) -> int:
    """Return the fewest loads for requests of these models, in order, with so many places.

    Those in `resident` are in memory when it begins, no more than there are places.
    """
    count = max([int(model.max(initial=-1)), *resident]) + 1
    # Of every place, when its model is asked for again; an array, as its maximum is searched for.
    again = np.zeros(max(1, min(places, count)), np.int64)
    held_by = [-1] * len(again)
    place_of = [-1] * count
    loads = used = 0
    upcoming = _next_use(model)
    for used, kept in enumerate(dict.fromkeys(resident), 1):
        asked = np.flatnonzero(model == kept)
        again[used - 1] = asked[0] if len(asked) else len(model)
        held_by[used - 1], place_of[kept] = kept, used - 1
    for first in range(0, len(model), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        for wanted, later in zip(model[chunk].tolist(), upcoming[chunk].tolist(), strict=True):
            place = place_of[wanted]
            if place < 0:
                loads += 1
                if used < len(again):
                    place, used = used, used + 1
                else:
                    place = int(again.argmax())
                    place_of[held_by[place]] = -1
                held_by[place], place_of[wanted] = wanted, place
            again[place] = later
    return loads


def _next_use(model: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return for each request the next one for the same model; the length where there is none."""
    order = np.argsort(model, kind="stable")
    upcoming = np.full(len(model), len(model), np.int64)
    same = model[order[1:]] == model[order[:-1]]
    upcoming[order[:-1][same]] = order[1:][same]
    return upcoming
