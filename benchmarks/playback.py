"""What a listener hears who plays speech at real time, from when each piece of it came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

AUDIBLE_S = 0.020
"""A speech with more silence than this, in all its gaps together, counts as one with a gap."""


class Piece(NamedTuple):
    """Some audio of a speech."""

    at: float
    """Seconds from asking to when it was received."""
    seconds: float
    """Of audio."""


class Gap(NamedTuple):
    """Silence because everything that was received had been heard, and more was to come."""

    after: float
    """Seconds of audio heard before it."""
    seconds: float
    """Of silence."""


@dataclass(frozen=True, slots=True)
class Played:
    """One speech, as it was heard. All times are seconds."""

    first: float
    """From asking to the first audio, with which playback begins."""
    audio: float
    """Of audio in all."""
    gaps: tuple[Gap, ...]
    """In order."""

    @property
    def late(self) -> float:
        """Seconds of silence in all."""
        return sum(gap.seconds for gap in self.gaps)

    @property
    def stutters(self) -> bool:
        """Whether the silence is long enough to be heard."""
        return self.late > AUDIBLE_S

    @property
    def end(self) -> float:
        """From asking to when the last of it has been heard."""
        return self.first + self.audio + self.late


def play(pieces: Iterable[Piece]) -> Played:
    """Play pieces in the order in which they came; raises `ValueError` if there is no audio."""
    first, audio, gaps = None, 0.0, []
    heard_all = 0.0
    for piece in pieces:
        if not piece.seconds:
            continue
        if first is None:
            first = heard_all = piece.at
        elif piece.at > heard_all:
            gaps.append(Gap(audio, piece.at - heard_all))
            heard_all = piece.at
        heard_all += piece.seconds
        audio += piece.seconds
    if first is None:
        raise ValueError("no audio")
    return Played(first, audio, tuple(gaps))
