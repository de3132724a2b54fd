"""Callers who never rest, more voices than places: who is heard, how long who waits, what it costs.

A play in virtual time: each caller has a voice of its own for ever, speeches are made one after
another by one core, loads take a moment.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from heapq import heappop, heappush

import pytest

from greenroom.ledger.residency import Residency
from greenroom.ledger.state import (
    Decision,
    Granted,
    Load,
    ModelRequest,
    Policy,
    Reason,
    Refused,
    Resident,
    Ticket,
    Unload,
)

STEP_S = 0.1
"""Seconds that a speech takes of the core."""
LOAD_S = 0.3
PLACES = 3


class Play:
    """Callers of one ledger, and what they met."""

    def __init__(self, callers: int, voices: int, turn_after: float) -> None:
        self.ledger = Residency(
            Policy(PLACES, "hard", min_residency=0.0, turn_after=turn_after, ttl=-1.0)
        )
        self.voices = [f"m{number % voices}" for number in range(callers)]
        self.heard = [0] * callers
        self.longest_wait = 0.0
        self.longest_speech = 0.0
        self.refused = 0
        self.now = self._core_free_at = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._asked: dict[Ticket, tuple[int, float]] = {}

    def run(self, seconds: float) -> None:
        """Have all call for so long."""
        for caller in range(len(self.voices)):
            self._later(0.01 * caller, lambda caller=caller: self._ask(caller))  # type: ignore[misc]
        while True:
            due = self.ledger.next_due()
            if min(due, self._events[0][0]) > seconds:
                return
            if due < self._events[0][0]:
                self.now = due
                self._do(self.ledger.tick(due))
            else:
                self.now, _, then = heappop(self._events)
                then()

    @property
    def jain(self) -> float:
        """1 when all are heard alike."""
        squares = sum(count * count for count in self.heard)
        return sum(self.heard) ** 2 / (len(self.heard) * squares)

    def _later(self, seconds: float, then: Callable[[], None]) -> None:
        heappush(self._events, (self.now + seconds, next(self._numbers), then))

    def _ask(self, caller: int) -> None:
        model_id = self.voices[caller]
        resident = self.ledger.hit(model_id, caller, self.now)
        if resident is not None:
            self._speak(caller, resident)
            return
        ticket, out = self.ledger.request(ModelRequest(model_id), caller, self.now)
        self._asked[ticket] = caller, self.now
        self._do(out)

    def _speak(self, caller: int, resident: Resident) -> None:
        self.ledger.open_stream(resident)
        opened_at = self.now
        self._core_free_at = max(self.now, self._core_free_at) + STEP_S

        def ends() -> None:
            self.heard[caller] += 1
            self.longest_speech = max(self.longest_speech, self.now - opened_at)
            self._do(self.ledger.close_stream(resident, self.now, opened_at) or [])
            self._do(self.ledger.release(resident.model_id, caller, self.now) or [])
            self._ask(caller)

        self._later(self._core_free_at - self.now, ends)

    def _do(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Load(resident):
                    self._later(LOAD_S, lambda resident=resident: self._loaded(resident))  # type: ignore[misc]
                case Unload(resident):
                    self._later(
                        0.0,
                        lambda resident=resident: self._do(self.ledger.gone(resident, self.now)),  # type: ignore[misc]
                    )
                case Granted(ticket, resident):
                    caller, asked_at = self._asked.pop(ticket)
                    self.longest_wait = max(self.longest_wait, self.now - asked_at)
                    self._speak(caller, resident)
                case Refused(ticket):
                    self.refused += 1
                    caller, _ = self._asked.pop(ticket)
                    self._later(1.0, lambda caller=caller: self._ask(caller))  # type: ignore[misc]

    def _loaded(self, resident: Resident) -> None:
        self.ledger.warming(resident, LOAD_S)
        self._do(self.ledger.loaded(resident, object(), self.now))


def test_without_turns_callers_of_voices_that_have_no_place_hear_nothing() -> None:
    play = Play(64, 8, turn_after=-1.0)
    play.run(100)
    assert sum(count == 0 for count in play.heard) == 40


def test_with_turns_everybody_is_heard_alike_in_time_and_no_less_in_all() -> None:
    play, without = Play(64, 8, turn_after=2.0), Play(64, 8, turn_after=-1.0)
    for each in (play, without):
        each.run(300)
    assert min(play.heard) > 0
    assert play.jain >= 0.99
    assert play.refused == 0
    quantum = play.ledger.turns.quantum(8 - PLACES, PLACES)
    turn = quantum + play.longest_speech + LOAD_S
    assert play.longest_wait <= 2.0 + 1.5 * (8 - PLACES) / PLACES * turn
    assert sum(play.heard) >= 0.9 * sum(without.heard)


@pytest.mark.parametrize(("callers", "voices"), [(2, 8), (64, 3), (3, 3)])
def test_where_there_are_places_for_all_there_is_not_one_turn(callers: int, voices: int) -> None:
    play = Play(callers, voices, turn_after=2.0)
    play.run(100)
    assert min(play.heard) > 0
    assert play.ledger.departures[Reason.TURN] == 0


def test_who_waits_and_cannot_be_served_in_time_is_told_so() -> None:
    play = Play(400, 200, turn_after=2.0)
    play.run(300)
    assert play.ledger.refusals[Reason.NO_ROOM] > 0
    assert min(play.heard) > 0
