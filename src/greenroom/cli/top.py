"""`greenroom top`: watch what is in a worker's memory, live."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from greenroom.cli.ps import SHAPE, ps, resident_of, residents_table, summary
from greenroom.cli.shared_options import DEFAULT_SERVER, Key, Server
from greenroom.cli.terminal.console import out, output_failed
from greenroom.cli.terminal.tables import table_lines


def top(
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    every: Annotated[
        float, typer.Option("--every", min=0.1, metavar="SECONDS", help="How often to look.")
    ] = 1.0,
) -> None:
    """Watch what is in a worker's memory, until Ctrl-C or the end of the terminal.

    Without a terminal it looks once, as `ps` does.
    """
    if out.is_terminal:
        asyncio.run(_watch(server, key, every))
    else:
        ps(server, key)


async def _watch(server: str, key: str | None, every: float) -> None:
    from greenroom.worker.client import Client

    async with Client(server, key) as client:
        view = screen(await client.list_models(), server, out.width)
        with Live(view, console=out, screen=True, auto_refresh=False) as live:
            while out.is_terminal and not output_failed():  # a closed one is none
                await asyncio.sleep(every)
                view = screen(await client.list_models(), server, out.width)
                live.update(view, refresh=True)


def screen(answer: Any, server: str, width: int) -> Text:
    """Return the whole screen for a worker's answer: a summary and the table of residents."""
    residents = [found for model in answer.models if (found := resident_of(model)) is not None]
    head, *body = table_lines(*residents_table(residents), **SHAPE, width=width)
    lines = [
        Text(f"{server}: {summary(answer, len(residents))}; Ctrl-C ends it"),
        Text(),
        Text(head, style="bold"),
        *map(Text, body),
    ]
    return Text("\n").join(lines)
