"""What ten thousand voices on disk cost a start: found among loose files and among packs.

The peer walks the same folders and does nothing else: what is above it is reading names and
metadata.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.figures import Effort, Figure
from benchmarks.rounds import Stopwatch, interleaved
from greenroom import Catalog

_VOICES = 10_000
_METADATA = "languages: [en-GB, en-US]\ntags: [warm]\nfootprint_mb: 120\noptions: {speed: 0.9}\n"
_AT_MOST_S = 2.0


def measure(effort: Effort) -> list[Figure]:
    """Return how long it takes until the catalog is there."""
    with tempfile.TemporaryDirectory() as place:
        return asyncio.run(_measure(effort, Path(place)))


async def _measure(effort: Effort, place: Path) -> list[Figure]:
    count = effort.count(_VOICES)
    loose, packs = _put_loose(place / "loose", count), _put_packs(place / "packs", count)
    cases = {
        "loose": _timed(lambda: Catalog.discover(loose)),
        "loose walked": _timed(lambda: _walk(loose)),
        "packs": _timed(lambda: Catalog.discover(packs)),
        "packs walked": _timed(lambda: _walk(packs)),
    }
    took = await interleaved(effort.rounds, cases)
    peer = "os.walk of the folders"

    def row(name: str, case: str, at_most: float | None) -> Figure:
        theirs = took[f"{case} walked"]
        return Figure(f"{count:,} {name}", took[case], "s", peer, theirs, at_most=at_most)

    return [
        row("voices found, loose files", "loose", _AT_MOST_S),
        row("voices found, packs with metadata", "packs", None),
    ]


def _timed(step: Callable[[], object]) -> Callable[[], Awaitable[float]]:
    async def timed() -> float:
        watch = Stopwatch()
        step()
        return watch.read()

    return timed


def _walk(place: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(place))


def _put_loose(place: Path, count: int) -> Path:
    place.mkdir()
    for number in range(count):
        _put_voice(place / f"en_US-v{number:05d}-medium.onnx")
    return place


def _put_packs(place: Path, count: int) -> Path:
    for number in range(count):
        pack = place / "piper" / f"en-us-v{number:05d}-medium"
        pack.mkdir(parents=True)
        _put_voice(pack / "model.onnx")
        (pack / "metadata.yaml").write_text(_METADATA)
    return place


def _put_voice(model: Path) -> None:
    model.write_bytes(b"")
    model.with_name(f"{model.name}.json").write_text("{}")
