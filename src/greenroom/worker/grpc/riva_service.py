"""`nvidia.riva.tts.RivaSpeechSynthesis`: what clients of NVIDIA Riva speak with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc

from greenroom.audio.frames import AudioFrame
from greenroom.concurrency.in_steps import in_steps
from greenroom.concurrency.stall_timeout import StallTimeout
from greenroom.errors import InputTooLargeError, InvalidInputError, StalledError
from greenroom.speech.sentence_borders import ends_with_mark, is_blank
from greenroom.speech.text import CheckedText
from greenroom.worker.auth import CALLER, owner_of
from greenroom.worker.encoded_speech import encoded, words_in
from greenroom.worker.grpc import MAX_MESSAGE_BYTES
from greenroom.worker.grpc.errors import answered
from greenroom.worker.grpc.riva_protos import riva_tts_pb2
from greenroom.worker.grpc.riva_request import (
    RivaPlan,
    RivaPlanner,
    check_is_alike,
    check_is_plain,
)
from greenroom.worker.speech import Speech
from greenroom.worker.synthesis import Synthesis

_NAME = "RivaSpeechSynthesis"
SERVICE: str = riva_tts_pb2.DESCRIPTOR.services_by_name[_NAME].full_name

_MOST_AUDIO = MAX_MESSAGE_BYTES - 256 * 1024
"""Bytes of audio in one answer: what else it has fits in beside it."""

_SENTENCE_END = "\n\n"
"""After a request whose text ends a sentence: it is spoken without waiting for the next."""

_SPACE = " "
"""After any other: clients cut long texts anywhere between two words, and leave out the space."""

_Context = grpc.aio.ServicerContext[Any, Any]
_Request = riva_tts_pb2.SynthesizeSpeechRequest
_Requests = AsyncIterator[_Request]


class RivaServicer:
    """Translates, and nothing else; the calls are named by the protocol."""

    def __init__(self, synthesis: Synthesis) -> None:
        self._synthesis = synthesis
        self._planner = RivaPlanner(synthesis)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the calls."""
        audio = riva_tts_pb2.SynthesizeSpeechResponse.SerializeToString
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Synthesize": grpc.unary_unary_rpc_method_handler(
                self.Synthesize, _Request.FromString, audio
            ),
            "SynthesizeOnline": grpc.stream_stream_rpc_method_handler(
                self.SynthesizeOnline, _Request.FromString, audio
            ),
            "GetRivaSynthesisConfig": grpc.unary_unary_rpc_method_handler(
                self.GetRivaSynthesisConfig,
                riva_tts_pb2.RivaSynthesisConfigRequest.FromString,
                riva_tts_pb2.RivaSynthesisConfigResponse.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    @answered
    async def Synthesize(  # noqa: N802
        self, request: _Request, context: _Context
    ) -> riva_tts_pb2.SynthesizeSpeechResponse:
        """Speak a text; answer when all of it is spoken."""
        plan = self._planner.plan(request)
        check_is_plain(request.text)
        text = self._synthesis.text(request.text, limit=self._text_limit())
        with CALLER.get().quota.stream():
            async with self._speech(plan, text, context) as speech:
                audio, frames = await _whole(speech, plan)
        return _answer(plan, audio, frames)

    @answered
    async def SynthesizeOnline(  # noqa: N802
        self, request_iterator: _Requests, context: _Context
    ) -> None:
        """Speak texts as they come; audio leaves as it is made."""
        with CALLER.get().quota.stream():
            first = await self._first(request_iterator)
            plan = self._planner.plan(first)
            limit = self._text_limit()
            text = self._synthesis.text(
                _texts(first, request_iterator, limit), limit=limit, first=first.text
            )
            async with self._speech(plan, text, context) as speech:
                await self._send(speech, plan, context)

    async def _first(self, requests: _Requests) -> _Request:
        """Return the first request that has a text; those before it are as good as none."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._synthesis.patience):
                async for request in requests:
                    if not is_blank(request.text):
                        check_is_plain(request.text)
                        return request
                raise InvalidInputError("text is empty; send at least one word.")
        raise StalledError("no text came in time; send the first request at once.")

    async def _send(self, speech: Speech, plan: RivaPlan, context: _Context) -> None:
        """Send audio as it is made; raises `StalledError` when it is not taken in time."""
        with contextlib.suppress(TimeoutError):
            async with (
                StallTimeout(self._synthesis.patience) as stall,
                _pieces_of(speech, plan) as pieces,
            ):
                async for audio, frames in pieces:
                    if audio or words_in(frames):
                        await stall.wait(context.write(_answer(plan, audio, frames)))
                return
        raise StalledError(
            f"no audio was taken for {self._synthesis.patience:g} s; read faster, or cancel the "
            "call."
        )

    def _speech(
        self, plan: RivaPlan, text: CheckedText, context: _Context
    ) -> contextlib.AbstractAsyncContextManager[Speech]:
        owner = owner_of("Riva call", CALLER.get(), context.peer())
        return self._synthesis.once(plan.voice, text, owner=owner)

    def _text_limit(self) -> int:
        return CALLER.get().quota.text_limit(self._synthesis.settings.max_text_chars)

    @answered
    async def GetRivaSynthesisConfig(  # noqa: N802
        self, request: riva_tts_pb2.RivaSynthesisConfigRequest, context: _Context
    ) -> riva_tts_pb2.RivaSynthesisConfigResponse:
        """Return the voices, an entry for each language of each."""
        catalog = self._synthesis.manager.catalog
        specs = self._synthesis.manager.list_catalog()
        if request.model_name:
            specs = (catalog.get(self._synthesis.names.find(request.model_name)),)
        answer = riva_tts_pb2.RivaSynthesisConfigResponse()
        async for spec in in_steps(specs):
            for language in spec.languages or ("",):
                entry = answer.model_config.add(model_name=spec.model_id)
                entry.parameters["voice_name"] = spec.model_id
                if language:
                    entry.parameters["language_code"] = language
        return answer


async def _whole(speech: Speech, plan: RivaPlan) -> tuple[bytes, list[AudioFrame]]:
    """Return all of the audio; raises `InputTooLargeError` where one answer cannot have it."""
    audio, all_frames = bytearray(), []
    async with _pieces_of(speech, plan) as pieces:
        async for piece, frames in pieces:
            audio += piece
            all_frames += [frame for frame in frames if frame.words]
            if len(audio) > _MOST_AUDIO:
                raise InputTooLargeError(
                    f"the text is more than {_MOST_AUDIO} bytes of audio, too many for one "
                    "answer; ask SynthesizeOnline, or send it in parts."
                )
    return bytes(audio), all_frames


def _pieces_of(speech: Speech, plan: RivaPlan) -> contextlib.aclosing[Any]:
    return contextlib.aclosing(encoded(speech, plan.format))


def _answer(
    plan: RivaPlan, audio: bytes, frames: Iterable[AudioFrame]
) -> riva_tts_pb2.SynthesizeSpeechResponse:
    answer = riva_tts_pb2.SynthesizeSpeechResponse(audio=audio)
    if plan.request_id:
        answer.id.value = plan.request_id
    for word in words_in(frames) or ():
        start, end = (round(seconds * 1000) for seconds in (word.start_s, word.end_s))
        answer.meta.words.add(word=word.text, start_time=start, end_time=end)
    return answer


async def _texts(first: _Request, rest: _Requests, limit: int) -> AsyncIterator[str]:
    """Yield what follows the text of the first request, what stands between two included."""
    left = limit - len(first.text)
    text = first.text
    while True:
        between = _SENTENCE_END if ends_with_mark(text) else _SPACE
        if text and left >= len(between):  # else any text that follows is too long
            left -= len(between)
            yield between
        request = await anext(rest, None)
        if request is None:
            return
        check_is_alike(request, first)
        check_is_plain(request.text)
        text = request.text
        left -= len(text)
        yield text
