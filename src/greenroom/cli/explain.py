"""`greenroom explain`: why a model is, or is not, in a worker's memory."""

from __future__ import annotations

import asyncio
from typing import Any

from greenroom.cli.model_argument import Model
from greenroom.cli.ps import resident_of
from greenroom.cli.shared_options import DEFAULT_SERVER, AsJson, Key, Server, as_dict
from greenroom.cli.terminal.console import out, print_json, print_text
from greenroom.cli.terminal.lines import wrapped_lines
from greenroom.untrusted.printable import escaped


def explain(
    model: Model, server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False
) -> None:
    """Say why a model is, or is not, in a worker's memory.

    Who holds it and since when, holders of one kind together, and what happened to it.
    """
    found = asyncio.run(_explain(model, server, key))
    if not as_json:
        width = out.width if out.is_terminal else None
        print_text("\n".join(wrapped_lines(escaped(found.explanation), width)))
        return
    resident = resident_of(found)
    print_json(
        {
            "model_id": found.model_id,
            "explanation": found.explanation.splitlines(),
            "resident": None if resident is None else as_dict(resident),
        }
    )


async def _explain(model: str, server: str, key: str | None) -> Any:
    from greenroom.worker.client import Client

    async with Client(server, key) as client:
        return await client.explain(model)
