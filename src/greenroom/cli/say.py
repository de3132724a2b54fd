"""`greenroom say`: text in, speech to a file, a pipe or the loudspeaker."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Protocol, cast

import typer

from greenroom.adapter import ModelSpec, open_stream
from greenroom.audio.frames import OUTPUT_RATE, AudioFrame
from greenroom.audio.framing import SampleRate, check_rate
from greenroom.catalog import registry
from greenroom.catalog.catalog import Catalog
from greenroom.catalog.default_voice import check_ids, with_default
from greenroom.cli.model_argument import model_names
from greenroom.cli.shared_options import (
    ConfigFile,
    Key,
    MaybeServer,
    Servers,
    Settings,
    configuration,
    options_of,
)
from greenroom.cli.terminal.console import print_note, spinner
from greenroom.cli.terminal.output import ClosedPipeError, Sink, opened, sink_for
from greenroom.cli.terminal.stdin import pieces
from greenroom.cli.terminal.stopwatch import Stopwatch
from greenroom.config.schema import Config
from greenroom.model_manager import ModelManager
from greenroom.speech.text import CheckedText, TextForm
from greenroom.voice import ModelNames, Voice, VoiceChooser

if TYPE_CHECKING:
    from greenroom.cluster.picker import Picker
    from greenroom.worker.client import Client


class Form(Enum):
    """How a text is read, as the command line says it."""

    PLAIN = "plain"
    MARKDOWN = "markdown"


def say(
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="What to say; `-` reads standard input as it comes."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A file, whose suffix is its format: .wav, .mp3, .opus, .flac, .aac or .pcm; "
            "`-` is standard output, in WAV.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="ID",
            help="Who says it; else the default.",
            autocompletion=model_names,
        ),
    ] = "",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="An option of the voice. Repeatable."),
    ] = None,
    speed: Annotated[
        float | None, typer.Option("--speed", help="How fast; 1 is the voice's own.")
    ] = None,
    text_form: Annotated[
        Form | None,
        typer.Option(
            "--text-form",
            metavar="FORM",
            help="How TEXT is read: `plain`, as written, or `markdown`; else as configured.",
        ),
    ] = None,
    rate: Annotated[int, typer.Option("--rate", help="Samples a second.")] = OUTPUT_RATE,
    config: ConfigFile = None,
    settings: Settings = None,
    server: MaybeServer = None,
    servers: Servers = None,
    key: Key = None,
) -> None:
    """Say a text, aloud or into a file.

    Loads the voice in this process, or lets a worker speak: of several the one that has the voice,
    or has it soonest. Reports the time to the first audio
    and the real-time factor on standard error.
    """
    options = options_of(option or [])
    if speed is not None:
        options["speed"] = str(speed)
    written = _written(text)
    form: TextForm | None = None if text_form is None else text_form.value
    request = SpeechRequest(model, options, check_rate(rate), form)
    speaker: Speaker
    if servers is not None:
        speaker = picking_speaker(servers.split(","), key, request)
    elif server is not None:
        speaker = worker_speaker(server, key, request)
    else:
        speaker = local_speaker(configuration(config, settings), request)
    with contextlib.suppress(ClosedPipeError):
        print_note(asyncio.run(_say(speaker, written, sink_for(output, request.sample_rate))))


def _written(text: str | None) -> str | None:
    """Return a text from the command line; `None` if it is on standard input."""
    if text is None and sys.stdin.isatty():
        raise typer.BadParameter("give a TEXT, or `-` for standard input.")
    return None if text == "-" else text


async def _say(speaker: Speaker, text: str | None, sink: Sink) -> str:
    """Speak to the end, and return one line about it: where it went, and how long it took."""
    stopwatch = Stopwatch()
    source = stopwatch.timed(pieces(sys.stdin.fileno())) if text is None else text
    async with opened(sink) as output:
        spoken = CheckedText(source, form=speaker.form)
        with spinner("loading") as status:
            async with speaker.speak(spoken, status.update) as frames:
                if text is not None:
                    stopwatch.start()
                async for frame in frames:
                    stopwatch.count(frame)
                    status.update(f"{stopwatch.audio_s:.1f} s of audio")
                    with stopwatch.outside():
                        await output.write(frame.pcm)
                with stopwatch.outside():
                    await output.finish()
    return f"{output.name}: {speaker.remark}{stopwatch}"


Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """What is asked of a voice, apart from the text."""

    model_id: str
    """Empty takes the default."""
    options: Mapping[str, str]
    sample_rate: SampleRate
    form: TextForm | None
    """How the text is read; `None` takes what is configured."""


class Speaker(Protocol):
    """What turns text into frames: a voice in this process, or a worker."""

    remark: str
    """What the line about the finished speech begins with."""
    form: TextForm
    """How the text is read here; a worker reads it by itself."""

    def speak(
        self, text: CheckedText, progress: Progress
    ) -> AbstractAsyncContextManager[AsyncIterator[AudioFrame]]:
        """Give the frames of `text`; leaving the block early stops the speech."""


def local_speaker(config: Config, request: SpeechRequest) -> Speaker:
    """Return a voice in this process; raises for a wrong request before anything is loaded."""
    catalog = Catalog.from_config(config, named=(request.model_id,))
    config = with_default(config, catalog)
    settings = config.worker
    model_id = _model_id(request.model_id, catalog, config)
    chooser = VoiceChooser(catalog, model_id, settings.pronunciations)
    voice = chooser.choose(model_id, request.options, request.sample_rate)
    spec = catalog.get(voice.model_id)
    registry.resolve(spec.adapter).check_spec(spec)
    return _LocalSpeaker(spec, voice, request.form or settings.text)


def _model_id(name: str, catalog: Catalog, config: Config) -> str:
    """Return the model that a name means, as over HTTP to a worker with this configuration.

    Raises `ModelNotFoundError`, and `ConfigError` where the default is meant and is not there.
    """
    default = config.model_manager.default_model_id
    names = ModelNames(catalog, config.worker.aliases, default)
    known = names.name(name) if name else default
    if known not in catalog and not names.aliases.get(known):
        check_ids(config.model_manager, catalog)
    return names.find(known)


class _LocalSpeaker:
    """Loads the voice without a warmup: the first words are the text itself."""

    def __init__(self, spec: ModelSpec, voice: Voice, form: TextForm) -> None:
        self.remark = ""
        self.form = form
        self._spec = spec
        self._voice = voice

    @contextlib.asynccontextmanager
    async def speak(
        self, text: CheckedText, progress: Progress
    ) -> AsyncIterator[AsyncIterator[AudioFrame]]:
        voice = self._voice
        text.pronounce(voice.pronunciation)
        manager = ModelManager(
            catalog=Catalog([self._spec]), default_model_id=voice.model_id, warmup_text=""
        )
        progress(f"loading {voice.model_id}")
        async with manager, manager.lease(voice.model_id, owner="say") as lease:
            load_s = manager.list_resident()[0].load_s
            self.remark = f"{voice.model_id} loaded in {load_s:.2f} s, "
            stream = open_stream(lease.adapter, text, voice.options, voice.sample_rate)
            async with stream:
                yield stream


def worker_speaker(server: str, key: str | None, request: SpeechRequest) -> Speaker:
    """Return a speaker that lets the worker at `server` speak."""
    from greenroom.worker.client import Client

    return _WorkerSpeaker(Client(server, key), server, request)


def picking_speaker(servers: Sequence[str], key: str | None, request: SpeechRequest) -> Speaker:
    """Return a speaker that lets one of the workers speak: where the voice is, or soonest."""
    from greenroom.cluster.picker import Picker

    return _WorkerSpeaker(Picker(servers, key), f"{len(servers)} workers", request)


class _WorkerSpeaker:
    form: TextForm = "plain"

    def __init__(self, client: Client | Picker, where: str, request: SpeechRequest) -> None:
        self.remark = f"{request.model_id or 'the default model'} of {where}, "
        self._client = client
        self._where = where
        self._request = request

    @contextlib.asynccontextmanager
    async def speak(
        self, text: CheckedText, progress: Progress
    ) -> AsyncIterator[AsyncIterator[AudioFrame]]:
        request = self._request
        progress(f"asking {self._where}")
        async with self._client as client:
            frames = client.speak(
                text.source,  # the worker checks it, by limits of its own
                request.model_id,
                options=request.options,
                sample_rate=request.sample_rate,
                form=request.form,
            )
            async with contextlib.aclosing(cast("AsyncGenerator[AudioFrame]", frames)):
                yield frames
