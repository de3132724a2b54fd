"""`greenroom say`: text in, speech to a file, a pipe or the loudspeaker."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterable
from typing import Annotated

import typer

from greenroom.audio import check_rate
from greenroom.audio.frames import OUTPUT_RATE
from greenroom.cli.console import note, working
from greenroom.cli.output import ClosedPipeError, Sink, opened, sink_for
from greenroom.cli.shared_options import (
    ConfigFile,
    Key,
    MaybeServer,
    Settings,
    configuration,
    options_of,
)
from greenroom.cli.speaker import Request, Source, here, there
from greenroom.cli.stdin import pieces
from greenroom.cli.stopwatch import Meter
from greenroom.speech.text import check_source


def say(
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="What to say; `-` reads standard input as it comes."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="A WAV file; `-` is standard output."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="ID", help="Who says it; else the default.")
    ] = "",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="An option of the voice. Repeatable."),
    ] = None,
    speed: Annotated[
        float | None, typer.Option("--speed", help="How fast; 1 is the voice's own.")
    ] = None,
    rate: Annotated[int, typer.Option("--rate", help="Samples a second.")] = OUTPUT_RATE,
    config: ConfigFile = None,
    settings: Settings = None,
    server: MaybeServer = None,
    key: Key = None,
) -> None:
    """Say a text, aloud or into a file.

    Loads the voice in this process, or lets a worker speak. Reports the time to the first audio
    and the real-time factor on standard error.
    """
    options = options_of(option or [])
    if speed is not None:
        options["speed"] = str(speed)
    spoken = _whole(text)
    request = Request(model, options, check_rate(rate))
    source = (
        here(configuration(config, settings), request)
        if server is None
        else there(server, key, request)
    )
    with contextlib.suppress(ClosedPipeError):
        note(asyncio.run(_say(source, spoken, sink_for(output, rate))))


def _whole(text: str | None) -> str | None:
    """Return the text, or `None` for standard input."""
    if text is None and sys.stdin.isatty():
        raise typer.BadParameter("give a TEXT, or `-` for standard input.")
    if text is None or text == "-":
        return None
    check_source(text)
    return text


async def _say(source: Source, text: str | None, sink: Sink) -> str:
    """Return what there is to say about it afterwards."""
    meter = Meter()
    spoken: str | AsyncIterable[str]
    spoken = meter.timed(pieces(sys.stdin.fileno())) if text is None else text
    async with opened(sink) as output:
        with working("loading") as status:
            async with source.speak(spoken, status.update) as frames:
                if text is not None:
                    meter.start()
                async for frame in frames:
                    meter.count(frame)
                    status.update(f"{meter.audio_s:.1f} s of audio")
                    with meter.outside():
                        await output.write(frame.pcm)
                with meter.outside():
                    await output.finish()
    return f"{output.name}: {source.remark}{meter}"
