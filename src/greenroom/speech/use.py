"""A stream's use of its model: what the stream needs of the host, and the host of the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

from greenroom.errors import ModelManagerError
from greenroom.speech.cost import SpeechCost
from greenroom.speech.pace import Pace
from greenroom.speech.scheduler import StreamState
from greenroom.speech.sentence import Turn

T = TypeVar("T")


class Host(Protocol):
    """The place where a model lives, as a stream sees it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop in which streams are counted; `None` where they are not."""

    @property
    def leaving(self) -> bool:
        """Whether no new stream may begin."""

    def why_left(self) -> ModelManagerError:
        """Return the error for who would begin one once it is leaving."""

    @property
    def crash(self) -> str:
        """How the process of the model's engine ended; empty while it has not."""

    @property
    def sample_rate(self) -> int | None:
        """Hz of the chunks as checked after the load; `None` where only the adapter knows."""

    @property
    def model_id(self) -> str:
        """The model's id."""

    def open(self, speaker: Speaking) -> Use:
        """Count one more stream; raises `why_left` when the model has left."""


class Use(Protocol):
    """One stream's counted use of its model."""

    @property
    def state(self) -> StreamState:
        """What the scheduler knows of the stream; the stream keeps it up to date."""

    @property
    def cost(self) -> SpeechCost:
        """What the model's speech costs; the stream has it learn."""

    @property
    def turn_wanted(self) -> bool:
        """Whether another stream waits for the turn that this one may hold; for any thread."""

    @property
    def core_wanted(self) -> bool:
        """Whether another step waits for a core; may be asked from any thread."""

    def pace(self, ahead_s: float | None) -> Pace:
        """Return what the engine may know of a listener who has `ahead_s` seconds left to hear."""

    def may_be_heard(self, made_s: float) -> bool:
        """Whether `made_s` seconds, handed over now, last until more is made."""

    async def begin(self, limit: float | None) -> None:
        """Wait until one more stream can be kept up, at most `limit` seconds (`None`: the host's).

        Raises `OverloadedError` after that.
        """

    def silent(self, seconds: float, step_s: float, *, first: bool) -> None:
        """Take note that the listener heard nothing for so long; `first` is the stream's first."""

    async def enter(self) -> Turn:
        """Wait for a turn in the engine; raises `SynthesisError` when that takes too long."""

    def enter_now(self) -> Turn | None:
        """Return a turn if one is free that no other stream waits for."""

    async def run(self, step: Callable[[], T]) -> T:
        """Run `step` in a thread and return its result; for short ones that no engine is in.

        Cancelling the wait does not end the step; then this returns when the step has ended.
        Raises `SynthesisError` when the step takes longer than it may, or when there is no thread
        for it.
        """

    def close(self) -> None:
        """Count one stream fewer, once no thread of it is inside the model any more."""


class Speaking(Protocol):
    """The working side of a stream, as a host sees it."""

    def stop(self) -> None:
        """End the stream: no more frames, no more synthesis after the present chunk."""

    def fail(self, error: ModelManagerError) -> None:
        """End the stream with an error once what is made was heard: its engine is gone."""

    def notify_turn_wanted(self) -> None:
        """Finish the sentence without waiting for the listener: another stream waits for a turn."""
