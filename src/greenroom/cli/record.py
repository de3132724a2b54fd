"""`greenroom record`: write down what a worker is asked for, to simulate it later."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from greenroom.cli.http_address import http_url
from greenroom.cli.shared_options import HttpServer, Key
from greenroom.cli.terminal.console import KEY_FIX, CommandError, print_note
from greenroom.config.address import DEFAULT_HTTP_LISTEN
from greenroom.simulation.recorder import Line, Recorder

if TYPE_CHECKING:
    import httpx

_CONNECT_S = 10.0
_SILENCE_S = 40.0
"""A worker that is there says so every 15 s."""


def record(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The trace; a file of its own.")
    ],
    server: HttpServer = DEFAULT_HTTP_LISTEN,
    key: Key = None,
    seconds: Annotated[
        float | None,
        typer.Option("--for", min=0.1, metavar="SECONDS", help="How long; else until Ctrl-C."),
    ] = None,
) -> None:
    """Write down what a worker is asked for, as a trace for `greenroom simulate`.

    Follows its events until Ctrl-C, or the worker's end. The trace has the arrival of each request
    for speech, its model, how long it waited and spoke, and how long loads took; no text, no audio
    and no names of callers. A request is written down at its end.
    """
    try:
        file = out.open("x", encoding="utf-8")
    except FileExistsError:
        raise CommandError(f"{out} is there already; remove it, or choose another file.") from None
    except OSError as error:
        raise CommandError(f"{out} cannot be written: {error.strerror}.") from None
    recorder, requests = Recorder(), 0
    with file:
        try:
            url = http_url(server, key)
            requests = asyncio.run(_record(recorder, file, url, key, seconds))
        finally:  # also of a recording that is interrupted
            begun = file.tell() > 0
            if begun:
                _write(file, [recorder.end()])
            else:
                out.unlink()
    if not begun:
        raise CommandError(f"the worker at {server} did not answer in time.")
    print_note(f"{requests:,} requests in {out}")


async def _record(
    recorder: Recorder, file: TextIO, url: str, key: str | None, seconds: float | None
) -> int:
    """Write the lines of a trace; return the number of requests."""
    requests = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for lines in _lines(recorder, url, key):
                requests += sum(line["kind"] == "request" for line in lines)
                # In a thread: a slow disk must not keep the worker's events waiting.
                await asyncio.to_thread(_write, file, lines)
    return requests


async def _lines(recorder: Recorder, url: str, key: str | None) -> AsyncIterator[list[Line]]:
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Timeout(_SILENCE_S, connect=_CONNECT_S)
    try:
        async with (
            httpx.AsyncClient(timeout=limits, headers=headers, trust_env=False) as client,
            client.stream("GET", f"{url}/api/events", params={"speeches": True}) as answer,
        ):
            if answer.status_code != 200:
                raise CommandError(_refusal(url, answer.status_code))
            yield [recorder.head(url.removeprefix("http://"))]
            async for name, content in _events(answer):
                yield list(recorder.lines(name, content))
    except httpx.ReadTimeout:
        raise CommandError(f"the worker at {url} says nothing any more.") from None
    except httpx.ConnectError:
        raise CommandError(f"no worker answers at {url}; start one first.") from None
    except httpx.TransportError as error:
        raise CommandError(f"the connection to {url} broke: {error}.") from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CommandError(f"{url} sends events that are not those of a worker.") from None


async def _events(answer: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """Yield the name and the content of each event."""
    name = data = ""
    async for line in answer.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data += value
        elif not line and name:
            yield name, json.loads(data)
            name = data = ""


def _refusal(url: str, status: int) -> str:
    if status in (401, 403):
        return f"the worker at {url} wants a key that may look. {KEY_FIX}"
    return f"{url} answers {status}: it is no worker of Greenroom, or of an older version."


def _write(file: TextIO, lines: Iterable[Line]) -> None:
    for line in lines:
        file.write(json.dumps(line, separators=(",", ":")) + "\n")
    file.flush()
