"""Memory that voices hold, and what they leave behind: `RssAnon`, which only freeing gives back.

Mapped weights are in `RssFile`: processes share them, the system takes them back by itself. Each
program works in a process of its own; what its imports take is not counted. It is asked once it
has been quiet for a while, its garbage collected.
"""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from benchmarks import ours, theirs
from benchmarks.apart import apart
from benchmarks.figures import Effort, Figure
from benchmarks.voice_files import own_files, prepared_crowd, prepared_files
from benchmarks.voices import SENTENCE
from greenroom.memory.usage import MIB, usage

_VOICES = 4
_CROWD = 50
_LIVES = 200
_BRIEF = "And back it goes."
"""What is said in each life."""
_SETTLED = 20
"""Lives after which pools and caches have their size."""
_BOUND_MB = 5.0


def measure(effort: Effort) -> list[Figure]:
    """Return memory per voice, after all have left, over many lives, and of a crowd."""
    count = 2 if effort.short else _VOICES
    lives = effort.count(_LIVES, least=2)
    paths = prepared_crowd(count) if effort.short else prepared_files(count)
    own = own_files(count)
    rounds, quiet_s = min(effort.rounds, 3), effort.quiet_s
    with ThreadPoolExecutor(2) as pool:
        stock = [pool.submit(apart, _stock, own, quiet_s) for _ in range(rounds)]
        mine = [pool.submit(apart, _kept, paths, quiet_s) for _ in range(rounds)]
        one = pool.submit(apart, _lives, paths, lives, None, quiet_s)
        beside = pool.submit(apart, _lives, paths[1:], lives, paths[0], quiet_s)
        theirs_seen = [each.result() for each in stock]
        ours_seen = [each.result() for each in mine]
        grown = {"nothing else resident": one.result(), "its graph resident": beside.result()}
    crowd = prepared_crowd(effort.count(_CROWD, least=2))
    *_, together, _ = apart(_kept, crowd, quiet_s)
    per_voice = tuple(map(_per_further_voice, theirs_seen))
    peer = "piper-tts"
    dropped = f"{peer}, dropped and collected"
    return [
        Figure(
            "anonymous memory per further voice, after it spoke",
            tuple(map(_per_further_voice, ours_seen)),
            "MB",
            peer,
            per_voice,
            0.04,
            "ratio",
        ),
        Figure(
            f"anonymous memory held after {count} voices left",
            tuple(seen[-1] for seen in ours_seen),
            "MB",
            dropped,
            tuple(seen[-1] for seen in theirs_seen),
            0.06,
            "ratio",
        ),
        *(
            Figure(
                f"growth of anonymous memory, life {settled + 1} to {lives}, {beside}",
                (seen[-1] - seen[settled],),
                "MB",
                at_most=_BOUND_MB,
            )
            for beside, seen in grown.items()
            for settled in (min(_SETTLED, lives) - 1,)
        ),
        Figure(
            f"anonymous memory of {len(crowd)} voices, all resident, each used once",
            (together,),
            "MB",
            f"{len(crowd)} × one further of piper-tts",
            (len(crowd) * median(per_voice),),
            0.03,
            "ratio",
            "each maps weights of its own, altered in the store",
        ),
    ]


def _per_further_voice(seen: list[float]) -> float:
    """What the later voices took on average; the last figure is after all have left."""
    first, *_, last, _ = seen
    return (last - first) / (len(seen) - 2)


def _stock(paths: list[Path], quiet_s: float) -> list[float]:
    """Return the memory with one voice, with two, …, and after all have left."""
    import piper  # noqa: F401

    start = _anonymous_mb(quiet_s)
    seen = []
    for path in paths:
        theirs.keep(path)
        theirs.say(SENTENCE)
        seen.append(_anonymous_mb(quiet_s) - start)
    theirs.drop()
    return [*seen, _anonymous_mb(quiet_s) - start]


def _kept(paths: list[Path], quiet_s: float) -> list[float]:
    """Return the memory with one voice, with two, …, and after all have left."""
    _begin(paths)
    start = _anonymous_mb(quiet_s)
    seen = []
    for path in paths:
        ours.keep(path)
        ours.say(path, SENTENCE)
        seen.append(_anonymous_mb(quiet_s) - start)
    for path in paths:
        ours.drop(path)
    left = _anonymous_mb(quiet_s) - start
    ours.end()
    return [*seen, left]


def _lives(paths: list[Path], lives: int, resident: Path | None, quiet_s: float) -> list[float]:
    """Return the memory after each life, the voices taken in turn."""
    _begin([*paths, resident] if resident else paths)
    if resident:
        ours.keep(resident)
    start = _anonymous_mb(quiet_s)
    seen = []
    for number in range(lives):
        path = paths[number % len(paths)]
        ours.keep(path)
        ours.say(path, _BRIEF)
        ours.drop(path)
        quiet = number + 1 in (min(_SETTLED, lives), lives)
        seen.append((_anonymous_mb(quiet_s) if quiet else usage().anonymous / MIB) - start)
    ours.end()
    return seen


def _begin(paths: list[Path]) -> None:
    import piper  # noqa: F401

    ours.begin(paths)


def _anonymous_mb(quiet_s: float) -> float:
    time.sleep(quiet_s)
    gc.collect()
    return usage().anonymous / MIB
