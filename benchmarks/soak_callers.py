"""Callers of the soak: over HTTP and gRPC, patient and hasty, and what each of them heard."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import numpy as np

from benchmarks.soak_worker import CANARY, HANGING, JOE, LOAD_LIMIT_S, RUBBISH, STRICT, TONES
from greenroom.v1 import tts_pb2, tts_pb2_grpc

GOOD = (*TONES, *TONES, JOE, STRICT)
TEXTS = ("Good evening to all of you.", "One. Two. And three!", "It is late; the train has left.")
ANSWER_S = 60.0
"""A whole answer comes sooner: waiting for room 20 s, loading 8 s, and a busy machine."""

CANARY_S = 25.0
"""The canary has spoken by then: the limits of a load of another, of its clean-up, and its own."""

_REFUSED = (429, 503)
_NO_ROOM = ("no_room", "too_many_requests", "RESOURCE_EXHAUSTED")
"""What a good model may be refused with at any time."""


@dataclass
class Score:
    """What happened so far."""

    done: Counter[str] = field(default_factory=Counter)
    """By kind of request: how often it came to its end."""
    refused: Counter[str] = field(default_factory=Counter)
    """Typed refusals, by status: of good models, and of bad ones."""
    breaches: Counter[str] = field(default_factory=Counter)
    """What must not happen."""
    slowest_canary_s: float = 0.0
    excused_until: float = 0.0
    """While no thread is to be had, and a little after, good speech may fail, typed."""


class Callers:
    """Two connections to the worker, and everything that is done over them."""

    def __init__(self, http: str, address: str, score: Score, dice: random.Random) -> None:
        limits = httpx.Limits(max_connections=64)
        self.web = httpx.AsyncClient(
            base_url=http, timeout=ANSWER_S, trust_env=False, limits=limits, verify=False
        )
        self.channel = grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        self.stub: Any = tts_pb2_grpc.TTSServiceStub(self.channel)
        self.score = score
        self.dice = dice
        self.whole: dict[tuple[str, str, str], int] = {}
        """Bytes of PCM by protocol, model and text, from a rendering when nothing else ran."""
        self._number = 0

    async def close(self) -> None:
        """Disconnect."""
        await self.web.aclose()
        await self.channel.close()

    async def render_all(self) -> None:
        """Learn how much audio each good model makes of each text."""
        for model in (*TONES, JOE, STRICT, CANARY):
            for text in TEXTS:
                self.whole["http", model, text] = len(await self._over_http(model, text))
                self.whole["grpc", model, text] = await self._over_grpc(model, text)

    async def act(self, until: float) -> None:
        """Do one random thing after the other."""
        kinds: tuple[tuple[int, Callable[[], Awaitable[None]]], ...] = (
            (6, self.speak_over_http),
            (6, self.speak_over_grpc),
            (4, self.speak_strictly),
            (3, self.hold_a_session),
            (3, self.leave_early),
            (2, self.read_slowly),
            (4, self.administer),
            (3, self.use_the_bad),
        )
        weights = [weight for weight, _ in kinds]
        while asyncio.get_running_loop().time() < until:
            ((_, kind),) = self.dice.choices(kinds, weights)
            try:
                async with asyncio.timeout(2 * ANSWER_S):
                    await kind()
                self.score.done[kind.__name__] += 1
            except TimeoutError:
                self.score.breaches[f"{kind.__name__} did not end"] += 1
            except Refused as refused:
                self.score.refused[str(refused)] += 1
            except Exception as error:  # noqa: BLE001 - every other outcome is one to report
                self.score.breaches[f"{kind.__name__}: {type(error).__name__} {error!s:.120}"] += 1
            await asyncio.sleep(self.dice.random() * 0.05)

    async def speak_over_http(self) -> None:
        """A good model speaks, whole."""
        model, text = self.dice.choice(GOOD), self.dice.choice(TEXTS)
        self._compare("http", model, text, len(await self._over_http(model, text)))

    async def speak_over_grpc(self) -> None:
        """Likewise over gRPC."""
        model, text = self.dice.choice(GOOD), self.dice.choice(TEXTS)
        self._compare("grpc", model, text, await self._over_grpc(model, text))

    async def speak_strictly(self) -> None:
        """Of an engine with one place each caller hears only its own level."""
        self._number = (self._number + 1) % 80
        level = self._number + 10
        text = " ".join([f"Level {level}."] * 3)
        samples = np.frombuffer(await self._over_http(STRICT, text), "<i2")
        off = np.abs(samples / 32_767 - level / 100) > 0.01
        if off.any():
            self.score.breaches["a caller heard what another one had said"] += 1

    async def hold_a_session(self) -> None:
        """Start a session, speak in it, control it, and end it, or forget it."""
        model, text = self.dice.choice(GOOD), self.dice.choice(TEXTS)
        with typed(self):
            started = await self.stub.StartSession(
                tts_pb2.StartSessionRequest(model_id=model), timeout=ANSWER_S
            )
        session = started.session_id
        call = self._synthesize(text, session_id=session)
        command = self.dice.choice((None, None, tts_pb2.PAUSE, tts_pb2.STOP))
        heard, stopped = 0, False
        with typed(self):
            async for frame in call:
                heard += len(frame.audio_data)
                if command is not None and not stopped:
                    stopped = command == tts_pb2.STOP
                    await self._control(session, command)
                    await self._control(session, tts_pb2.RESUME)
                    command = None
        if not stopped:
            self._compare("grpc", model, text, heard)
        if self.dice.random() < 0.7:
            with typed(self):
                await self.stub.EndSession(tts_pb2.EndSessionRequest(session_id=session))

    async def leave_early(self) -> None:
        """Cancel a call, or close a connection, at a random moment."""
        model, text = self.dice.choice(GOOD), " ".join(TEXTS * 3)
        wait = self.dice.random() * 0.3
        if self.dice.random() < 0.5:
            call = self._synthesize(text, model_id=model)
            reading = asyncio.create_task(_read_all(call))
            await asyncio.sleep(wait)
            call.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.exception()
            return
        with contextlib.suppress(TimeoutError, Refused):
            async with asyncio.timeout(wait):
                await self._over_http(model, text)

    async def read_slowly(self) -> None:
        """Take the audio with pauses; it comes whole all the same."""
        model, text = self.dice.choice(TONES), self.dice.choice(TEXTS)
        call, heard = self._synthesize(text, model_id=model), 0
        with typed(self):
            async for frame in call:
                heard += len(frame.audio_data)
                if self.dice.random() < 0.05:
                    await asyncio.sleep(0.1)
        self._compare("grpc", model, text, heard)

    async def administer(self) -> None:
        """Load, unload, pin, unpin, explain and look; every answer is JSON, or metrics."""
        model = self.dice.choice((*TONES, JOE, STRICT, RUBBISH, HANGING))
        path = self.dice.choice(
            ("load", "unload", "unload", "unpin", "keep-alive", "explain", "ps")
        )
        body: dict[str, Any] = {"model": model}
        if path == "keep-alive":
            body["keep_alive"] = "2s"
        if path == "unload":
            body["drain"] = self.dice.random() < 0.3
        if path in ("explain", "ps"):
            name = f"/api/explain/{model}" if path == "explain" else "/api/ps"
            answer = await self.web.get(name)
        elif model == JOE and path == "unpin":
            answer = await self.web.get("/metrics")
        else:
            if path == "unpin":
                await self.web.post("/api/pin", json=body)
            answer = await self.web.post(f"/api/{path}", json=body)
        known = (200, 409, *_REFUSED, *((500,) if model in (RUBBISH, HANGING) else ()))
        if answer.status_code not in known:
            raise ConnectionError(f"{path} {model}: {answer.status_code} {answer.text:.100}")

    async def use_the_bad(self) -> None:
        """A bad model may fail in any typed way; it ends, and that is all."""
        model = self.dice.choice((RUBBISH, RUBBISH, HANGING))
        try:
            if self.dice.random() < 0.5:
                await _read_all(self._synthesize(TEXTS[0], model_id=model))
            else:
                await self._over_http(model, TEXTS[0], bad=True)
        except grpc.aio.AioRpcError as error:
            if error.code().name == "UNKNOWN":
                raise
        except httpx.RemoteProtocolError:
            pass  # it failed amid its audio

    async def sing(self, until: float) -> None:
        """The canary: it is unloaded, loads and speaks within its limit, all along."""
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            began = loop.time()
            try:
                async with asyncio.timeout(CANARY_S):
                    await self.web.post("/api/unload", json={"model": CANARY, "drain": False})
                    audio = await self._over_http(CANARY, TEXTS[0])
                self._compare("http", CANARY, TEXTS[0], len(audio))
                self.score.done["canary"] += 1
            except TimeoutError:
                self.score.breaches[f"the canary did not speak within {CANARY_S:g} s"] += 1
            except Refused as refused:
                if loop.time() > self.score.excused_until:
                    self.score.breaches[f"the canary was refused: {refused}"] += 1
            except Exception as error:  # noqa: BLE001 - every other outcome is one to report
                self.score.breaches[f"the canary: {type(error).__name__} {error!s:.120}"] += 1
            self.score.slowest_canary_s = max(self.score.slowest_canary_s, loop.time() - began)
            await asyncio.sleep(1.0)

    def _compare(self, protocol: str, model: str, text: str, heard: int) -> None:
        wanted = self.whole[protocol, model, text]
        if heard != wanted:
            self.score.breaches[f"{model} over {protocol} was not whole"] += 1

    async def _control(self, session: str, command: Any) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            request = tts_pb2.ControlRequest(session_id=session, command=command)
            await self.stub.Control(request, timeout=ANSWER_S)

    def _synthesize(self, text: str, **first: Any) -> Any:
        async def chunks() -> AsyncIterator[Any]:
            yield tts_pb2.TextChunk(text=text, is_final=True, **first)

        return self.stub.Synthesize(chunks(), timeout=ANSWER_S)

    async def _over_grpc(self, model: str, text: str) -> int:
        with typed(self):
            return await _read_all(self._synthesize(text, model_id=model))

    async def _over_http(self, model: str, text: str, *, bad: bool = False) -> bytes:
        body = {"model": model, "voice": model, "input": text, "response_format": "pcm"}
        try:
            answer = await self.web.post("/v1/audio/speech", json=body)
        except httpx.RemoteProtocolError:
            if bad or not self.excused:
                raise
            raise Refused("cut amid its audio, while no thread was to be had") from None
        if answer.status_code == 200:
            return answer.content
        error = answer.json()["error"]
        told = f"{answer.status_code} {error['code']}"
        if bad or error["code"] in _NO_ROOM or self.excused:
            raise Refused(f"bad: {told}" if bad else told)
        raise ConnectionError(f"{told}: {error['message']:.100}")

    @property
    def excused(self) -> bool:
        """Whether good speech may fail now."""
        return asyncio.get_running_loop().time() < self.score.excused_until


class Refused(Exception):  # noqa: N818 - not an error: a typed refusal
    """A typed answer that is no speech."""


@contextlib.contextmanager
def typed(callers: Callers) -> Any:
    """Tell a refusal from a fault."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        code = error.code().name
        if code in _NO_ROOM or callers.excused:
            raise Refused(code) from None
        raise ConnectionError(f"{code}: {error.details()!s:.100}") from None


async def _read_all(call: Any) -> int:
    return sum([len(frame.audio_data) async for frame in call])


QUIET_S = LOAD_LIMIT_S + 20.0
"""After all have left, and the last hanging thread has ended, nothing is held."""
