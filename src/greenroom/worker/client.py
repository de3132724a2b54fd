"""A small client of one worker: speech as frames, models, and errors of one line."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import grpc

from greenroom.audio.frames import AudioFrame
from greenroom.config.address import Address
from greenroom.config.api_key import is_sendable
from greenroom.errors import InvalidInputError, WorkerError
from greenroom.speech.text import TextForm
from greenroom.untrusted.printable import printable_repr
from greenroom.v1 import tts_pb2, tts_pb2_grpc
from greenroom.worker.figures import WorkerFigures
from greenroom.worker.grpc import MAX_MESSAGE_BYTES
from greenroom.worker.grpc.conversions import figures_in, report_in
from greenroom.worker.grpc.errors import CallStatus, status_in, worker_error
from greenroom.worker.health_probe import health_at
from greenroom.worker.report import WorkerReport

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # a worker is next door, whatever the environment says
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 2_000),  # one that comes back is found again at once
    ("grpc.http2.bdp_probe", 0),  # a slow reader has one second in its pipes, not forty
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)
_FORMS: dict[TextForm | None, tts_pb2.TextForm] = {
    None: tts_pb2.AS_CONFIGURED,
    "plain": tts_pb2.PLAIN,
    "markdown": tts_pb2.MARKDOWN,
}
_LOOK_S = 10.0
"""Of a call that changes nothing: a worker that answers at all answers sooner."""

_LOAD_S = 120.0
"""Longer than a load or a drain may take by default, waiting for room included."""


class Client:
    """Calls one worker, at `host:port` or `unix:/path`; for `async with`.

    `key` is one of the worker's API keys, where it has some. Every method raises
    `WorkerError`; an address or a key that cannot be one is an `InvalidInputError`.
    """

    def __init__(self, address: str, key: str | None = None) -> None:
        if key and not is_sendable(key):
            raise InvalidInputError("an API key has printable ASCII characters and no spaces.")
        try:
            self.address = str(Address.parse_target(address))
        except ValueError as error:
            problem = f"the worker's address {error}, not {printable_repr(address)}."
            raise InvalidInputError(problem) from None
        self._key = key
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._has_answered = False
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        self._stub = tts_pb2_grpc.TTSServiceStub(self._channel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def speak(
        self,
        text: str | AsyncIterable[str],
        model_id: str = "",
        *,
        options: Mapping[str, str | int | float] | None = None,
        sample_rate: int = 0,
        form: TextForm | None = None,
        pronunciations: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[AudioFrame]:
        """Yield the frames of `text`, or of pieces of text as they come, as they are made.

        An empty id is the worker's default model, rate 0 is 48 kHz, no `form` is the worker's,
        `pronunciations` go before the worker's, `timeout` is in seconds for
        the whole call. Leaving the iteration (close the generator) cancels the call.
        """
        first = tts_pb2.TextChunk(
            model_id=model_id,
            options={key: str(value) for key, value in (options or {}).items()},
            sample_rate=sample_rate,
            text_form=_FORMS[form],
            pronunciations=pronunciations or {},
        )
        source = _Source(text, first)
        async with self._errors():
            call = self._stub.Synthesize(source.chunks(), timeout=timeout, metadata=self._metadata)
            status = CallStatus(call)
            try:
                async for frame in call:
                    if frame.audio_data:
                        yield AudioFrame(frame.audio_data, frame.sample_rate)
            except grpc.aio.AioRpcError as error:
                raise await status.error(error) from None
            except asyncio.CancelledError:
                source.raise_error()
                raise
            finally:
                call.cancel()

    async def list_models(self) -> tts_pb2.ListModelsResponse:
        """Return the catalog, what of it is in memory, and the limits."""
        request = tts_pb2.ListModelsRequest()
        async with self._errors():
            answer: tts_pb2.ListModelsResponse = await self._stub.ListModels(
                request, timeout=_LOOK_S, metadata=self._metadata
            )
            return answer

    async def explain(self, model_id: str) -> tts_pb2.Model:
        """Return one model with its `explanation`: why it is or is not in memory."""
        request = tts_pb2.ListModelsRequest(model_id=model_id)
        async with self._errors():
            answer = await self._stub.ListModels(request, timeout=_LOOK_S, metadata=self._metadata)
            model: tts_pb2.Model = answer.models[0]
            return model

    async def load(self, model_id: str, *, timeout: float = _LOAD_S) -> tts_pb2.LoadModelResponse:
        """Bring a model into memory; `timeout` is in seconds."""
        request = tts_pb2.LoadModelRequest(model_id=model_id)
        async with self._errors():
            answer: tts_pb2.LoadModelResponse = await self._stub.LoadModel(
                request, timeout=timeout, metadata=self._metadata
            )
            return answer

    async def unload(self, model_id: str, *, timeout: float = _LOAD_S) -> None:
        """Unload a model once its holders are done; `timeout` is in seconds."""
        request = tts_pb2.UnloadModelRequest(model_id=model_id)
        async with self._errors():
            await self._stub.UnloadModel(request, timeout=timeout, metadata=self._metadata)

    async def capabilities(self) -> tts_pb2.GetCapabilitiesResponse:
        """Return what the worker can do, and its limits."""
        request = tts_pb2.GetCapabilitiesRequest()
        async with self._errors():
            answer: tts_pb2.GetCapabilitiesResponse = await self._stub.GetCapabilities(
                request, timeout=_LOOK_S, metadata=self._metadata
            )
            return answer

    async def report(self, *, timeout: float = _LOOK_S) -> WorkerReport:
        """Return what the worker has, checked; `InvalidInputError` for what contradicts itself."""
        request = tts_pb2.GetReportRequest()
        async with self._errors():
            answer = await self._stub.GetReport(request, timeout=timeout, metadata=self._metadata)
        return report_in(answer)

    async def figures(self) -> tuple[WorkerFigures, list[tts_pb2.Model]]:
        """Return how the worker is doing, checked, and the models in its memory."""
        request = tts_pb2.GetFiguresRequest()
        async with self._errors():
            answer = await self._stub.GetFigures(request, timeout=_LOOK_S, metadata=self._metadata)
        return figures_in(answer.figures), list(answer.models)

    @contextlib.asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            problem = worker_error(error, self.address)
            self._has_answered = self._has_answered or status_in(error) is not None
        else:
            self._has_answered = True
            return
        # Only of an address that never was a worker's: whoever speaks waits for nothing more.
        if problem.code == "UNAVAILABLE" and not self._has_answered:
            problem = await self._wrong_port() or problem
        raise problem from None

    async def _wrong_port(self) -> WorkerError | None:
        """Return the error that says so where the address is that of a worker's HTTP."""
        address = Address.parse_target(self.address)
        health = await health_at(address, self._key)
        if health is None:
            return None
        fix = "give its gRPC address."
        with contextlib.suppress(ValueError):
            fix = f"gRPC is at {address.beside(Address.parse(str(health.get('grpc', ''))))}."
        return WorkerError(f"{self.address} is the worker's HTTP port; {fix}", "UNAVAILABLE")


class _Source:
    """The text of one call; keeps the error of a source of text that fails.

    gRPC cancels the call then, and would not say why.
    """

    def __init__(self, text: str | AsyncIterable[str], first: tts_pb2.TextChunk) -> None:
        self._text = text
        self._first = first
        self._error: Exception | None = None

    async def chunks(self) -> AsyncIterator[tts_pb2.TextChunk]:
        if isinstance(self._text, str):
            self._first.text = self._text
            self._first.is_final = True
            yield self._first
            return
        yield self._first
        try:
            async for piece in self._text:
                yield tts_pb2.TextChunk(text=piece)
        except Exception as error:
            self._error = error
            raise

    def raise_error(self) -> None:
        """Raise the error of the text, if it failed."""
        if self._error is not None:
            raise self._error
