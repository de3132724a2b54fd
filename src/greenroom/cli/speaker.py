"""Who speaks: a voice in this process, or a worker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, cast

from greenroom.adapter import ModelSpec
from greenroom.audio.frames import AudioFrame
from greenroom.catalog import registry
from greenroom.catalog.catalog import Catalog
from greenroom.config.schema import Config
from greenroom.model_manager import ModelManager
from greenroom.voice import Voice, VoiceChooser

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted of a voice, whatever the text."""

    model_id: str
    """Empty takes the default."""
    options: Mapping[str, str]
    sample_rate: int


class Source(Protocol):
    """Somebody who speaks."""

    remark: str
    """What there is to say about it afterwards."""

    def speak(
        self, text: str | AsyncIterable[str], progress: Progress
    ) -> AbstractAsyncContextManager[AsyncIterator[AudioFrame]]:
        """Give the frames of `text`; whoever leaves early stops the speech."""


def here(config: Config, request: Request) -> Source:
    """Return a voice of this process; raises for what is wrong before anything is loaded."""
    catalog = Catalog.from_config(config)
    chooser = VoiceChooser(catalog, config.model_manager.default_model_id)
    voice = chooser.choose(request.model_id, request.options, request.sample_rate)
    spec = catalog.get(voice.model_id)
    registry.resolve(spec.adapter).check_spec(spec)
    return _Here(spec, voice)


class _Here:
    """Loads the voice without a warmup: the first words are the text itself."""

    def __init__(self, spec: ModelSpec, voice: Voice) -> None:
        self.remark = ""
        self._spec = spec
        self._voice = voice

    @contextlib.asynccontextmanager
    async def speak(
        self, text: str | AsyncIterable[str], progress: Progress
    ) -> AsyncIterator[AsyncIterator[AudioFrame]]:
        voice = self._voice
        manager = ModelManager(
            catalog=Catalog([self._spec]), default_model_id=voice.model_id, warmup_text=""
        )
        progress(f"loading {voice.model_id}")
        async with manager, manager.lease(voice.model_id, owner="say") as lease:
            load_s = manager.list_resident()[0].load_s
            self.remark = f"{voice.model_id} loaded in {load_s:.2f} s, "
            stream = lease.synthesize_stream(text, sample_rate=voice.sample_rate, **voice.options)
            async with stream:
                yield stream


def there(server: str, key: str | None, request: Request) -> Source:
    """Return a worker."""
    return _There(server, key, request)


class _There:
    def __init__(self, server: str, key: str | None, request: Request) -> None:
        self.remark = f"{request.model_id or 'the default model'} of {server}, "
        self._server = server
        self._key = key
        self._request = request

    @contextlib.asynccontextmanager
    async def speak(
        self, text: str | AsyncIterable[str], progress: Progress
    ) -> AsyncIterator[AsyncIterator[AudioFrame]]:
        from greenroom.worker.client import Client

        request = self._request
        progress(f"asking {self._server}")
        async with Client(self._server, self._key) as client:
            frames = client.speak(
                text,
                request.model_id,
                options=request.options,
                sample_rate=request.sample_rate,
            )
            async with contextlib.aclosing(cast("AsyncGenerator[AudioFrame]", frames)):
                yield frames
