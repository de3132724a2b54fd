"""A voice that is not in memory: how long until it is loaded, warmed up, and speaks.

Greenroom's voices are prepared, stock Piper's are the same files as they come; all files are in
the page cache. Both work in a process of their own, in turn. "Graph resident" says that another
voice of the same kind is in memory.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks import ours, theirs
from benchmarks.apart import Apart
from benchmarks.figures import Effort, Figure
from benchmarks.rounds import interleaved
from benchmarks.voice_files import prepared_crowd, prepared_files
from benchmarks.voices import LONG_SENTENCE
from greenroom.config.schema import DEFAULT_WARMUP_TEXT

Took = dict[str, float]
"""Seconds by what was done."""


def measure(effort: Effort) -> list[Figure]:
    """Return loads and first audio against stock Piper's, and the floors of a load."""
    (voice,), (other,) = prepared_files(1), prepared_crowd(1)
    with Apart() as stock, Apart() as greenroom:
        greenroom(ours.begin, [voice, other])

        def arrive(
            process: Apart, call: Callable[..., Took], *arguments: Path | float
        ) -> Callable[[], Awaitable[Took]]:
            return functools.partial(asyncio.to_thread, process, call, *arguments)

        cases = {
            "theirs": arrive(stock, _theirs, voice),
            "say": arrive(stock, _warm, voice),
            "ours": arrive(greenroom, _ours, voice, other, effort.quiet_s),
        }
        stock(theirs.keep, voice)
        asyncio.run(interleaved(1, cases))  # imports, and everything that is made once
        took = asyncio.run(interleaved(min(effort.rounds, 9), cases))
        size, weights, nodes = greenroom(ours.sizes, voice)
        greenroom(ours.end)

    def row(name: str, step: str, peer: str, its: str, at_most: float) -> Figure:
        key = "say" if its == "warm" else "theirs"
        mine, other = (tuple(r[s] for r in took[k]) for k, s in (("ours", step), (key, its)))
        return Figure(name, mine, "s", peer, other, at_most, "ratio")

    def floor(name: str, step: str) -> Figure:
        return Figure(f"floor: {name}", tuple(each[step] for each in took["ours"]))

    load, warmed, cold = "PiperVoice.load", "load and warmup text", "load and synthesize"
    first = f"to the first audio of {len(LONG_SENTENCE)} characters"
    return [
        row("load, graph resident, no warmup", "load", load, "load", 0.02),
        floor(f"{size / 1e6:.1f} MB mapped, {weights} values over it", "weights"),
        row("load, nothing resident, no warmup", "first load", load, "load", 0.25),
        floor(f"sessions of {nodes:,} nodes built", "graph"),
        row("manager.load, graph resident, warmup included", "warmed", warmed, "warmed", 0.15),
        row(f"not resident (graph is) {first}", "cold", cold, "cold", 0.22),
        row("… against a voice in memory", "cold", "synthesize", "warm", 0.75),
    ]


def _theirs(voice: Path) -> Took:
    return theirs.arrive(voice, DEFAULT_WARMUP_TEXT, LONG_SENTENCE)


def _warm(_: Path) -> Took:
    return {"warm": theirs.say(LONG_SENTENCE)[0]}


def _ours(voice: Path, other: Path, quiet_s: float) -> Took:
    """Do each in turn; a graph that gives back memory must not do so beside a measurement."""
    took = {"first load": ours.load_adapter(voice)}
    ours.keep(other)
    took["load"] = ours.load_adapter(voice)
    took["weights"] = ours.floor_of_weights(voice)
    took["warmed"] = ours.load(voice)
    time.sleep(quiet_s)
    took["cold"] = ours.load_and_say(voice, LONG_SENTENCE)
    ours.drop(other)
    took["graph"] = ours.floor_of_graph(voice)
    time.sleep(quiet_s)
    return took
