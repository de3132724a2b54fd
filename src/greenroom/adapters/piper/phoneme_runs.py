"""Split long sentences into runs of the engine: memory grows with a run's text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

LONGEST_IDS = 400
"""Ids of a run at the voice's own speed: some 200 characters, or 11 seconds of speech. Few
sentences are longer, and 220 MB are what such a run takes on the voice's own file."""

_SHORTEST = 16
"""Phonemes of a piece, however slowly it is spoken: shorter ones would be no words."""

_CLAUSE_ENDS = frozenset(",;:.!?…—–、，；：。！？،؛؟।")
_SPACES = frozenset(" \n\t")


def split_into_runs(phonemes: Sequence[str], ids: int, length: float) -> Iterator[Sequence[str]]:
    """Yield a sentence whole, or in pieces of which none takes a run over its bound.

    `ids` is how many ids the sentence has, `length` by how much it is spoken slower than at length
    scale 1: memory grows with the seconds of audio. It is cut after the end of a clause, else after
    a word, where the pieces are most alike.
    """
    bound = LONGEST_IDS / max(1.0, length)
    if ids <= bound:
        yield phonemes
        return
    most = max(_SHORTEST, int(bound * len(phonemes) / ids))
    rest = phonemes
    while len(rest) > most:
        at = _best_cut(rest, most)
        yield rest[:at]
        rest = rest[at:]
    yield rest


def _best_cut(phonemes: Sequence[str], most: int) -> int:
    """Return where to cut off a piece of at most `most` phonemes, and at least one."""
    ideal = math.ceil(len(phonemes) / math.ceil(len(phonemes) / most))
    earliest = max(1, ideal // 2)
    for ends in (_CLAUSE_ENDS, _SPACES):
        places = [at for at in range(earliest, most + 1) if phonemes[at - 1] in ends]
        if places:
            return min(places, key=lambda at: abs(at - ideal))
    return ideal
