"""What HTTP costs over calling the manager, and what it must cost: uvicorn with the same bytes.

The floor of a stream is its pieces, each a chunk on the socket: the tone makes one for each 100 ms
of audio, 35 of 4.7 KB for the sentence here. Uvicorn has to write them too, so its time is the
floor of HTTP; the manager has to make them, in 35 steps of a thread, so its time is the floor of
speech. The worker has to do both. It, uvicorn, the manager and the caller each have a process of
their own; the caller is the same for both servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks import ours, sites
from benchmarks.apart import Apart
from benchmarks.figures import Effort, Figure
from benchmarks.listener import Heard, Listener
from benchmarks.replay import Recorded
from benchmarks.rounds import Stopwatch, interleaved
from benchmarks.voice_files import folder, prepared_files
from benchmarks.voices import LONG_SENTENCE, SENTENCE

_SAME = "uvicorn, the same bytes"
_FORMATS = ("pcm", "wav", "mp3")
_RATE = 24_000
"""Hz that callers get who do not ask for another."""
_ASKED = 20
"""First audio of one round is the median of so many."""
_STREAMS = 100
"""Streams of which the number per second is counted."""
_AT_ONCE = 16
_REPEATS = 3
"""Sentences of the real voice right after one another, of which the last one counts."""

Took = dict[str, float]
"""Seconds to the first audio by format, and streams per second by how many at once."""


def measure(effort: Effort) -> list[Figure]:
    """Return first audio and streams per second against uvicorn and the manager."""
    return asyncio.run(_measure(effort))


async def _measure(effort: Effort) -> list[Figure]:
    (voice,) = prepared_files(1)
    async with contextlib.AsyncExitStack() as stack:
        manager = stack.enter_context(Apart())
        manager(ours.begin, [voice])
        manager(ours.keep, voice)
        worker = await stack.enter_async_context(sites.worker(sites.TONES[-1], folder()))
        recorded = await _recorded(worker.port)
        uvicorn = await stack.enter_async_context(sites.replay(recorded))
        tone = {
            "http": functools.partial(_tone_over_http, worker.port, effort),
            "uvicorn": functools.partial(_tone_over_http, uvicorn.port, effort),
            "manager": functools.partial(asyncio.to_thread, manager, _tone, effort),
        }
        real = {
            "http": functools.partial(_voice_over_http, worker.port, voice, effort.quiet_s),
            "manager": functools.partial(asyncio.to_thread, manager, _voice, voice, effort.quiet_s),
        }
        await interleaved(1, tone)
        tones = await interleaved(effort.rounds, tone)
        await interleaved(1, real)
        voices = await interleaved(effort.rounds, real)
        manager(ours.end)
    return [
        *_first_audio(tones),
        *_streams(tones, "one", "one after another"),
        *_streams(tones, "many", f"{_AT_ONCE} at once"),
        _real_voice(voices),
    ]


def _first_audio(took: dict[str, tuple[Took, ...]]) -> list[Figure]:
    http, uvicorn, manager = (_column(took[who], "pcm") for who in ("http", "uvicorn", "manager"))
    added = tuple(a - b for a, b in zip(http, manager, strict=True))
    rows = [
        Figure("first audio of a tone, pcm", http, "s", "the manager", manager),
        Figure("… added by HTTP", added, "s", _SAME, uvicorn, 6.0, "ratio"),
    ]
    for name in _FORMATS:
        ours, theirs = (_column(took[who], name) for who in ("http", "uvicorn"))
        rows.append(Figure(f"… the whole of it, {name}", ours, "s", _SAME, theirs))
    return rows


def _streams(took: dict[str, tuple[Took, ...]], key: str, how: str) -> list[Figure]:
    http, uvicorn, manager = (_column(took[who], key) for who in ("http", "uvicorn", "manager"))
    ours, theirs = _inverted(http), _inverted(manager)
    added = tuple(a - b for a, b in zip(ours, theirs, strict=True))
    return [
        Figure(f"tones of 3.5 s, {how}", http, "/s", _SAME, uvicorn),
        Figure("… against those of the manager", http, "/s", "the manager", manager),
        Figure("… time of one", ours, "s", "the manager", theirs, 1 / 0.85, "ratio"),
        Figure("… added by HTTP", added, "s", _SAME, _inverted(uvicorn)),
    ]


def _real_voice(took: dict[str, tuple[float, ...]]) -> Figure:
    name = f"first audio of a real voice, {len(LONG_SENTENCE)} characters"
    return Figure(name, took["http"], "s", "the manager", took["manager"], 1.4, "ratio")


def _inverted(rates: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(1 / rate for rate in rates)


def _column(took: tuple[Took, ...], key: str) -> tuple[float, ...]:
    return tuple(each[key] for each in took)


async def _recorded(port: int) -> Recorded:
    async with Listener(port) as listener:
        return {name: (await _said(listener, name)).pieces for name in _FORMATS}


async def _said(listener: Listener, response_format: str) -> Heard:
    heard = await listener.say(SENTENCE, sites.TONES[-1], response_format)
    assert heard.status == 200, heard.body
    return heard


async def _tone_over_http(port: int, effort: Effort) -> Took:
    asked, streams = effort.count(_ASKED), effort.count(_STREAMS)
    async with Listener(port) as listener:
        took = {
            name: median([(await _said(listener, name)).first for _ in range(asked)])
            for name in _FORMATS
        }
    return {
        **took,
        "one": await _per_second(port, streams, 1),
        "many": await _per_second(port, streams, _AT_ONCE),
    }


async def _per_second(port: int, streams: int, at_once: int) -> float:
    left = iter(range(streams))

    async def call() -> None:
        async with Listener(port) as listener:
            for _ in left:
                await _said(listener, "pcm")

    watch = Stopwatch()
    await asyncio.gather(*(call() for _ in range(at_once)))
    return streams / watch.read()


def _tone(effort: Effort) -> Took:
    asked, streams = effort.count(_ASKED), effort.count(_STREAMS)
    often: Callable[[int], float] = functools.partial(
        ours.say_often, "tone", SENTENCE, streams, sample_rate=_RATE
    )
    firsts = [ours.say(Path("tone"), SENTENCE, sample_rate=_RATE)[0] for _ in range(asked)]
    return {"pcm": median(firsts), "one": often(1), "many": often(_AT_ONCE)}


async def _voice_over_http(port: int, voice: Path, quiet_s: float) -> float:
    async with Listener(port) as listener:
        heard = [await listener.say(LONG_SENTENCE, voice.stem) for _ in range(_REPEATS)]
    await asyncio.sleep(quiet_s)
    return heard[-1].first


def _voice(voice: Path, quiet_s: float) -> float:
    heard = [ours.say(voice, LONG_SENTENCE, sample_rate=_RATE) for _ in range(_REPEATS)]
    time.sleep(quiet_s)
    return heard[-1][0]
