"""A first start where memory is scarce: four callers with endless sentences in 1,000 MB.

    python -m benchmarks.container --minutes 5

The worker has its default configuration and an empty cache, in a control group with that limit
where one can be made. Where none can, its budget is stated, and it is ended when it takes more.
It must be alive at the end, and every caller must have had audio or a typed refusal.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil

from benchmarks.processes import free_port, memory_mb, until_it_answers, worker_command
from greenroom.errors import ModelManagerError
from greenroom.memory.usage import DEFAULT_SHARE, MIB
from greenroom.worker.client import Client

LIMIT_MB = 1_000
_VOICE = "piper-en-us-joe-medium"
_CALLERS = 4
_LETTERS = 780
_SENTENCE = (
    "we went on along the river and the road was long and cold so that nobody spoke " * 12
)[:_LETTERS]
_LOOK_PERIOD_S = 0.05
_GROUPS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)


class Scarce:
    """What was seen of the worker and its callers."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.untyped: list[str] = []
        self.peak_mb = 0.0
        self.forms: list[str] = []


def main() -> int:
    """Run the scenario; return 1 when it does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.container")
    parser.add_argument("--minutes", type=float, default=5.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as cache, _group() as group:
        seen = asyncio.run(_measure(minutes * 60, Path(cache), group))
    print("limit:", f"{LIMIT_MB:,} MB", "of a control group" if group else "watched from outside")
    print(f"the worker and its children took up to {seen.peak_mb:,.0f} MB of anonymous memory")
    for outcome, count in seen.outcomes.most_common():
        print(f"{count:6} {outcome}")
    for line in (*seen.forms, *seen.untyped):
        print(" ", line)
    return 1 if seen.untyped or not seen.outcomes["spoken"] else 0


@contextlib.contextmanager
def _group() -> Iterator[Path | None]:
    """Have a control group with the limit inside the block, or nothing where none can be made."""
    for root, limit in _GROUPS:
        group = root / f"greenroom-benchmark-{os.getpid()}"
        with contextlib.suppress(OSError):
            if not (root / limit).exists() and not (root / "cgroup.controllers").exists():
                continue
            group.mkdir()
            try:
                (group / limit).write_text(str(LIMIT_MB * MIB))
            except OSError:
                group.rmdir()
                continue
            try:
                yield group
            finally:
                group.rmdir()
            return
    yield None


async def _measure(seconds: float, cache: Path, group: Path | None) -> Scarce:
    seen = Scarce()
    async with _worker(cache, group) as (running, address), Client(address) as client:
        await until_it_answers(running, client.capabilities, ModelManagerError)
        until = time.monotonic() + seconds
        watching = asyncio.create_task(_watch(running, group, seen))
        await asyncio.gather(*(_call(client, until, seen) for _ in range(_CALLERS)))
        watching.cancel()
        await asyncio.wait([watching])
        if running.returncode is not None:
            seen.untyped.append(f"the worker ended with {running.returncode}")
        else:
            seen.forms.append(str(await client.explain(_VOICE)))
    return seen


@contextlib.asynccontextmanager
async def _worker(
    cache: Path, group: Path | None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    address = f"127.0.0.1:{free_port()}"
    settings: dict[str, object] = {"worker.listen": address, "worker.http_listen": "null"}
    if group is None:
        settings["model_manager.memory_budget_mb"] = int(LIMIT_MB * DEFAULT_SHARE)
    environment = {**os.environ, "GREENROOM_CACHE_DIR": str(cache), "GREENROOM_PREPARE": "on"}
    command = worker_command(settings)
    if group is not None:
        enter = f'echo $$ > {group}/cgroup.procs && exec "$@"'
        command = ["sh", "-c", enter, "sh", *command]
    log = cache / "log"
    with log.open("wb") as said:
        running = await asyncio.create_subprocess_exec(
            *command, stdout=said, stderr=said, env=environment
        )
    try:
        yield running, address
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.terminate()
        await running.wait()
        print(log.read_text(errors="replace")[-4_000:], file=sys.stderr)


async def _call(client: Client, until: float, seen: Scarce) -> None:
    """Speak again and again; a refusal waits for a moment, as a client would."""
    while time.monotonic() < until:
        try:
            async for _ in client.speak(_SENTENCE, timeout=120.0):
                pass
            seen.outcomes["spoken"] += 1
        except ModelManagerError as error:
            seen.outcomes[f"refused: {type(error).__name__}"] += 1
            await asyncio.sleep(1.0)
        except Exception as error:  # noqa: BLE001 - whatever is not typed is what is looked for
            seen.untyped.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(1.0)


async def _watch(running: asyncio.subprocess.Process, group: Path | None, seen: Scarce) -> None:
    """Note what the worker and its children take; where no group does, end what takes too much."""
    while running.returncode is None:
        with contextlib.suppress(psutil.Error):
            family = [running.pid, *(c.pid for c in psutil.Process(running.pid).children(True))]
            seen.peak_mb = max(seen.peak_mb, sum(memory_mb(pid)[1] for pid in family))
        if group is None and seen.peak_mb > LIMIT_MB:
            running.kill()
        await asyncio.sleep(_LOOK_PERIOD_S)


if __name__ == "__main__":
    sys.exit(main())
