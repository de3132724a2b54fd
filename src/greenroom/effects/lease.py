"""The counted right to use a model: alive between taking and giving back, dead after."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterable, Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from greenroom.errors import (
    EngineCrashedError,
    LeaseReleasedError,
    ManagerClosedError,
    ModelNotResidentError,
)
from greenroom.untrusted.owners import Holder

if TYPE_CHECKING:
    from greenroom.adapter import TTSAdapter
    from greenroom.speech.stream import SpeechStream


class Lender(Protocol):
    """What a lease needs of the manager."""

    async def load(self, model_id: str, *, owner: Hashable = None) -> TTSAdapter:
        """Take a reference."""

    async def release(self, model_id: str, *, owner: Hashable = None) -> None:
        """Give a reference back."""

    def reclaim(self, model_id: str, owner: Hashable) -> None:
        """Give back the reference of a holder that forgot to."""

    def park(self, model_id: str, owner: Hashable) -> None:
        """Let the model leave when its turn comes, though it is held."""

    def unpark(self, model_id: str, owner: Hashable) -> bool:
        """Keep the model again; whether it is there."""


class Lease:
    """A reference to a model, taken with `async with` or `acquire`, given back once."""

    def __init__(self, lender: Lender, model_id: str, owner: str | None = None) -> None:
        self.model_id = model_id
        self.owner = owner
        self._lender = lender
        self._holder = Holder(owner)
        self._adapter: TTSAdapter | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._state = "new"
        self._parked = False

    async def acquire(self) -> Self:
        """Take the reference, loading the model if need be; raises what `load` raises."""
        if self._state != "new":
            raise LeaseReleasedError(
                f"this lease of {self.model_id!r} is {self._state}; take another."
            )
        self._loop = asyncio.get_running_loop()
        self._state = "being taken"
        try:
            self._adapter = await self._lender.load(self.model_id, owner=self._holder)
        except BaseException:
            self._state = "new"
            raise
        self._state = "held"
        return self

    async def release(self) -> None:
        """Give the reference back; a second time, or after the manager's end, does nothing."""
        if self._parked and not self.unpark():
            return  # the model has left, and the reference with it
        if self._state == "held":
            self._state = "released"
            self._adapter = None
            try:
                await self._lender.release(self.model_id, owner=self._holder)
            except (ManagerClosedError, ModelNotResidentError):
                return  # a shutdown or a forced unload has taken the reference back

    def park(self) -> None:
        """Let the model leave when others wait for its place, until `unpark`; for a holder at rest.

        What runs on the lease is not cut off.
        """
        if self._state == "held":
            self._parked = True
            self._lender.park(self.model_id, self._holder)

    def unpark(self) -> bool:
        """Keep the model again, before it speaks; whether it is there.

        If not, it has left or is about to, and the lease is over: take another, which waits like
        any caller. That may also happen to a lease that was not parked.
        """
        self._parked = False
        if self._state != "held":
            return False
        if self._lender.unpark(self.model_id, self._holder):
            return True
        self._state = "released"
        self._adapter = None
        return False

    async def retake(self) -> Self:
        """Give the reference back and take it anew, as after a crash: the model is loaded afresh.

        Raises what `load` raises; then the lease is not held.
        """
        await self.release()
        self._state = "new"
        return await self.acquire()

    @property
    def held(self) -> bool:
        """Whether the reference is held now."""
        return self._state == "held"

    @property
    def crash(self) -> str:
        """How the process of the model's engine ended since it was taken; empty if it has not."""
        host = getattr(self._adapter, "_host", None)
        return "" if host is None else host.crash

    @property
    def adapter(self) -> TTSAdapter:
        """The model.

        Raises `LeaseReleasedError` before it is taken and after it is released, and
        `EngineCrashedError` once the engine's process has ended.
        """
        if self._adapter is None:
            raise LeaseReleasedError(
                f"this lease of {self.model_id!r} is {self._state}; use it inside `async with`."
            )
        if self.crash:
            raise EngineCrashedError(
                self.model_id,
                f"its process ended: {self.crash}.",
                fix="Take another lease, or `await lease.retake()`.",
            )
        return self._adapter

    def synthesize_stream(self, text: str | AsyncIterable[str], **options: Any) -> SpeechStream:
        """Speak; see `TTSAdapter.synthesize_stream`. The stream may outlive the lease."""
        return self.adapter.synthesize_stream(text, **options)

    __aenter__ = acquire

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.release()

    def __repr__(self) -> str:
        return f"<Lease of {self.model_id} by {self._holder}, {self._state}>"

    def __del__(self) -> None:
        if getattr(self, "_state", "") != "held":
            return
        warnings.warn(
            f"{self!r} was never released; use `async with`.", ResourceWarning, stacklevel=2
        )
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._lender.reclaim, self.model_id, self._holder)
