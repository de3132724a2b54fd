"""`python -m benchmarks.capacity_probe 1 4 16`: callers who play at real time, a line for each N.

A quick look while something is changed; what is recorded is the benchmark `capacity`. Voices are
prepared once and kept in `build/probe`: remove that folder when what is prepared has changed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from benchmarks import capacity_servers, talkers
from benchmarks.capacity_servers import Remote, Server
from benchmarks.talkers import Run, Spoken
from benchmarks.voice_files import prepared_crowd, prepared_files

_CACHE = Path(__file__).parents[1] / "build" / "probe"
_SERVERS = ("worker", "manager", "stock", "streaming-vits", "wyoming")
_COLUMNS = (
    f"{'N':>3} {'speeches':>8} {'gaps':>5} {'late s':>7} {'first p50':>9} {'p95':>6} {'max':>6} "
    f"{'audio/s':>7} {'cpu/audio':>9} {'refused':>7} {'failed':>6} {'client cpu':>10}"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each number of callers."""
    chosen = _parser().parse_args(arguments)
    os.environ.setdefault("GREENROOM_CACHE_DIR", str(_CACHE))
    asyncio.run(_probe(chosen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.capacity_probe",
        description="Callers who play at real time: a line for each number of them.",
    )
    add = parser.add_argument
    add("callers", nargs="*", type=int, default=[1, 4, 8, 16], metavar="N")
    add("--seconds", type=float, default=12.0, help="for how long they ask (12)")
    add("--voices", type=int, default=1, help="over how many voices they are spread (1)")
    add("--server", choices=_SERVERS, default="worker", help="which one is started (worker)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the worker")
    add("--threads", type=int, help="inside a run of the network, of stock")
    add("--port", type=int, help="start none, but ask the worker at this port of HTTP")
    add("--pid", type=int, help="the process of that worker, for its processor time")
    add("--model", action="append", help="a voice of that worker; may be repeated")
    add("--text", default=talkers.TEXT, help="what is said: by default 5.7 s in two sentences")
    add("--at-once", action="store_true", help="all come at one instant, not over one speech")
    add("--closed", action="store_true", help="nobody plays: who has everything asks again")
    add("--speeches", type=int, help="of a closed loop, in all (2 N, at least 8)")
    add("--pause", type=float, metavar="S", help="nobody plays: all rest so long after a speech")
    add("--verbose", action="store_true", help="list each speech and its gaps")
    return parser


async def _probe(chosen: argparse.Namespace) -> None:
    async with _started(chosen) as server:
        print(_COLUMNS, flush=True)
        for callers in chosen.callers:
            began = time.process_time()
            if chosen.closed:
                speeches = chosen.speeches or max(8, 2 * callers)
                run = await server.work(callers, speeches, voices=chosen.voices)
            else:
                run = await server.talk(
                    callers,
                    chosen.seconds,
                    voices=chosen.voices,
                    at_once=chosen.at_once,
                    pause_s=chosen.pause,
                )
            print(f"{line(run)} {time.process_time() - began:8.2f} s", flush=True)
            for error, count in run.errors.items():
                print(f"      {count} failed: {error}")
            if chosen.verbose:
                for spoken in sorted(run.speeches, key=lambda spoken: spoken.asked):
                    print(f"      {described(spoken)}", flush=True)


@contextlib.asynccontextmanager
async def _started(chosen: argparse.Namespace) -> AsyncIterator[Server]:
    text: str = chosen.text
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        if chosen.port:
            models = chosen.model or ["piper-en-us-joe-medium"]
            say = talkers.over_http(chosen.port)
            yield Remote(say, chosen.pid or os.getpid(), text, models)
        elif chosen.server == "worker":
            settings = dict(pair.split("=", 1) for pair in chosen.set)
            paths = prepared_crowd(chosen.voices)
            yield await enter(capacity_servers.worker(paths, text, settings))
        elif chosen.server == "manager":
            paths = prepared_crowd(chosen.voices)
            yield await enter(capacity_servers.manager(paths, text))
        elif chosen.server == "wyoming":
            (voice,) = prepared_files(1)
            yield await enter(capacity_servers.wyoming(voice, text))
        else:
            engine = "piper-tts" if chosen.server == "stock" else chosen.server
            threads = ["--threads", str(chosen.threads)] if chosen.threads else []
            (voice,) = prepared_files(1)
            options = ["--engine", engine, *threads]
            yield await enter(capacity_servers.fastapi(voice, text, *options))


def line(run: Run) -> str:
    """Return what the callers of a run met, in columns."""
    return (
        f"{run.callers:3} {len(run.speeches):8} {run.stuttering:5} {run.late:7.2f} "
        f"{run.first(50):9.3f} {run.first(95):6.3f} {run.first(100):6.3f} "
        f"{run.rate:7.2f} {run.processor_per_audio:9.4f} "
        f"{run.refusals.total():7} {run.errors.total():6}"
    )


def described(spoken: Spoken) -> str:
    """Return one speech and where it fell silent: after how much audio, and for how long."""
    played = spoken.played
    gaps = ", ".join(f"{gap.seconds * 1e3:.0f} ms at {gap.after:.2f} s" for gap in played.gaps)
    return (
        f"{spoken.asked:6.2f} s caller {spoken.caller:2} {spoken.voice}: first audio after "
        f"{played.first:.3f} s, {played.audio:.2f} s of it in {len(spoken.pieces)} pieces, "
        f"all {spoken.pieces[-1].at:.2f} s after asking; {f'silent {gaps}' if gaps else 'no gap'}"
    )


if __name__ == "__main__":
    main()
