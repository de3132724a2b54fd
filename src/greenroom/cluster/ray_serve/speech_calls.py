"""Calls from the way in to the replicas: cancelled with their caller, made again when one dies."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from ray import exceptions
from ray.serve.handle import DeploymentHandle

from greenroom.errors import EngineCrashedError
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

Answer = Any
"""Ray's `DeploymentResponseGenerator`: an asynchronous iterator of tuples, with `cancel`."""

_ATTEMPTS = 3
"""Replicas that one request is sent to while they die before they answer."""

GONE = (exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.NodeDiedError)
"""How Ray says that a replica has ended, or cannot be reached."""


class SpeechCalls:
    """Calls the deployment whose replicas speak."""

    def __init__(self, speech: DeploymentHandle) -> None:
        self._speech = speech

    def begin(
        self, method: str, *arguments: Any, voice: str = "", session: str = "", **named: Any
    ) -> Answer:
        """Send a call whose answer comes in parts, where its voice or its session is."""
        handle = self._speech.options(
            method_name=method, stream=True, multiplexed_model_id=voice, session_id=session
        )
        return handle.remote(*arguments, **named)

    async def first(self, begin: Callable[[], Answer], voice: str) -> tuple[Any, Answer]:
        """Return the first part of an answer, and the answer.

        While replicas end before they answer it is begun again; after some of them raises
        `EngineCrashedError`.
        """
        for attempt in range(_ATTEMPTS):
            answer = begin()
            try:
                return await anext(answer), answer
            except GONE as error:
                logger.warning("a replica ended before it answered, try %d: %s", attempt + 1, error)
            except StopAsyncIteration:
                raise lost(voice) from None
            except BaseException:
                answer.cancel()
                raise
        raise lost(voice)

    async def push(self, session: str, call_id: str, messages: list[bytes], *, last: bool) -> bool:
        """Send more messages of a call to the replica that it went to; whether it wants more."""
        handle = self._speech.options(method_name="push", session_id=session)
        # Ray knows a request by its context: in that of the call itself this would be the call.
        response = contextvars.Context().run(handle.remote, call_id, tuple(messages), last=last)
        return bool(await response)

    async def everywhere(self, method: str, *arguments: Any) -> list[Any]:
        """Return what each replica answers, or the exception."""
        asked = self._speech.broadcast(method, *arguments)
        found: list[Any] = await asked.results_async(timeout_s=10.0, return_exceptions=True)
        return found


def lost(voice: str) -> EngineCrashedError:
    """Return the error of a caller whose replica has ended."""
    return EngineCrashedError(voice, "the replica that answered has ended.")
