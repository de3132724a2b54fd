"""`greenroom top`: watch how a worker is doing, live; or look once, also as JSON."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from greenroom.cli.ps import resident_of
from greenroom.cli.shared_options import DEFAULT_SERVER, AsJson, Key, Server
from greenroom.cli.terminal.console import out, print_json, print_text
from greenroom.cli.top_table import Look, View, as_json, head_lines, models_lines

if TYPE_CHECKING:
    from greenroom.worker.client import Client


def top(
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    every: Annotated[
        float, typer.Option("--every", min=0.1, metavar="SECONDS", help="How often to look.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and print it.")] = False,
    json: AsJson = False,
) -> None:
    """Watch how a worker is doing, live.

    Streams, requests, how soon speech is heard, gaps, refusals, the cores and the memory, and a
    table of the models in memory and those that were spoken with. P50 and P95 are times to the
    first audio, loading included, and RTF is the real-time factor: seconds in the engine for a
    second of audio; these and /MIN are of the last minute, GAPS since the model was loaded. What
    models share is told with the one in whose MEMORY it counts, once for all of them.

    `q` ends it; `s`, or the arrows to the left and right, sort by another column, `r` turns the
    order round; `/` filters: by words in a model's name, its state or the names of its holders.
    It goes on while a worker is away, and shows it again when it is back. A narrow terminal leaves
    out what is least needed; without a terminal, or with `--json`, it looks once.
    """
    if once or json or not _is_live():
        look = asyncio.run(_look_once(server, key))
        if json:
            print_json(as_json(look))
        else:
            _print(look)
        return
    code = asyncio.run(_watch(server, key, every))
    if code:
        raise typer.Exit(code)


def _is_live() -> bool:
    """Whether there is a terminal to draw on, and to read keys from: Textual uses all three."""
    streams = (sys.__stdin__, sys.__stderr__)
    return (
        out.is_terminal
        and not out.is_dumb_terminal
        and all(stream is not None and stream.isatty() for stream in streams)
    )


def _print(look: Look) -> None:
    width = out.width if out.is_terminal else None
    print_text("\n".join([*head_lines(look, width), "", *models_lines(look, View(), width)]))


async def look_at(client: Client, server: str) -> Look:
    """Return how the worker is doing now; raises what `Client.figures` raises."""
    figures, models = await client.figures()
    residents = [found for model in models if (found := resident_of(model)) is not None]
    return Look(server, figures, tuple(residents))


async def _look_once(server: str, key: str | None) -> Look:
    from greenroom.worker.client import Client

    async with Client(server, key) as client:
        return await look_at(client, server)


async def _watch(server: str, key: str | None, every: float) -> int:
    """Watch until the end; return the exit code."""
    from greenroom.cli.top_screen import TopScreen
    from greenroom.worker.client import Client

    async with Client(server, key) as client:

        async def look() -> Look:
            return await look_at(client, server)

        # One that is not there at the start is an error: its address may be wrong.
        return await TopScreen(look, await look(), every).run_live()
