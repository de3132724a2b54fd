"""What a door is, and how one is tried: random inputs, faults shrunk to their shortest input."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from fuzz.watchdog import Frozen, Watchdog

_SHRINKING = 0.1
"""Of the time of a door, what shrinking one fault may take."""
_SHRINKING_TRIES = 300


class Door(Protocol):
    """One way into Greenroom, and the rules that hold whatever comes through it."""

    name: str
    about: str
    """One line, for the help."""

    def open(self, watchdog: Watchdog) -> None:
        """Start what is tried."""

    def close(self) -> None:
        """End it, and remove what it has left on the disk."""

    def draw(self, dice: random.Random) -> Any:
        """Return a random input; the same for dice of the same seed."""

    def attempt(self, given: Any) -> list[str]:
        """Try the input; return a sentence for each rule that it broke."""

    def simpler(self, given: Any) -> Iterator[Any]:
        """Yield inputs that are a little simpler, the simplest first."""

    def count(self, given: Any) -> int:
        """Return how many inputs this is, where one attempt tries several."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault, with the shortest input that was found to show it."""

    kind: str
    seed: str
    """With it, `draw` gives the input that showed it first."""
    shortest: Any
    sentences: tuple[str, ...]


@dataclass
class Outcome:
    """What became of one door."""

    door: str
    inputs: int = 0
    seconds: float = 0.0
    faults: dict[str, Fault] = field(default_factory=dict)
    """By kind, so that each is shrunk and told once."""

    def __str__(self) -> str:
        return (
            f"{self.door:8} {self.inputs:8,} inputs  {len(self.faults):3} faults"
            f"  {self.seconds:6.1f} s"
        )


def explore(
    door: Door,
    *,
    seconds: float,
    seed: int,
    most: int | None = None,
    tell: Callable[[Fault], None] = lambda fault: None,
) -> Outcome:
    """Try the door until the time is over, or `most` attempts were made; `tell` of each fault."""
    outcome = Outcome(door.name)
    present = ""

    def last_words(stack: str) -> None:
        tell(Fault("the process hangs", present, stack, ("it could not be interrupted",)))

    with Watchdog(last_words) as watchdog:
        door.open(watchdog)
        began = time.monotonic()
        try:
            number = 0
            while time.monotonic() - began < seconds and (most is None or number < most):
                present = f"{seed}/{number}"
                number += 1
                given = door.draw(random.Random(present))
                sentences = tried(door, given, watchdog)
                outcome.inputs += door.count(given)
                fresh = [kind for kind in map(kind_of, sentences) if kind not in outcome.faults]
                if fresh:
                    limit = time.monotonic() + _SHRINKING * seconds
                    shortest, shown = _shrunk(door, given, fresh[0], sentences, watchdog, limit)
                    fault = Fault(fresh[0], present, shortest, tuple(shown))
                    outcome.faults |= dict.fromkeys(map(kind_of, sentences), fault)
                    tell(fault)
        finally:
            door.close()
    outcome.seconds = time.monotonic() - began
    return outcome


def tried(door: Door, given: Any, watchdog: Watchdog) -> list[str]:
    """Return what was broken, a stall or a hang of the whole included."""
    watchdog.begin()
    try:
        found = door.attempt(given)
    except Frozen:
        found = []
    except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001 - doors expect what is allowed
        found = [f"the door itself failed: {type(error).__name__}"]
    finally:
        stalls = watchdog.end()
    return [*stalls, *found]


def kind_of(sentence: str) -> str:
    """Return what sentences about the same fault have in common."""
    return re.sub(r"0x[0-9a-f]+|[0-9]+|'[^']*'|\"[^\"]*\"|b'[^']*'", "#", sentence)[:160]


def _shrunk(
    door: Door, given: Any, kind: str, sentences: list[str], watchdog: Watchdog, limit: float
) -> tuple[Any, list[str]]:
    """Return a shorter input that shows the same, if one is found soon, and what it shows."""
    tries = 0
    better = True
    while better:
        better = False
        for candidate in door.simpler(given):
            tries += 1
            if tries > _SHRINKING_TRIES or time.monotonic() > limit:
                return given, sentences
            shown = tried(door, candidate, watchdog)
            if kind in map(kind_of, shown):
                given, sentences, better = candidate, shown, True
                break
    return given, sentences
