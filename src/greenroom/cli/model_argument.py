"""The arguments that name models, and which names a shell may complete them to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Annotated

import typer

from greenroom.cli.shared_options import configuration
from greenroom.concurrency.time_limit import within
from greenroom.config.address import DEFAULT_HTTP_LISTEN, DEFAULT_LISTEN
from greenroom.errors import ModelManagerError

_WORKER_S = 0.5
"""How long a worker may take to say what it has: whoever pressed the key waits for it."""

_CATALOG_S = 2.0

_PLAIN = re.compile(r"[\w.@+/:-]+")
"""Names that mean nothing but themselves on a command line: a shell puts them there unasked."""


def model_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of models that begin with `incomplete`, in order; none if it takes long.

    Those of the worker that the command would ask, if it answers, else those of the configuration.
    """
    try:
        with _silent():
            found = _names_of_worker(ctx) or _names_of_catalog(ctx)
    except Exception:  # noqa: BLE001 - a shell would show it amidst the line that is being typed
        return []
    return sorted(
        {name for name in found if name.startswith(incomplete) and _PLAIN.fullmatch(name)}
    )


Models = Annotated[
    list[str],
    typer.Argument(metavar="MODEL...", help="Ids or aliases.", autocompletion=model_names),
]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="An id or an alias.", autocompletion=model_names)
]


def _names_of_worker(ctx: typer.Context) -> list[str]:
    """Return the names that the worker at `--address` knows; none if it does not answer soon."""
    address = ctx.params.get("server")
    if not isinstance(address, str):
        return []
    # Commands that go over HTTP have another default; the same worker is asked in the same way.
    address = DEFAULT_LISTEN if address == DEFAULT_HTTP_LISTEN else address
    with contextlib.suppress(ModelManagerError, TimeoutError):
        return asyncio.run(_asked(address, ctx.params.get("key")))
    return []


async def _asked(address: str, key: str | None) -> list[str]:
    from greenroom.worker.client import Client

    async with asyncio.timeout(_WORKER_S), Client(address, key) as client:
        answer = await client.list_models()
    return [name for model in answer.models for name in (model.model_id, *model.aliases)]


def _names_of_catalog(ctx: typer.Context) -> list[str]:
    from greenroom.catalog.catalog import Catalog  # only a shell that completes has a use for it

    def read() -> list[str]:
        config = configuration(ctx.params.get("config"), ctx.params.get("settings"))
        catalog = Catalog.from_config(config, warn=False)
        return [name for spec in catalog for name in (spec.model_id, *spec.aliases)]

    return within(_CATALOG_S, read)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Log nothing during the block: no command has set up where to."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)
