"""`greenroom load` and `unload`: bring models into a worker's memory, and out of it."""

from __future__ import annotations

import asyncio
from typing import Any

from greenroom.cli.model_argument import Models
from greenroom.cli.shared_options import DEFAULT_SERVER, AsJson, Key, Server
from greenroom.cli.terminal.console import CommandError, print_json, print_text, spinner
from greenroom.errors import WorkerError

_REFUSED = "FAILED_PRECONDITION"
"""How a worker answers for a model that is not in memory, and not for that alone."""


def load(
    models: Models, server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False
) -> None:
    """Bring models into a worker's memory.

    Keeps no reference to them: they expire like any other.
    """
    loaded = asyncio.run(_load(models, server, key))
    if as_json:
        print_json(loaded)
    for each in () if as_json else loaded:
        took = each["load_s"]
        how = f"after {took:.2f} s" if took else "already"
        print_text(f"{each['model_id']} is in memory {how}, {each['footprint_mb']:,.0f} MB")


async def _load(models: list[str], server: str, key: str | None) -> list[dict[str, Any]]:
    from greenroom.worker.client import Client

    loaded = []
    async with Client(server, key) as client:
        for name in models:
            with spinner(f"loading {name}"):
                answer = await client.load(name)
            took = answer.load_duration_ms / 1000
            loaded.append({"model_id": name, "load_s": took, "footprint_mb": answer.footprint_mb})
    return loaded


def unload(
    models: Models, server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False
) -> None:
    """Have a worker unload models, each as soon as nobody uses it.

    The exit code is 1 if one of them was not in memory.
    """
    unloaded = asyncio.run(_unload(models, server, key))
    if as_json:
        print_json([{"model_id": name} for name in unloaded])
    for name in () if as_json else unloaded:
        print_text(f"{name} is unloaded")
    if absent := [name for name in models if name not in unloaded]:
        are = "is" if len(absent) == 1 else "are"
        raise CommandError(
            f"{', '.join(absent)} {are} not in memory, so there is nothing to unload; "
            "`greenroom ps` shows what is."
        )


async def _unload(models: list[str], server: str, key: str | None) -> list[str]:
    """Unload models and return those that were in memory."""
    from greenroom.worker.client import Client

    unloaded = []
    async with Client(server, key) as client:
        for name in models:
            with spinner(f"waiting for the callers of {name}"):
                try:
                    await client.unload(name)
                except WorkerError as error:
                    absent = error.code == _REFUSED
                    if not absent or (await client.explain(name)).HasField("resident"):
                        raise
                else:
                    unloaded.append(name)
    return unloaded
