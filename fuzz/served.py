"""A worker that hostile clients are sent to, and the rules that hold after each of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Iterator
from typing import Any

from fuzz.shorter import one_left_out
from fuzz.watchdog import Watchdog
from greenroom import Catalog, ModelManager
from greenroom.config.schema import Config
from greenroom.worker.app import Worker

ANSWER_S = 10.0
"""Every whole request is answered sooner; the worker's own patience is shorter."""

PATIENCE_MS = 2_000
LONGEST_TEXT = 400
MODELS = ("tone-220", "tone-247", "tone-277", "tone-440")

_QUIET_S = 6.0
_PROBE = "Are you there?"
_LOGGERS = ("greenroom", "uvicorn", "asyncio", "grpc")


class ServedDoor:
    """A worker with tones over every protocol, on an event loop that turns only in `attempt`.

    An input is a tuple of requests; a kind of door says how to draw and how to send one.
    """

    name = ""
    about = ""
    most = 6
    """Requests of one attempt."""

    def open(self, watchdog: Watchdog) -> None:
        """Start the worker, and remember what its models say to the probe."""
        self._watchdog = watchdog
        self.loop = asyncio.new_event_loop()
        self._faults: list[str] = []
        self._handler = _Errors(self._faults)
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self._handler)
        self.loop.set_exception_handler(self._unseen)
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        settings = {
            "listen": "127.0.0.1:0",
            "http_listen": "127.0.0.1:0",
            "wyoming_listen": "127.0.0.1:0",
            "session_idle_ms": PATIENCE_MS,
            "max_text_chars": LONGEST_TEXT,
            "drain_timeout_ms": 0,
        }
        self.worker = await asyncio.to_thread(_worker, settings)
        await self.worker.listen()
        await self.worker.initialize()
        await self.begin()
        self._spoken = await self.speak(_PROBE)

    async def begin(self) -> None:
        """Connect, where connections are kept."""

    async def finish(self) -> None:
        """End what was connected."""

    async def speak(self, text: str) -> int:
        """Return how many bytes of audio the default model makes of the text."""
        raise NotImplementedError

    async def send(self, request: Any) -> list[str]:
        """Send one request, and return what was broken."""
        raise NotImplementedError

    def one(self, dice: random.Random) -> Any:
        """Return one random request."""
        raise NotImplementedError

    def simpler_one(self, request: Any) -> Iterator[Any]:
        """Yield simpler requests."""
        raise NotImplementedError

    def close(self) -> None:
        """End the worker."""
        self.loop.run_until_complete(self._end())
        self.loop.close()
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(self._handler)

    async def _end(self) -> None:
        await self.finish()
        await asyncio.wait([asyncio.ensure_future(self.worker.stop())], timeout=20.0)

    def draw(self, dice: random.Random) -> tuple[Any, ...]:
        """Return a few requests."""
        return tuple(self.one(dice) for _ in range(dice.randint(1, self.most)))

    def simpler(self, given: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        """Yield it without a request, then with a simpler one."""
        yield from one_left_out(given)
        for number, request in enumerate(given):
            for less in self.simpler_one(request):
                yield (*given[:number], less, *given[number + 1 :])

    def count(self, given: tuple[Any, ...]) -> int:
        """Return the number of requests."""
        return len(given)

    def attempt(self, given: tuple[Any, ...]) -> list[str]:
        """Send them all at once; afterwards nobody holds anything, and the worker speaks."""
        self._faults.clear()
        self.loop.run_until_complete(self._attempt(given))
        return list(self._faults)

    async def _attempt(self, given: tuple[Any, ...]) -> None:
        ticker = asyncio.create_task(self._watchdog.follow())
        try:
            outcomes = await asyncio.gather(*map(self.send, given), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    self._faults.append(f"the client failed: {outcome!r:.200}")
                else:
                    self._faults += outcome
            await self.worker.synthesis._sessions.end_all()
            await self._quiet()
            await self._speaks()
        finally:
            ticker.cancel()
            await asyncio.wait([ticker])

    async def _quiet(self) -> None:
        manager = self.worker.manager
        limit = self.loop.time() + _QUIET_S
        while True:
            found = manager.statistics()
            held = [r for r in found.residents if r.refcount or r.streams]
            if not held and not found.waiting:
                return
            if self.loop.time() > limit:
                break
            await asyncio.sleep(0.005)
        for one in held:
            what = f"{one.refcount} references, {one.streams} streams"
            self._faults.append(f"{one.model_id} has {what} after all have left")
        if found.waiting:
            self._faults.append(f"{found.waiting} callers wait after all have left")

    async def _speaks(self) -> None:
        try:
            heard = await self.in_time("the probe", self.speak(_PROBE))
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker does not speak
            self._faults.append(
                f"the worker does not speak: {type(error).__name__}: {error!s:.200}"
            )
            return
        if heard is not None and heard != self._spoken:
            self._faults.append(f"the worker speaks {heard} bytes of {self._spoken}")

    async def in_time(self, what: str, answer: Awaitable[Any]) -> Any:
        """Return the answer; one that does not come is a fault."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError:
            self._faults.append(f"{what}: no answer within {ANSWER_S:g} s")
            return None

    def _unseen(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._faults.append(f"unseen: {context.get('message')}: {context.get('exception')!r:.200}")


def _worker(settings: dict[str, Any]) -> Worker:
    manager = ModelManager(
        catalog=Catalog.discover("", adapters=["tone"]),
        default_model_id="tone-440",
        resident_cap=4,
        min_residency_ms=0,
    )
    return Worker(Config.model_validate({"worker": settings}), manager)


class _Errors(logging.Handler):
    """Makes an error that only shows in the log a fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        shown = "" if error is None else f": {error!r:.300}"
        self._faults.append(f"log: {record.getMessage()[:300]}{shown}")


async def silence_or_end(
    reader: asyncio.StreamReader, silence_s: float, most: int = 1 << 20
) -> bytes:
    """Return what comes until the peer closes, falls silent, or has sent too much."""
    found = bytearray()
    with contextlib.suppress(TimeoutError, ConnectionError):
        while len(found) < most:
            async with asyncio.timeout(silence_s):
                piece = await reader.read(65_536)
            if not piece:
                break
            found += piece
    return bytes(found)
