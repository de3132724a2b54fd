"""Callers of speech over HTTP that never rest, and what each of them met.

A refusal is taken as OpenAI's SDK takes it: the same is asked again after the time that the answer
names, and the wait goes on meanwhile. It is typed when it is a 429 or 503 that says when to come
back and, in OpenAI's shape, what is wrong.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.listener import Heard, Listener
from benchmarks.rounds import Stopwatch

_FIELDS = {"message", "type", "param", "code"}


@dataclass(slots=True)
class Caller:
    """One of them."""

    models: Iterator[str]
    """Whom to ask for, one after another, without an end."""
    waits: list[float] = field(default_factory=list)
    """Seconds to the first audio of each speech, refusals and their waits included."""
    wholes: list[float] = field(default_factory=list)
    """Seconds to the last audio of each speech, from when it was asked for the last time."""
    in_time: int = 0
    """Speeches that were heard while everybody still called."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Typed ones, by status and code."""
    errors: Counter[str] = field(default_factory=Counter)
    """Everything else."""

    async def call(self, port: int, text: str, seconds: float) -> None:
        """Ask for so long, and hear the last answer to its end."""
        watch = Stopwatch()
        async with Listener(port) as listener:
            while watch.read() < seconds and not self.errors:
                await self._hear(listener, text, next(self.models))
                self.in_time += watch.read() < seconds

    async def _hear(self, listener: Listener, text: str, model: str) -> None:
        watch = Stopwatch()
        while True:
            before = watch.read()
            try:
                heard = await listener.say(text, model)
            except ConnectionError as error:
                self.errors[str(error)] += 1
                return
            if heard.status == 200:
                self.waits.append(before + heard.first)
                self.wholes.append(heard.arrivals[-1] if heard.arrivals else 0.0)
                return
            again = when_again(heard)
            if again is None:
                self.errors[f"{heard.status}, not typed"] += 1
                return
            self.refusals[f"{heard.status} {json.loads(heard.body)['error']['code']}"] += 1
            await asyncio.sleep(again)


def when_again(heard: Heard) -> float | None:
    """Return in how many seconds a refusal says to ask again; `None` when it is not typed."""
    if heard.status not in (429, 503) or "retry-after" not in heard.headers:
        return None
    error = json.loads(heard.body).get("error") or {}
    if set(error) != _FIELDS or not all(error[name] for name in ("message", "type", "code")):
        return None
    exact = heard.headers.get("retry-after-ms")
    return float(heard.headers["retry-after"]) if exact is None else float(exact) / 1000
