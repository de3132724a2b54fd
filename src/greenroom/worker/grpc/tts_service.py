"""`greenroom.v1.TTSService`: from messages to `Synthesis` and back, with real status codes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc

from greenroom.audio.frames import FRAME_MS, OUTPUT_RATE, AudioFrame
from greenroom.concurrency.stall_timeout import StallTimeout
from greenroom.errors import (
    EngineCrashedError,
    InvalidInputError,
    SessionMismatchError,
    StalledError,
    SynthesisError,
)
from greenroom.ledger.state import State
from greenroom.speech.text import CheckedText, TextForm
from greenroom.v1 import tts_pb2, tts_pb2_grpc
from greenroom.worker.auth import CALLER, Role, owner_of
from greenroom.worker.grpc.conversions import (
    figures_message,
    frame_message,
    models_message,
    report_message,
)
from greenroom.worker.grpc.errors import answered
from greenroom.worker.speech import Speech
from greenroom.worker.synthesis import Command, Synthesis

SERVICE_NAME: str = tts_pb2.DESCRIPTOR.services_by_name["TTSService"].full_name

_COMMANDS = {
    tts_pb2.PAUSE: Command.PAUSE,
    tts_pb2.RESUME: Command.RESUME,
    tts_pb2.STOP: Command.STOP,
    tts_pb2.RELOAD: Command.RELOAD,
}

_FORMS: dict[int, TextForm | None] = {
    tts_pb2.AS_CONFIGURED: None,
    tts_pb2.PLAIN: "plain",
    tts_pb2.MARKDOWN: "markdown",
}

_Chunks = AsyncIterator[tts_pb2.TextChunk]


class TTSServicer(tts_pb2_grpc.TTSServiceServicer):
    """Translates, and nothing else; every decision is `Synthesis`'s or the manager's."""

    def __init__(self, synthesis: Synthesis) -> None:
        self._synthesis = synthesis
        self._manager = synthesis.manager

    @answered
    async def StartSession(  # noqa: N802 - named by the contract, as are all calls
        self,
        request: tts_pb2.StartSessionRequest,
        context: grpc.aio.ServicerContext[
            tts_pb2.StartSessionRequest, tts_pb2.StartSessionResponse
        ],
    ) -> tts_pb2.StartSessionResponse:
        """Take a session's lease."""
        session = await self._synthesis.start_session(
            request.session_id,
            self._model_id(request.model_id),
            request.options,
            request.sample_rate,
            caller=_name(),
            share=CALLER.get().quota.max_sessions,
            pronunciations=request.pronunciations,
        )
        return tts_pb2.StartSessionResponse(
            session_id=session.session_id,
            model_id=session.voice.model_id,
            sample_rate=session.voice.sample_rate,
            idle_limit_ms=self._synthesis.settings.session_idle_ms,
        )

    @answered
    async def Synthesize(  # noqa: N802
        self,
        request_iterator: _Chunks,
        context: grpc.aio.ServicerContext[tts_pb2.TextChunk, tts_pb2.AudioFrame],
    ) -> None:
        """Speak text as it comes; frames leave as they are made."""
        with CALLER.get().quota.stream():
            first = await self._first(request_iterator)
            text = self._text(first, request_iterator)
            async with self._speech(first, text, context.peer()) as speech:
                await _FrameWriter(context, first.session_id, self._synthesis.patience).send(speech)

    async def _first(self, chunks: _Chunks) -> tts_pb2.TextChunk:
        try:
            async with asyncio.timeout(self._synthesis.patience):
                return await anext(chunks)
        except StopAsyncIteration:
            raise InvalidInputError("no text came; send at least one TextChunk.") from None
        except TimeoutError:
            raise StalledError("no text came in time; send the first TextChunk at once.") from None

    def _text(self, first: tts_pb2.TextChunk, rest: _Chunks) -> CheckedText:
        """Return the text, whole if the first chunk is all of it.

        The first piece is checked before a model is loaded for it.
        """
        limit = self._text_limit()
        if first.text_form not in _FORMS:
            raise InvalidInputError(f"text_form {int(first.text_form)} is not known.")
        form = _FORMS[first.text_form]
        if first.is_final:
            return self._synthesis.text(first.text, limit=limit, form=form)
        pieces = _pieces(first, rest)
        return self._synthesis.text(pieces, limit=limit, first=first.text, form=form)

    def _text_limit(self) -> int:
        return CALLER.get().quota.text_limit(self._synthesis.settings.max_text_chars)

    @contextlib.asynccontextmanager
    async def _speech(
        self, first: tts_pb2.TextChunk, text: CheckedText, peer: str
    ) -> AsyncIterator[Speech]:
        if first.session_id:
            self._check_session_chunk(first)
            speaking = self._synthesis.in_session(
                first.session_id, text, caller=_name(), word_times=first.word_times
            )
        else:
            voice = self._synthesis.voices.choose(
                self._model_id(first.model_id),
                first.options,
                first.sample_rate,
                pronunciations=first.pronunciations,
            )
            voice = replace(voice, word_times=first.word_times)
            owner = owner_of("call", CALLER.get(), peer)
            speaking = self._synthesis.once(voice, text, owner=owner)
        async with speaking as speech:
            yield speech

    def _model_id(self, name: str) -> str:
        """Return the model that one of the worker's aliases means; other names stay as they are.

        An empty one is the default, or all.
        """
        names = self._synthesis.names
        return names.find(name) if name in names.aliases and name not in names else name

    def _check_session_chunk(self, first: tts_pb2.TextChunk) -> None:
        voice = self._synthesis.session(first.session_id, caller=_name()).voice
        its_own = first.options or first.pronunciations
        if its_own or first.sample_rate not in (0, voice.sample_rate):
            raise InvalidInputError(
                "options, pronunciations and sample_rate of a session belong to StartSession."
            )
        asked = self._model_id(first.model_id)
        if asked and self._manager.catalog.get(asked).model_id != voice.model_id:
            raise SessionMismatchError(
                f"session {first.session_id!r} speaks with {voice.model_id!r}; name no model, "
                "or start another session."
            )

    @answered
    async def Control(  # noqa: N802
        self,
        request: tts_pb2.ControlRequest,
        context: grpc.aio.ServicerContext[tts_pb2.ControlRequest, tts_pb2.ControlResponse],
    ) -> tts_pb2.ControlResponse:
        """Pause, resume or stop what a session speaks, or load its model afresh."""
        command = _COMMANDS.get(request.command)
        if command is None:
            raise InvalidInputError(f"command {int(request.command)} is not known.")
        if command is Command.RELOAD:
            CALLER.get().needs(Role.ADMIN)
        count = await self._synthesis.control(request.session_id, command, caller=_name())
        return tts_pb2.ControlResponse(streams=count)

    @answered
    async def EndSession(  # noqa: N802
        self,
        request: tts_pb2.EndSessionRequest,
        context: grpc.aio.ServicerContext[tts_pb2.EndSessionRequest, tts_pb2.EndSessionResponse],
    ) -> tts_pb2.EndSessionResponse:
        """Give back a session's lease."""
        await self._synthesis.end_session(request.session_id, caller=_name())
        return tts_pb2.EndSessionResponse()

    @answered
    async def ListModels(  # noqa: N802
        self,
        request: tts_pb2.ListModelsRequest,
        context: grpc.aio.ServicerContext[tts_pb2.ListModelsRequest, tts_pb2.ListModelsResponse],
    ) -> tts_pb2.ListModelsResponse:
        """Return the catalog and what of it is in memory."""
        return await models_message(self._manager, self._model_id(request.model_id))

    @answered
    async def LoadModel(  # noqa: N802
        self,
        request: tts_pb2.LoadModelRequest,
        context: grpc.aio.ServicerContext[tts_pb2.LoadModelRequest, tts_pb2.LoadModelResponse],
    ) -> tts_pb2.LoadModelResponse:
        """Bring a model into memory, keeping no reference."""
        clock = asyncio.get_running_loop().time
        began = clock()
        model = await self._synthesis.load_model(
            self._model_id(request.model_id),
            owner=owner_of("LoadModel", CALLER.get(), context.peer()),
        )
        took = clock() - began
        if model is not None and model.age_s >= took:
            took = 0.0  # it was ready before the call; a busy worker has only answered late
        return tts_pb2.LoadModelResponse(
            load_duration_ms=int(took * 1000),
            footprint_mb=0.0 if model is None else model.footprint_mb,
        )

    @answered
    async def Prefetch(  # noqa: N802
        self,
        request: tts_pb2.PrefetchRequest,
        context: grpc.aio.ServicerContext[tts_pb2.PrefetchRequest, tts_pb2.PrefetchResponse],
    ) -> tts_pb2.PrefetchResponse:
        """Note that the caller will speak with a model soon."""
        await self._synthesis.prefetch(self._model_id(request.model_id), request.within_s)
        return tts_pb2.PrefetchResponse()

    @answered
    async def GetReport(  # noqa: N802
        self,
        request: tts_pb2.GetReportRequest,
        context: grpc.aio.ServicerContext[tts_pb2.GetReportRequest, tts_pb2.WorkerReport],
    ) -> tts_pb2.WorkerReport:
        """Return what this worker has now."""
        return report_message(self._synthesis.report())

    @answered
    async def GetFigures(  # noqa: N802
        self,
        request: tts_pb2.GetFiguresRequest,
        context: grpc.aio.ServicerContext[tts_pb2.GetFiguresRequest, tts_pb2.GetFiguresResponse],
    ) -> tts_pb2.GetFiguresResponse:
        """Return how this worker is doing now, and what is in its memory."""
        figures = await self._synthesis.figures()
        return figures_message(figures, self._manager.list_resident())

    @answered
    async def UnloadModel(  # noqa: N802
        self,
        request: tts_pb2.UnloadModelRequest,
        context: grpc.aio.ServicerContext[tts_pb2.UnloadModelRequest, tts_pb2.UnloadModelResponse],
    ) -> tts_pb2.UnloadModelResponse:
        """Unload a model once its holders are done."""
        await self._synthesis.unload_model(self._model_id(request.model_id))
        return tts_pb2.UnloadModelResponse()

    @answered
    async def GetCapabilities(  # noqa: N802
        self,
        request: tts_pb2.GetCapabilitiesRequest,
        context: grpc.aio.ServicerContext[
            tts_pb2.GetCapabilitiesRequest, tts_pb2.GetCapabilitiesResponse
        ],
    ) -> tts_pb2.GetCapabilitiesResponse:
        """Return what this worker can do, and its limits."""
        residents = self._manager.list_resident()
        settings = self._synthesis.settings
        return tts_pb2.GetCapabilitiesResponse(
            version=self._synthesis.version,
            default_model_id=self._synthesis.voices.default_model_id,
            resident_models=[r.model_id for r in residents if r.state is State.READY],
            languages=self._manager.catalog.languages,
            default_sample_rate=OUTPUT_RATE,
            frame_duration_ms=FRAME_MS,
            max_text_chars=settings.max_text_chars,
            max_sessions=settings.max_sessions,
            max_streams=settings.max_streams,
            http_address=str(self._synthesis.http_address or ""),
        )


def _name() -> str:
    """Return the name of the key that the present call has; empty where there are no keys."""
    return CALLER.get().name


class _FrameWriter:
    """Writes the frames of one call, numbered from 1, the last one marked."""

    def __init__(
        self,
        context: grpc.aio.ServicerContext[tts_pb2.TextChunk, tts_pb2.AudioFrame],
        session_id: str,
        patience: float,
    ) -> None:
        self._context = context
        self._session_id = session_id
        self._patience = patience
        self._stall = StallTimeout(patience)
        self._number = 0

    async def send(self, speech: Speech) -> None:
        """Send every frame as it is made; raises `StalledError` when one is not taken in time."""
        with contextlib.suppress(TimeoutError):
            async with self._stall:
                await self._send(speech)
                return
        raise StalledError(
            f"no audio was taken for {self._patience:g} s; read faster, or cancel the call."
        )

    async def _send(self, speech: Speech) -> None:
        """Hold one frame back, as it may be the last."""
        held: AudioFrame | None = None
        try:
            async for frame in speech:
                if held is not None:
                    await self._write(speech, held)
                held = frame
        except (InvalidInputError, SynthesisError, EngineCrashedError):
            if held is not None:
                await self._write(speech, held)
            raise
        await self._write(speech, None if speech.stopped else held, final=True)

    async def _write(
        self, speech: Speech, frame: AudioFrame | None, *, final: bool = False
    ) -> None:
        self._number += 1
        message = frame_message(
            frame, self._session_id, speech.sample_rate, self._number, final=final
        )
        await self._stall.wait(self._context.write(message))


async def _pieces(first: tts_pb2.TextChunk, rest: _Chunks) -> AsyncIterator[str]:
    """Yield the pieces of text after the first."""
    async for chunk in rest:
        if chunk.session_id not in ("", first.session_id) or (
            chunk.model_id not in ("", first.model_id)
        ):
            raise InvalidInputError("one call speaks for one session and one model.")
        yield chunk.text
        if chunk.is_final:
            return
