"""A client of many workers: each request goes where its voice is, or where it is heard soonest.

No router in between: the picker asks every worker for its report twice a second, and `rank`
chooses.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Self, cast

from greenroom.audio.frames import AudioFrame
from greenroom.cluster.rank import rank
from greenroom.cluster.reports import Reports
from greenroom.concurrency.tasks import Tasks
from greenroom.errors import InvalidInputError, WorkerError
from greenroom.speech.text import TextForm
from greenroom.untrusted.logs import safe_logger
from greenroom.worker.client import Client

logger = safe_logger(__name__)

REPORT_EVERY_S = 0.5
"""Seconds between two reports of one worker."""

_ANSWER_S = 5.0
"""How long a worker may take for its report. One that takes longer is slow, not gone: it gets
nothing once others have reported and it has not (`Reports.dead_after_s`)."""

_FIRST_REPORTS_S = 2.0
"""How long the first request waits for workers that have not answered yet."""

_ATTEMPTS = 3
"""Workers that one request is sent to, one after another, before it fails."""

_TRIED_AGAIN = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "NOT_FOUND"})
"""Statuses for which another worker may do what this one could not."""

_MOST_NAMES = 10_000
"""Names of voices whose model is remembered."""

_NAME_HOLDS_S = 30.0
"""How long an alias is taken to mean the same model: a worker may read another configuration."""


class Picker:
    """Speaks with the workers at the given addresses; for `async with`.

    `key` is an API key that all of them know. A worker that does not answer gets nothing until it
    does; one that comes back is found by itself. Raises `InvalidInputError` for addresses or a key
    that cannot be such.
    """

    def __init__(self, servers: Sequence[str], key: str | None = None) -> None:
        if not servers:
            raise InvalidInputError("name at least one worker, as host:port.")
        self._clients = {server: Client(server, key) for server in dict.fromkeys(servers)}
        self.reports = Reports()
        """What the workers said, and what was sent to them since."""
        self._problems: dict[str, str] = {}
        """Why a worker does not report."""
        self._lost_servers: set[str] = set()
        self._heard: dict[str, asyncio.Event] = {}
        self._names: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """Models by the names that were asked for, and until when that holds."""
        self._stack = contextlib.AsyncExitStack()
        self._followers = Tasks()

    async def __aenter__(self) -> Self:
        for server, client in self._clients.items():
            await self._stack.enter_async_context(client)
            self._heard[server] = asyncio.Event()
            self._followers.begin(self._follow(server, client), f"reports of {server}")
        await self._first_reports()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._followers.end(_ANSWER_S)
        await self._stack.aclose()

    async def _first_reports(self) -> None:
        """Wait until every worker has reported or failed, or one has and the others take long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_REPORTS_S):
                for heard in self._heard.values():
                    await heard.wait()

    async def _follow(self, server: str, client: Client) -> None:
        """Ask one worker for its report, again and again."""
        clock = asyncio.get_running_loop().time
        while True:
            asked_at = clock()
            try:
                report = await client.report(timeout=_ANSWER_S)
            except WorkerError as error:
                self._problems[server] = str(error)
                if error.code != "DEADLINE_EXCEEDED":
                    self._lost(server, str(error))
            except InvalidInputError as error:
                self._lost(server, str(error))
            else:
                self._problems.pop(server, None)
                self._lost_servers.discard(server)
                self.reports.update(server, report, clock(), made_at=asked_at)
            self._heard[server].set()
            await asyncio.sleep(REPORT_EVERY_S)

    def _lost(self, server: str, problem: str) -> None:
        if server not in self._lost_servers:
            logger.warning("worker %s gets no speech until it reports: %s", server, problem)
        self._lost_servers.add(server)
        self._problems[server] = problem
        self.reports.lost(server)

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
        """Yield the frames of `text`, as `Client.speak` does, from the worker that `rank` chooses.

        Before the first frame a text that is whole is tried again elsewhere when its worker has
        gone, has no room or does not know the voice; then the last worker's error is raised. Text
        that comes in pieces goes to one worker: what was taken of it cannot be sent again. Raises
        `WorkerError`.
        """
        clock = asyncio.get_running_loop().time
        voice = await self._voice(model_id)
        attempts = _ATTEMPTS if isinstance(text, str) else 1
        tried: set[str] = set()
        while True:
            server = self._best(voice, tried, clock())
            tried.add(server)
            self.reports.picked(server, voice, clock())
            heard = False
            frames = self._clients[server].speak(
                text,
                voice,
                options=options,
                sample_rate=sample_rate,
                form=form,
                pronunciations=pronunciations,
                timeout=timeout,
            )
            try:
                async with contextlib.aclosing(cast("AsyncGenerator[AudioFrame]", frames)):
                    async for frame in frames:
                        heard = True
                        yield frame
                return
            except WorkerError as error:
                self._learn(server, voice, error)
                again = error.code in _TRIED_AGAIN and not heard and len(tried) < attempts
                if not again or not self._others(voice, tried, clock()):
                    raise
                logger.warning("worker %s: %s; another is asked", server, error)
            finally:
                self.reports.finished(server, voice, clock())

    def _others(self, voice: str, tried: set[str], now: float) -> list[str]:
        return [s for s in rank(self.reports, voice, now, len(self._clients)) if s not in tried]

    def _best(self, voice: str, tried: set[str], now: float) -> str:
        found = self._others(voice, tried, now)
        if found:
            return found[0]
        problems = sorted(set(self._problems.values())) or ["none of them takes work now."]
        raise WorkerError(
            f"no speech from {len(self._clients)} workers: {problems[0]}", "UNAVAILABLE"
        )

    def _learn(self, server: str, voice: str, error: WorkerError) -> None:
        """Note what a failure says of the worker, before its next report."""
        if error.code == "NOT_FOUND":
            self.reports.lacks(server, voice)
        elif error.code == "UNAVAILABLE" and error.retry_after is None:
            self._lost(server, str(error))

    async def _voice(self, name: str) -> str:
        """Return the model that a name means: what is ranked is models.

        An alias is looked up at a worker, and again after a while. A name that none knows stays
        as it is, and the worker that is asked to speak refuses it.
        """
        now = asyncio.get_running_loop().time()
        name = name or self.reports.default_voice(now)
        if not name or self.reports.knows(name):
            return name
        model, until = self._names.get(name, (name, 0.0))
        if now < until:
            return model
        for server in rank(self.reports, name, now, _ATTEMPTS):
            with contextlib.suppress(WorkerError):
                model = (await self._clients[server].explain(name)).model_id
                self._names[name] = model, now + _NAME_HOLDS_S
                self._names.move_to_end(name)
                break
        if len(self._names) > _MOST_NAMES:
            self._names.popitem(last=False)
        return model

    def __repr__(self) -> str:
        silent = len(self._problems)
        return f"<Picker {len(self._clients)} workers, {silent} silent, {self.reports!r}>"
