"""The open sessions: bounded in number, each one lease with an owner, given back when idle.

Taking a lease may mean loading a model, so it is a task of the session's own: callers who repeat
StartSession share it, and it is given up when the last of them has gone. A session outlives its
model's leaving and its engine's crash: its next word takes another lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

from greenroom.effects.lease import Lease
from greenroom.errors import (
    InvalidInputError,
    ModelManagerError,
    ModelNotResidentError,
    SessionMismatchError,
    SessionNotFoundError,
    WorkerBusyError,
)
from greenroom.model_manager import ModelManager
from greenroom.untrusted.logs import safe_logger
from greenroom.voice import Voice
from greenroom.worker.speech import Speech

logger = safe_logger(__name__)

_LONGEST_ID = 128
"""Characters of an id that a caller chooses."""


class Session:
    """One caller's lasting lease, and what runs on it."""

    def __init__(self, session_id: str, voice: Voice, caller: str) -> None:
        self.session_id = session_id
        self.caller = caller
        self.voice = voice
        self.speeches: set[Speech] = set()
        self.lease: Lease | None = None
        """Absent until it is taken, and while the model is loaded afresh."""
        self.taking: asyncio.Task[None] | None = None
        self.awaited = 0
        """How many callers wait for the lease; at none the wait for a first lease is given up."""
        self.idle: asyncio.TimerHandle | None = None
        """Reaps the session; absent while it is not idle."""
        self.parking: asyncio.TimerHandle | None = None
        """Parks its lease; absent while it is not idle, and once it is parked."""

    @property
    def key(self) -> tuple[str, str]:
        """What it is found by: each caller has ids of their own."""
        return self.caller, self.session_id

    @property
    def owner(self) -> str:
        """How its references and streams are shown."""
        return f"session {self.session_id}" + (self.caller and f" of {self.caller}")

    def __repr__(self) -> str:
        return f"<Session {self.session_id} of {self.voice.model_id} x{len(self.speeches)}>"


class Sessions:
    """Sessions by their caller and id; times in seconds."""

    def __init__(
        self, manager: ModelManager, *, limit: int, idle_limit: float, park_after: float = -1.0
    ) -> None:
        """`park_after` is how long a session is silent before its model may leave; negative never.

        It leaves only when others wait for its place, and comes back with the session's next word.
        """
        self.limit = limit
        self.idle_limit = idle_limit
        self.park_after = park_after
        self._manager = manager
        self._open: dict[tuple[str, str], Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, session_id: str, voice: Voice, caller: str) -> Session:
        """Open a session, or find it open with the same voice; an empty id is chosen here.

        Raises what `ModelManager.load` raises, `WorkerBusyError`, `SessionMismatchError`.
        """
        session = self._open.get((caller, session_id))
        if session is None:
            session = self._book(Session(_checked_id(session_id), voice, caller))
        elif session.voice != voice:
            raise SessionMismatchError(
                f"session {session_id!r} speaks with {session.voice.model_id!r} and options, rate "
                "of its own; end it first, or use another id."
            )
        await self.lease_of(session)
        self._rest(session)
        return session

    def check_share(self, session_id: str, caller: str, share: int | None) -> None:
        """Raise `WorkerBusyError` when one more session is more than the caller may have."""
        if share is None or (caller, session_id) in self._open:
            return
        present = [session for session in self._open.values() if session.caller == caller]
        if len(present) >= share:
            problem = f"this key has {len(present)} sessions open already"
            raise WorkerBusyError(problem, self._next_reaping(present))

    def get(self, session_id: str, caller: str) -> Session:
        """Return the caller's open session; raises `SessionNotFoundError`."""
        session = self._open.get((caller, session_id))
        if session is None:
            raise SessionNotFoundError(session_id)
        return session

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """The caller and the id of each session that is open."""
        return tuple(self._open)

    async def lease_of(self, session: Session) -> Lease:
        """Return the session's lease, with a model to speak with, as soon as it has one.

        Raises why there is none: the load failed, or the session ended meanwhile.
        """
        self._take_again(session)
        session.awaited += 1
        try:
            while session.taking is not None and not session.taking.done():
                await asyncio.wait([session.taking])
        finally:
            session.awaited -= 1
            if not session.awaited and session.lease is None and session.taking is not None:
                session.taking.cancel()
        if session.lease is not None:
            return session.lease
        if session.taking is not None and not session.taking.cancelled():
            session.taking.result()
        raise SessionNotFoundError(session.session_id)

    def _take_again(self, session: Session) -> None:
        """Have a session take another lease when its model has left, or crashed.

        Also when the model is about to leave for another: who speaks next queues behind that.
        """
        if session.taking is None or not session.taking.done() or session.key not in self._open:
            return
        if session.lease is None or not session.lease.unpark():
            session.lease = None
            # Without the end of the session if that fails: its next word may be luckier.
            session.taking = self._own(self._take(session), session, ends_it=False)

    @contextlib.contextmanager
    def running(self, session: Session, speech: Speech) -> Iterator[None]:
        """Count a speech as the session's; meanwhile the session is not idle."""
        session.speeches.add(speech)
        self._rest(session)
        try:
            yield
        finally:
            session.speeches.discard(speech)
            self._rest(session)

    def touch(self, session: Session) -> None:
        """Begin its idle time anew."""
        self._rest(session)

    async def end(self, session: Session) -> None:
        """Give back this session's lease; what it is speaking goes on to its end."""
        await asyncio.wait([self._end(session)])

    async def end_idle(self) -> None:
        """End every session that has its lease and speaks nothing."""
        await self._end_each(lambda s: s.lease is not None and not s.speeches)

    async def end_all(self) -> None:
        """End every session."""
        await self._end_each(lambda _: True)

    async def _end_each(self, chosen: Callable[[Session], bool]) -> None:
        ends = [self._end(session) for session in list(self._open.values()) if chosen(session)]
        if ends:
            await asyncio.wait(ends)

    async def reload(self, session: Session) -> int:
        """Drain the session's model, load it afresh and take the new lease.

        Returns how many of its speeches were waited for. Raises `ModelInUseError`, with the lease
        as it was, when others hold the model for too long; any other failure ends the session.
        """
        lease = await self.lease_of(session)
        running = len(session.speeches)
        task = session.taking = self._own(self._retake(session, lease), session)
        await asyncio.wait([task])
        if task.cancelled():
            raise SessionNotFoundError(session.session_id)
        task.result()
        return running

    def __len__(self) -> int:
        return len(self._open)

    # Carrying out

    def _book(self, session: Session) -> Session:
        if len(self._open) >= self.limit:
            raise WorkerBusyError(
                f"{self.limit} sessions are open already", self._next_reaping(self._open.values())
            )
        self._open[session.key] = session
        session.taking = self._own(self._take(session), session)
        return session

    def _next_reaping(self, sessions: Iterable[Session]) -> float | None:
        now = asyncio.get_running_loop().time()
        due = [s.idle.when() - now for s in sessions if s.idle is not None]
        return max(0.0, min(due)) if due else None

    async def _take(self, session: Session) -> None:
        lease = await self._manager.lease(session.voice.model_id, owner=session.owner).acquire()
        session.lease = lease
        self._rest(session)

    async def _retake(self, session: Session, lease: Lease) -> None:
        session.awaited += 1  # for the session itself, so that no caller that gives up ends it
        session.lease = None
        self._rest(session)
        problem: ModelManagerError | None = None
        try:
            await lease.release()
            try:
                await self._manager.unload(session.voice.model_id, drain=True)
            except ModelNotResidentError:
                pass  # it left by itself when the lease was given back
            except ModelManagerError as error:
                problem = error
            await self._take(session)
        finally:
            session.awaited -= 1
        if problem is not None:
            raise problem

    def _close(self, session: Session) -> Session:
        """Take the session off the list, so that no caller finds it any more."""
        if self._open.get(session.key) is session:
            del self._open[session.key]
        self._rest(session)
        return session

    async def _give_back(self, session: Session) -> None:
        if session.taking is not None and not session.taking.done():
            session.taking.cancel()
            await asyncio.wait([session.taking])
        lease, session.lease = session.lease, None
        if lease is not None:
            await lease.release()

    def _rest(self, session: Session) -> None:
        """Set the timer if the session is idle now, else take it away."""
        for timer in (session.idle, session.parking):
            if timer is not None:
                timer.cancel()
        session.idle = session.parking = None
        is_open = self._open.get(session.key) is session
        # One that could not have its model again is idle, too, or it would stay for ever.
        has_ended = session.lease is not None or (session.taking and session.taking.done())
        if is_open and has_ended and not session.speeches:
            loop = asyncio.get_running_loop()
            session.idle = loop.call_later(self.idle_limit, self._reap, session)
            if session.lease is not None and self.park_after >= 0:
                session.parking = loop.call_later(self.park_after, session.lease.park)

    def _reap(self, session: Session) -> None:
        logger.info("session %s was idle for %g s: reaped", session.session_id, self.idle_limit)
        self._end(session)

    def _end(self, session: Session) -> asyncio.Task[None]:
        """Take the session off the list now; the task ends when its lease is given back."""
        return self._own(self._give_back(self._close(session)))

    def _own(
        self,
        coroutine: Coroutine[Any, Any, None],
        taking_for: Session | None = None,
        *,
        ends_it: bool = True,
    ) -> asyncio.Task[None]:
        """Begin a task; a session for which it fails to take a lease ends with it, or rests."""
        task = asyncio.create_task(coroutine, name="greenroom session")
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            failed = task.cancelled() or task.exception() is not None
            if failed and taking_for is not None and taking_for.lease is None:
                (self._close if ends_it else self._rest)(taking_for)

        task.add_done_callback(ended)
        return task


def _checked_id(session_id: str) -> str:
    if len(session_id) > _LONGEST_ID or not session_id.isprintable():
        raise InvalidInputError(
            f"a session id has at most {_LONGEST_ID} printable characters; choose another."
        )
    return session_id or uuid.uuid4().hex
