"""The speech of the last minute, for people who look: how soon it was heard, with which gaps.

Since the start there are counts only; histograms of all that was spoken are in the metrics.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    from greenroom.worker.speech import Timing

WINDOW_S = 60.0
"""How far back figures of recent speech go: long enough for a 95th percentile, short enough for
what happens now to show."""

_MOST_SPEECHES = 2_048
"""A worker that speaks more in a minute has figures of a shorter time."""

Count = Annotated[int, Field(ge=0, lt=2**53)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class EndedSpeech:
    """One request for speech that had its model, and has ended; seconds."""

    at: float
    """When it ended, by the clock of whoever keeps the log."""
    model_id: str
    failed: bool
    first_audio_s: float | None
    """From asking to the first frame, loading included; `None` if it was never heard."""
    audio_s: float
    engine_s: float | None
    """In the engine for all of its audio; `None` unless it was heard to its end."""
    gaps: int
    late_s: float


@dataclass(frozen=True, slots=True)
class SpeechFigures:
    """How requests for speech went that ended lately; `None` where none of them tells."""

    ended: Count = 0
    failed: Count = 0
    """Of these."""
    first_audio_p50_s: Seconds | None = None
    """From asking to the first frame, loading included: what half of them did not exceed."""
    first_audio_p95_s: Seconds | None = None
    real_time_factor: Seconds | None = None
    """Seconds in the engine for a second of audio, of all that were heard to their end."""
    audio_s: Seconds = 0.0
    """That was taken."""
    gaps: Count = 0
    """Silences of more than 20 ms in the midst of speech, for one who plays at real time."""
    late_s: Seconds = 0.0
    """Seconds of these."""


@dataclass(frozen=True, slots=True)
class FirstAudio:
    """How soon speeches were heard: what half of them, and 95 % of them, did not exceed."""

    p50_s: float | None
    """From asking to the first frame, loading included; `None` if none was heard."""
    p95_s: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """What was counted since the start."""

    speeches: int = 0
    gaps: int = 0
    late_s: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    """Requests that were refused, by why: the manager's reasons, and the worker's limits."""


class SpeechLog:
    """The speeches that have ended lately, and what was counted since the start."""

    def __init__(self, began_at: float) -> None:
        """`began_at` is the present moment, in seconds of a monotonic clock."""
        self.began_at = began_at
        self.ended: Counter[str] = Counter()
        """Speeches by how they ended."""
        self.refused: Counter[str] = Counter()
        """Requests that were refused for a limit, by which."""
        self.gaps = 0
        self.late_s = 0.0
        self.audio_s = 0.0
        self._latest: deque[EndedSpeech] = deque(maxlen=_MOST_SPEECHES)

    def end(self, model_id: str, outcome: str, timing: Timing, now: float) -> None:
        """Note that a speech has ended."""
        self.ended[outcome] += 1
        self.gaps += timing.gaps
        self.late_s += timing.late_s
        self.audio_s += timing.audio_s
        heard_to_its_end = timing.real_time_factor is not None
        self._latest.append(
            EndedSpeech(
                now,
                model_id,
                outcome == "failed",
                timing.first_audio_s,
                timing.audio_s,
                timing.engine_s if heard_to_its_end else None,
                timing.gaps,
                timing.late_s,
            )
        )

    def totals(self, refused: Mapping[str, int]) -> Totals:
        """Return what was counted since the start; `refused` is what the manager has refused."""
        speeches = self.ended.total()
        return Totals(speeches, self.gaps, self.late_s, Counter(refused) + self.refused)

    def latest(self, now: float) -> tuple[float, tuple[EndedSpeech, ...]]:
        """Return the speeches that ended lately, oldest first, and within how many seconds."""
        since = max(now - WINDOW_S, self.began_at)
        if len(self._latest) == self._latest.maxlen:
            since = max(since, self._latest[0].at)
        return now - since, tuple(each for each in self._latest if each.at >= since)


def speech_figures(speeches: Sequence[EndedSpeech]) -> SpeechFigures:
    """Return the figures of some speeches."""
    first_audio = first_audio_of(speeches)
    whole = [(each.engine_s, each.audio_s) for each in speeches if each.engine_s is not None]
    audio_s = sum(audio for _, audio in whole)
    return SpeechFigures(
        ended=len(speeches),
        failed=sum(each.failed for each in speeches),
        first_audio_p50_s=first_audio.p50_s,
        first_audio_p95_s=first_audio.p95_s,
        real_time_factor=sum(engine for engine, _ in whole) / audio_s if audio_s else None,
        audio_s=sum(each.audio_s for each in speeches),
        gaps=sum(each.gaps for each in speeches),
        late_s=sum(each.late_s for each in speeches),
    )


def first_audio_of(speeches: Iterable[EndedSpeech]) -> FirstAudio:
    """Return how soon some speeches were heard."""
    times = sorted(each.first_audio_s for each in speeches if each.first_audio_s is not None)
    return FirstAudio(_percentile(times, 0.50), _percentile(times, 0.95))


def figures_by_model(speeches: Sequence[EndedSpeech]) -> dict[str, SpeechFigures]:
    """Return the figures of some speeches for each of their models."""
    by_model: dict[str, list[EndedSpeech]] = {}
    for each in speeches:
        by_model.setdefault(each.model_id, []).append(each)
    return {model_id: speech_figures(same) for model_id, same in by_model.items()}


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the least value that so large a share of all does not exceed (the nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
