"""The one way in for every protocol: sessions, single utterances, loading and unloading.

Protocols bring text and take frames; what is allowed, what is counted and what is given back when
is decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from importlib.metadata import version

from greenroom.config.address import Address
from greenroom.config.schema import WorkerSettings
from greenroom.errors import (
    InvalidInputError,
    ManagerClosedError,
    ModelManagerError,
    SessionNotFoundError,
    StreamEndedError,
    WorkerBusyError,
)
from greenroom.journal import Spoken
from greenroom.model_manager import ModelManager
from greenroom.speech import markdown  # noqa: F401 - else the first request of it waits 0.1 s
from greenroom.speech.text import CheckedText, TextForm
from greenroom.statistics import ResidentStatistics
from greenroom.untrusted.arguments import finite_number
from greenroom.untrusted.logs import safe_logger
from greenroom.voice import ModelNames, Voice, VoiceChooser
from greenroom.worker.auth import STREAM_RETRY_S
from greenroom.worker.default_model import DefaultModel
from greenroom.worker.figures import FigureSource, WorkerFigures
from greenroom.worker.input import TextInput
from greenroom.worker.prometheus import WorkerMetrics, outcome_of
from greenroom.worker.readiness import Readiness
from greenroom.worker.report import Reporter, WorkerReport
from greenroom.worker.sessions import Session, Sessions
from greenroom.worker.speech import RunningSpeech, Speech
from greenroom.worker.voices_by_language import VoicesByLanguage

logger = safe_logger(__name__)

_PREFETCH_S = 10.0
"""Within how many seconds a caller comes that does not say."""

_CUT_LIMIT_S = 5.0
"""How long a stream that was cut off may take to leave its model: one chunk."""


class Command(StrEnum):
    """What a session's running speech, or its model, can be told to do."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    RELOAD = "reload"


class Synthesis:
    """Speaks for callers, within the worker's limits; all methods on one event loop."""

    def __init__(self, manager: ModelManager, settings: WorkerSettings) -> None:
        self.manager = manager
        self.settings = settings
        self.version = version("greenroom")
        self.address: Address | None = None
        """Where gRPC is served, once it is."""
        self.http_address: Address | None = None
        """Where HTTP is served, once it is."""
        self.voices = VoiceChooser(
            manager.catalog, manager.settings.default_model_id, settings.pronunciations
        )
        self.names = ModelNames(manager.catalog, settings.aliases, self.voices.default_model_id)
        self.by_language = VoicesByLanguage(manager.catalog, self.voices.default_model_id)
        self.metrics = WorkerMetrics(manager)
        self.history = self.metrics.history
        self.readiness = Readiness(manager)
        self.reporter = Reporter(manager)
        self._figures = FigureSource(manager, self.metrics.log, self.reporter.boot_id, self.version)
        self.default_model = DefaultModel(manager)
        self.patience = settings.session_idle_ms / 1000
        """Seconds that a caller may leave text, audio or a pause hanging."""
        waits = settings.overload == "wait"
        self._begin_limit = settings.overload_wait_ms / 1000 if waits else 0.0
        """Seconds that a stream may wait until it can be kept up."""
        self._sessions = Sessions(
            manager,
            limit=settings.max_sessions,
            idle_limit=self.patience,
            park_after=settings.session_park_ms / 1000,
        )
        self._speeches: set[Speech] = set()
        self._numbers = itertools.count(1)
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._closing = False

    # Sessions

    async def start_session(
        self,
        session_id: str = "",
        model_id: str = "",
        options: Mapping[str, str] | None = None,
        sample_rate: int = 0,
        *,
        caller: str = "",
        share: int | None = None,
        pronunciations: Mapping[str, str] | None = None,
    ) -> Session:
        """Take a lease and keep it until `end_session`, or until it is idle for too long.

        A repeated call with the same id and voice takes no second one. Each `caller` has ids of
        their own, and at most `share` sessions.
        """
        self._refuse_if_closing()
        voice = self.voices.choose(model_id, options, sample_rate, pronunciations=pronunciations)
        with self.metrics.limited("key_sessions"):
            self._sessions.check_share(session_id, caller, share)
        try:
            with self.metrics.limited("sessions"), self.metrics.waiting():
                return await self._sessions.start(session_id, voice, caller)
        except SessionNotFoundError:  # it was ended while its model was loading
            self._refuse_if_closing()
            raise

    def session(self, session_id: str, *, caller: str = "") -> Session:
        """Return the open session; raises `SessionNotFoundError`."""
        return self._sessions.get(session_id, caller)

    def open_sessions(self) -> tuple[tuple[str, str], ...]:
        """Return the caller and the id of each session that is open."""
        return self._sessions.keys

    async def end_session(self, session_id: str, *, caller: str = "") -> None:
        """Give back the lease of this session alone; its running speech goes on to its end."""
        await self._sessions.end(self._sessions.get(session_id, caller))

    async def control(self, session_id: str, command: Command, *, caller: str = "") -> int:
        """Pause, resume or stop all that the session is speaking, or reload its model.

        Returns how many utterances that concerned.
        """
        session = self._sessions.get(session_id, caller)
        if command is Command.RELOAD:
            self._refuse_if_closing()
            return await self._sessions.reload(session)
        for speech in session.speeches:
            match command:
                case Command.PAUSE:
                    speech.pause()
                case Command.RESUME:
                    speech.resume()
                case Command.STOP:
                    speech.stop()
        self._sessions.touch(session)
        return len(session.speeches)

    # Speaking

    def text(
        self,
        text: str | AsyncIterator[str],
        *,
        limit: int | None = None,
        first: str | None = None,
        form: TextForm | None = None,
    ) -> CheckedText:
        """Return the text of a request, checked: the one way for it into the worker.

        `limit` is the caller's, in characters, and so is `form`; none is the worker's. The pieces
        of a text that comes in pieces, of which `first` may be there already, are waited for within
        `patience`.
        Raises `InvalidInputError`; a later piece raises it, or `StalledError`, when it is spoken.
        """
        limit = limit or self.settings.max_text_chars
        form = form or self.settings.text
        if isinstance(text, str):
            return CheckedText(text, limit=limit, form=form)
        return CheckedText(TextInput(text, self.patience), limit=limit, first=first, form=form)

    @contextlib.asynccontextmanager
    async def in_session(
        self, session_id: str, text: CheckedText, *, caller: str = "", word_times: bool = False
    ) -> AsyncIterator[Speech]:
        """Speak with the session's voice; the frames are those of the yielded speech.

        With `word_times` they have words, where the engine knows them.
        """
        session = self._sessions.get(session_id, caller)
        voice = replace(session.voice, word_times=word_times)
        text.pronounce(session.voice.pronunciation)
        model_id = session.voice.model_id
        with (
            self._booked(model_id, session.owner) as speech,
            self._sessions.running(session, speech),
        ):
            async with speech.waiting():
                lease = await self._sessions.lease_of(session)
            with self.metrics.speaking(model_id, speech):
                retake = functools.partial(self._sessions.lease_of, session)
                async with speech.begun(lease, voice, text, retake=retake):
                    yield speech

    @contextlib.asynccontextmanager
    async def once(self, voice: Voice, text: CheckedText, *, owner: str) -> AsyncIterator[Speech]:
        """Speak with a lease that lasts as long as the speech."""
        text.pronounce(voice.pronunciation)
        with self._booked(voice.model_id, owner) as speech:
            lease = self.manager.lease(voice.model_id, owner=owner)
            with self.metrics.waiting():
                async with speech.waiting():
                    await lease.acquire()
            try:
                with self.metrics.speaking(voice.model_id, speech):
                    async with speech.begun(lease, voice, text, retake=lease.retake):
                        yield speech
            finally:
                await lease.release()

    @contextlib.contextmanager
    def _booked(self, model_id: str, owner: str) -> Iterator[Speech]:
        """Book a slot for one more speech before anything is awaited; at its end, tell how it went.

        To the end of the block all is given back that the speech has taken.
        """
        self._refuse_if_closing()
        with self.metrics.limited("streams"):
            self._refuse_if_full()
        speech = Speech(
            self.patience,
            self._begin_limit,
            number=next(self._numbers),
            model_id=model_id,
            owner=owner,
        )
        self._speeches.add(speech)
        self._quiet.clear()
        failed = False
        try:
            yield speech
        except ModelManagerError:
            failed = True
            raise
        finally:
            self._speeches.discard(speech)
            if not self._speeches:
                self._quiet.set()
            self._publish(model_id, owner, speech, failed=failed)

    def _publish(self, model_id: str, owner: str, speech: Speech, *, failed: bool) -> None:
        timing = speech.timing
        if failed:
            outcome = "failed" if timing.waited_s is not None else "refused"
        else:
            outcome = outcome_of(speech)
        took = timing.age_s
        waited = took if timing.waited_s is None else timing.waited_s
        spoken = Spoken(outcome, waited, timing.first_audio_s, timing.audio_s, took)
        now = asyncio.get_running_loop().time()
        self.manager.journal.publish_speech(model_id, owner, spoken, now)

    def running(self) -> list[RunningSpeech]:
        """Return what is asked for and not over, in the order in which it came."""
        speeches = sorted(self._speeches, key=lambda speech: speech.number)
        return [speech.snapshot() for speech in speeches]

    def end_speech(self, number: int) -> bool:
        """End one for an administrator; return whether it was there.

        Its caller gets `StreamEndedError`: what was heard is not all that was asked for.
        """
        found = next((speech for speech in self._speeches if speech.number == number), None)
        if found is None:
            return False
        found.cut(StreamEndedError("an administrator of the worker ended this stream."))
        return True

    # Models

    async def load_model(
        self, model_id: str, *, owner: str, keep_alive: float | None = None
    ) -> ResidentStatistics | None:
        """Bring a model (empty: the default) into memory and keep no reference to it.

        It stays for `keep_alive` seconds (negative: for ever), or as configured. Returns what it
        looked like when it was there.
        """
        self._refuse_if_closing()
        model_id = self.voices.choose(model_id).model_id
        lease = self.manager.lease(model_id, owner=owner)
        with self.metrics.waiting():
            await lease.acquire()
        try:
            if keep_alive is not None:
                self.manager.keep_alive(model_id, keep_alive)
            residents = self.manager.list_resident()
            return next((r for r in residents if r.model_id == model_id), None)
        finally:
            await lease.release()

    async def prefetch(self, model_id: str, within_s: float = 0.0) -> None:
        """Say that a model (empty: the default) will be spoken with soon (0: within 10 s).

        Raises what `ModelManager.prefetch` raises, and `InvalidInputError` for more seconds than a
        session may be idle.
        """
        self._refuse_if_closing()
        within = finite_number(within_s, "within_s", lowest=0) or _PREFETCH_S
        # It keeps others from being prefetched meanwhile, and so it has a limit.
        if within > self.patience:
            raise InvalidInputError(f"within_s must be at most {self.patience:g} s.")
        await self.manager.prefetch(self.voices.choose(model_id).model_id, within)

    async def unload_model(self, model_id: str, *, drain: bool = True) -> None:
        """Unload a model once its holders are done; without `drain` refuse while there are any.

        Raises what `ModelManager.unload` raises.
        """
        with self.default_model.unloading(model_id):
            await self.manager.unload(model_id, drain=drain)

    def report(self) -> WorkerReport:
        """Return what this worker has now, for those who decide where requests go."""
        return self.reporter.report(
            in_flight=len(self._speeches),
            ready=self.readiness.verdict().ready,
            draining=self._closing,
        )

    async def figures(self) -> WorkerFigures:
        """Return how this worker is doing now, for people who look at it."""
        return await self._figures.figures(
            sessions=len(self._sessions),
            in_flight=len(self._speeches),
            ready=self.readiness.verdict().ready,
            draining=self._closing,
        )

    # Ending

    async def drain(self, limit: float) -> None:
        """Refuse what is new, let running speech end within `limit` seconds, then cut it off."""
        self._closing = True
        await self._sessions.end_idle()
        await self._quieten(limit)
        self.cut()
        await self._quieten(_CUT_LIMIT_S)
        await self._sessions.end_all()

    async def _quieten(self, limit: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._quiet.wait()

    def cut(self) -> None:
        """End all running speech now, as a failure."""
        if self._speeches:
            logger.warning("%d streams are cut off by the shutdown", len(self._speeches))
        for speech in list(self._speeches):
            speech.cut(_closed())

    def _refuse_if_full(self) -> None:
        count = len(self._speeches)
        if count >= self.settings.max_streams:
            raise WorkerBusyError(f"{count} streams are running already", STREAM_RETRY_S)

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise _closed()

    def __repr__(self) -> str:
        state = "closing" if self._closing else "open"
        return f"<Synthesis {state}, {len(self._sessions)} sessions, {len(self._speeches)} streams>"


def _closed() -> ModelManagerError:
    return ManagerClosedError("the worker is shutting down; ask another worker.")
