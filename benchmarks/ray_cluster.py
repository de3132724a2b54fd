"""`python -m benchmarks.ray_cluster`: a cluster on Ray Serve, which `make cluster` measures.

16 real voices by Zipf's law, two and four replicas with three places each, 8 callers who hear what
they asked for at real time and then ask again: the same requests in the same order for our router,
for Ray's own multiplexing and for round robin, over HTTP, in one run. Beside them one replica with
all places, which cannot be bettered by sending requests anywhere. Then a replica is killed under
load, and four become two while they speak.

With `--no-listening` the callers ask again as soon as they have what they asked for. That says
nothing of where requests should go: the cores are full, so that by Little's law a request takes as
long on average as eight take the processor, whoever chooses. First audio then comes soonest where
more threads compute than there are cores, as each speech begins at once and falls silent after.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks import machine, report
from benchmarks.figures import FULL, SMOKE, Effort, Figure
from benchmarks.listener import Heard, Listener
from benchmarks.playback import Piece, Played, play
from benchmarks.processes import free_port
from benchmarks.rounds import Stopwatch
from benchmarks.voice_files import prepare_real_voice, prepared_crowd
from greenroom.config.schema import Config

ABOUT = "a cluster on Ray Serve: which replica is asked"
RESULTS = Path(__file__).with_name("RESULTS.md")

_VOICES = 16
_CALLERS = 8
_REQUESTS = 240
_TEXT = "Yes, and back it goes."
_LONG = "This is a longer speech, which goes on while replicas come and go around it. " * 4

_REPORTED_S = 2.0
"""After so long the replicas of an application have reported."""

_MOST_LOADS = {2: 0.7, 4: 0.5}
"""By the number of replicas, in the place of one load of round robin's. With six places for 16
voices one worker with all of them needs 0.6: half cannot be had."""

_BYTES_A_SECOND = 2 * 24_000
"""Of audio."""

_SILENT = "… silence in the midst, share of speeches"

_MISSED = "… voice not in memory, share of requests"

_OURS, _RAYS, _TURNS, _WHOLE = "ours", "Ray's multiplexing", "round robin", "one with all places"


@dataclass(slots=True)
class Run:
    """What the callers met with one way to choose."""

    heard: list[Played] = field(default_factory=list)
    """As a listener heard them."""
    requests: int = 0
    found: int = 0
    """Requests whose voice was in memory."""
    loads: int = 0
    most: int = 0
    """Voices that one replica had in memory at once."""

    @property
    def first(self) -> list[float]:
        """Seconds to the first audio."""
        return [each.first for each in self.heard]

    @property
    def stuttered(self) -> float:
        """The share of the speeches in whose midst their listener heard nothing."""
        return sum(each.stutters for each in self.heard) / max(1, len(self.heard))

    @property
    def missed(self) -> float:
        """The share of requests whose voice was not in memory."""
        return 1 - self.found / max(1, self.requests)

    @property
    def summary(self) -> str:
        """All of it in a line, for who watches."""
        shares = f"{self.loads} loads, {self.missed:.1%} missed, {self.stuttered:.1%} with silences"
        first = f"first audio {median(self.first):.3f} s, p95 {self.p95:.3f} s"
        return f"{shares}, {first}, at most {self.most} voices in one replica"

    @property
    def p95(self) -> float:
        """Seconds to the first audio."""
        first = self.first
        return quantiles(first, n=20)[-1] if len(first) > 1 else first[0]


class Cluster:
    """Ray Serve on this machine, and one application on it at a time."""

    def __init__(self, voices: Sequence[Path]) -> None:
        self.voices = voices
        self.port = free_port()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run Ray inside the block."""
        from greenroom.cluster.ray_serve.local_cluster import local_ray

        with local_ray():
            from ray import serve
            from ray.serve.config import HTTPOptions

            serve.start(http_options=HTTPOptions(host="127.0.0.1", port=self.port))
            try:
                yield
            finally:
                serve.shutdown()

    def config(self, places: int) -> Config:
        """Return the configuration of each replica."""
        return Config.model_validate(
            {
                "model_manager": {
                    "default_model_id": self.voices[0].stem,
                    "pin_default": False,
                    "resident_cap": places,
                    "cap_policy": "hard",
                    "min_residency_ms": 0,
                    "memory_budget_mb": 8_000,
                },
                "voices": {"directories": [str(self.voices[0].parent)], "packages": []},
                # On a busy machine a speech takes minutes; what is cut is to be the router's fault.
                "worker": {"drain_timeout_ms": 600_000},
            }
        )

    def deploy(self, way: str, replicas: int) -> None:
        """Serve with one way to choose, in the place of what is served."""
        from ray import serve
        from ray.serve.config import RequestRouterConfig

        from benchmarks import ray_deployments as peers
        from greenroom.cluster.ray_serve.application import (
            REPORT_EVERY_S,
            SPEECH,
            behind_ingress,
            speech_options,
        )

        places = peers.PLACES * (replicas if way == _WHOLE else 1)
        config = self.config(places)
        options = speech_options(config) | {"num_replicas": 1 if way == _WHOLE else replicas}
        if way == _RAYS:
            del options["request_router_config"]
            voices = {path.stem: path for path in self.voices}
            speech = serve.deployment(peers.MultiplexedReplica, **options).bind(voices)
        else:
            if way == _TURNS:
                options["request_router_config"] = RequestRouterConfig(
                    request_router_class=peers.RoundRobinRouter,
                    request_routing_stats_period_s=REPORT_EVERY_S,
                )
            speech = serve.deployment(peers.CountedReplica, **options).bind(config)
        serve.run(behind_ingress(speech, config), name="greenroom", route_prefix="/")
        self._speech = serve.get_deployment_handle(SPEECH, "greenroom")
        time.sleep(_REPORTED_S)

    def counts(self) -> list[tuple[int, int, int]]:
        """Return what each replica has counted (`CountedReplica.counts`)."""
        found: list[Any] = self._speech.broadcast("counts").results(timeout_s=30)
        return found

    def most_voices(self) -> int:
        """Return how many voices a replica had in memory at once."""
        found: list[int] = self._speech.broadcast("most_voices").results(timeout_s=30)
        return max(found)

    def lives(self) -> dict[str, int]:
        """Return the processes of the replicas, by the ids that their reports have."""
        return dict(self._speech.broadcast("life").results(timeout_s=30))

    async def reports(self) -> list[dict[str, Any]]:
        """Return what each replica has."""
        async with Listener(self.port) as listener:
            found: list[dict[str, Any]] = (await listener.get("/api/cluster"))["replicas"]
            return found


def measure(effort: Effort, *, listening: bool = True) -> list[Figure]:
    """Measure all of it; a short run has a few requests and voices, two replicas and one peer."""
    cluster = Cluster(prepared_crowd(4 if effort.short else _VOICES))
    requests = effort.count(_REQUESTS, least=30)
    figures: list[Figure] = []
    with cluster.running():
        for replicas in (2,) if effort.short else (2, 4):
            ways = (_OURS, _TURNS) if effort.short else (_OURS, _RAYS, _TURNS, _WHOLE)
            runs = {way: _run(cluster, way, replicas, requests, listening) for way in ways}
            figures += _compared(f"{replicas} replicas", runs, _MOST_LOADS[replicas])
            for way, run in runs.items():
                print(f"{replicas} replicas, {way}: {run.summary}", file=sys.stderr)
        many = 2 if effort.short else 4
        cluster.deploy(_OURS, many)
        figures += asyncio.run(_killed(cluster))
        cluster.deploy(_OURS, many)
        figures += asyncio.run(_scaled_down(cluster, many, many // 2))
    return figures


def _run(cluster: Cluster, way: str, replicas: int, requests: int, listening: bool) -> Run:
    cluster.deploy(way, replicas)
    weights = [1 / (number + 1) for number in range(len(cluster.voices))]
    names = [path.stem for path in cluster.voices]
    asked = iter(random.Random(1).choices(names, weights, k=requests))
    run = Run()

    async def call() -> None:
        async with Listener(cluster.port) as listener:
            for voice in asked:
                watch = Stopwatch()
                answer = await listener.say(_TEXT, voice)
                assert answer.status == 200, answer
                run.heard.append(heard := _played(answer))
                if listening:
                    await asyncio.sleep(max(0.0, heard.end - watch.read()))

    async def all_callers() -> None:
        await asyncio.gather(*(call() for _ in range(_CALLERS)))

    before = _sums(cluster)
    asyncio.run(all_callers())
    after = _sums(cluster)
    run.requests, run.found, run.loads = (b - a for a, b in zip(before, after, strict=True))
    run.most = cluster.most_voices()
    return run


def _played(answer: Heard) -> Played:
    """Return an answer as a listener hears it who begins with its first piece."""
    seconds = [len(piece) / _BYTES_A_SECOND for piece in answer.pieces]
    return play(map(Piece, answer.arrivals, seconds))


def _sums(cluster: Cluster) -> list[int]:
    return [sum(column) for column in zip(*cluster.counts(), strict=True)]


def _compared(head: str, runs: dict[str, Run], most_loads: float) -> list[Figure]:
    from benchmarks.ray_deployments import PLACES

    ours = runs[_OURS]
    figures = []
    for peer in (each for each in (_TURNS, _RAYS) if each in runs):
        theirs, most = runs[peer], most_loads if peer == _TURNS else 1.0
        figures += [
            _figure(f"{head}: loads", ours.loads, peer, theirs.loads, most, unit=""),
            _figure(_MISSED, ours.missed, peer, theirs.missed, 1.0, unit=""),
            _figure("… first audio, p50", median(ours.first), peer, median(theirs.first), 1.0),
            _figure("… first audio, p95", ours.p95, peer, theirs.p95, 1.0),
            _figure(_SILENT, ours.stuttered, peer, theirs.stuttered, None, unit=""),
            Figure(
                f"… voices in memory at once in a replica for {PLACES} places",
                (float(ours.most),),
                "",
                peer,
                (float(theirs.most),),
                at_most=PLACES,
            ),
        ]
    if _WHOLE in runs:
        whole = runs[_WHOLE]
        figures += [
            _figure("… loads", ours.loads, _WHOLE, whole.loads, None, unit=""),
            _figure(_MISSED, ours.missed, _WHOLE, whole.missed, None, unit=""),
        ]
    return figures


def _figure(
    name: str, ours: float, peer: str, theirs: float, most: float | None, *, unit: Any = "s"
) -> Figure:
    return Figure(name, (float(ours),), unit, peer, (float(theirs),), at_most=most, bounds="ratio")


@dataclass(slots=True)
class _Speech:
    """One long speech, and how it ended."""

    voice: str
    seconds: float = 0.0
    """Of audio that came."""
    first_at: float = 0.0
    """By the clock of the process."""
    broke_off: bool = False
    refused: int = 0
    """Its status, where there was no audio."""


async def _speak(cluster: Cluster, speech: _Speech, text: str = _LONG) -> _Speech:
    """Hear one speech to its end, whatever that is."""
    async with Listener(cluster.port) as listener:
        watch = time.perf_counter()
        try:
            heard = await listener.say(text, speech.voice)
        except (ConnectionError, ValueError):
            speech.broke_off = True
            return speech
        if heard.status != 200:
            speech.refused = heard.status
            return speech
        speech.first_at = watch + heard.first
        speech.seconds = len(heard.body) / _BYTES_A_SECOND
    return speech


async def _killed(cluster: Cluster) -> list[Figure]:
    """Kill a replica under load: who notices, and when its voices are elsewhere."""
    names = [path.stem for path in cluster.voices]
    for name in names[:_CALLERS]:
        await _speak(cluster, _Speech(name), _TEXT)
    running = [asyncio.create_task(_speak(cluster, _Speech(n))) for n in names[:_CALLERS]]
    victim: dict[str, Any] = {}
    pids: dict[str, int] = {}
    async with asyncio.timeout(30):
        while victim.get("streams", 0) < 1:
            await asyncio.sleep(0.1)
            victim = max(await cluster.reports(), key=lambda each: each["streams"])
    pids = await asyncio.to_thread(cluster.lives)
    streams, voices = victim["streams"], [each["model_id"] for each in victim["residents"]]
    killed_at = time.perf_counter()
    os.kill(pids[victim["boot_id"]], signal.SIGKILL)
    again = await asyncio.gather(*(_speak(cluster, _Speech(v), _TEXT) for v in voices))
    ended = await asyncio.gather(*running)
    broken = sum(each.broke_off for each in ended)
    failed = sum(bool(each.refused) for each in (*ended, *again))
    longest = max((each.first_at - killed_at for each in again), default=0.0)
    note = f"{len(ended)} streams, {streams} at the replica, {len(voices)} voices there"
    return [
        Figure(
            "a replica killed: streams of others that broke off",
            (float(max(0, broken - streams)),),
            "",
            at_most=0,
            note=note,
        ),
        Figure("… requests refused", (float(failed),), "", at_most=0),
        Figure("… until all its voices are heard elsewhere", (longest,), at_most=2.0),
    ]


async def _scaled_down(cluster: Cluster, before: int, after: int) -> list[Figure]:
    """Make fewer replicas while all of them speak."""
    names = [path.stem for path in cluster.voices]
    for name in names[:_CALLERS]:
        await _speak(cluster, _Speech(name), _TEXT)
    whole = await _speak(cluster, _Speech(names[0]))
    running = [asyncio.create_task(_speak(cluster, _Speech(n))) for n in names[:_CALLERS]]
    async with asyncio.timeout(30):
        speaking = 0
        while speaking < before:
            await asyncio.sleep(0.1)
            speaking = sum(each["streams"] > 0 for each in await cluster.reports())
    watch = Stopwatch()
    await asyncio.to_thread(cluster.deploy, _OURS, after)
    took = watch.read()
    ended = await asyncio.gather(*running)
    short = sum(each.broke_off or each.seconds < 0.9 * whole.seconds for each in ended)
    left = len(await cluster.reports())
    return [
        Figure(
            f"{before} replicas become {after}: streams that were cut",
            (float(short),),
            "",
            at_most=0,
            note=f"{len(ended)} streams, {took:.1f} s until {after} were left",
        ),
        Figure("… replicas left", (float(left),), "", at_most=after),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show, and return 1 when a bound is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray_cluster", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few requests: does it run?")
    parser.add_argument(
        "--no-listening", action="store_true", help="callers ask again without hearing it first"
    )
    parser.add_argument("--write", action="store_true", help=f"also write {RESULTS.name}")
    chosen = parser.parse_args(arguments)
    before = machine.load_average()
    with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as cache:
        os.environ["GREENROOM_CACHE_DIR"] = cache
        os.environ["GREENROOM_PREPARE"] = "on"
        prepare_real_voice()
        figures = measure(SMOKE if chosen.short else FULL, listening=not chosen.no_listening)
    after = machine.load_average()
    preface = [
        *machine.described(),
        f"{date.today()}, load average {before:.1f} before and {after:.1f} after, ours included",
    ]
    listed = [f"- {line}" for line in preface]
    page = report.markdown({ABOUT: figures}, listed)
    print(page, end="")
    if chosen.write:
        whole = RESULTS.read_text(encoding="utf-8")
        RESULTS.write_text(report.updated(whole, page, listed), encoding="utf-8")
    missed = [figure.name for figure in figures if figure.holds is False]
    for name in missed:
        print(f"missed its bound: {name}", file=sys.stderr)
    return 1 if missed and not chosen.short else 0


if __name__ == "__main__":
    sys.exit(main())
