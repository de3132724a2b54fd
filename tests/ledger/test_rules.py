"""The contract as invariants, over interleavings that nobody thought of.

A state machine plays the effects: it requests, releases, speaks, pins, drains, upgrades, reserves,
lets loads and unloads end in any order, well or badly, and moves the clock. After every step the
rules are checked by brute force. A punctual play, one that ticks whenever something is due, is
also compared with `ReferenceLedger`, which decides by the same rules without an index, a running
total or a shortcut.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from greenroom.ledger.capacity import NOISE
from greenroom.ledger.state import (
    Load,
    ModelRequest,
    Policy,
    State,
)
from tests.ledger.contract import ContractMachine

PROFILES = {
    "thorough": settings(
        max_examples=3_000, stateful_step_count=60, deadline=None, report_multiple_bugs=False
    ),
    "default": settings(max_examples=200, stateful_step_count=50, deadline=None),
    "mutants": settings(
        max_examples=60,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    ),
}

T = TypeVar("T")


# What is played with

MODELS = ("amy", "joe", "kim", "lou", "max")
OWNERS = ("ann", "bob")

policies = st.builds(
    Policy,
    resident_cap=st.integers(1, 3),
    cap_policy=st.sampled_from(["soft", "hard"]),
    budgets=st.sampled_from([{}, {"cpu": 6}, {"cpu": 9, "gpu": 5}]),
    ttl=st.sampled_from([4.0, 0.0, 20.0, -1.0]),
    min_residency=st.sampled_from([0.0, 3.0, 10.0]),
    max_parallel_loads=st.integers(1, 2),
    acquire_timeout=st.sampled_from([5.0, 0.0, 12.0]),
    max_waiting=st.sampled_from([1024, 2]),
    turn_after=st.sampled_from([2.0, 0.0, 1.0, -1.0]),
    first_retry=st.just(1.0),
    longest_retry=st.just(4.0),
)
contended = st.builds(
    Policy,
    resident_cap=st.integers(1, 2),
    cap_policy=st.just("hard"),
    ttl=st.just(20.0),
    min_residency=st.sampled_from([0.0, 0.0, 3.0]),
    max_parallel_loads=st.integers(1, 2),
    acquire_timeout=st.sampled_from([4.0, 12.0, 30.0]),
    turn_after=st.sampled_from([2.0, 0.0, 1.0]),
)
"""Fewer places than models, so that turns come about."""
shapes = st.tuples(
    st.sampled_from(["cpu", "gpu"]),
    st.integers(1, 6),
    st.sampled_from([None, 0.0, 2.0, -1.0]),
    st.sampled_from([None, None, 0, 3, 7]),
)
picks = st.integers(0, 99)
models = st.sampled_from(MODELS)


class LedgerMachine(ContractMachine):
    """Everything that can happen to a ledger, in any order."""

    @initialize(
        policy=policies | contended,
        shaped=st.lists(shapes, min_size=len(MODELS), max_size=len(MODELS)),
        punctual=st.sampled_from([True, True, False]),
    )
    def open(
        self,
        policy: Policy,
        shaped: list[tuple[str, int, float | None, int | None]],
        punctual: bool,
    ) -> None:
        requests = {
            model_id: ModelRequest(model_id, *shape)
            for model_id, shape in zip(MODELS, shaped, strict=True)
        }
        self.begin(policy, requests, punctual=punctual)

    # Callers

    @rule(model_id=models, owner=st.sampled_from(OWNERS))
    def request(self, model_id: str, owner: str) -> None:
        hit = self.ledger.hit(model_id, owner, self.now)
        if self.punctual:
            assert self.reference.hit(model_id, owner) == (hit is not None)
        if hit is not None:
            assert hit.state is State.READY
            assert hit.instance is not None
            self.leases.append((hit, owner))
            return
        request = self.requests[model_id]
        expected = self.ledger.get(model_id)
        if expected is not None and expected.state is State.READY and not self.closed:
            self.ready_at[expected] = self.used_at[expected] = self.now
        ticket, out = self.ledger.request(request, owner, self.now)
        self.callers[ticket] = len(self.callers)
        self.open_tickets.append(ticket)
        self.expect(out, "request", self.callers[ticket], request, owner, self.now)
        assert any(
            getattr(decision, "ticket", None) is ticket
            or (isinstance(decision, Load) and ticket in decision.resident.waiters)
            for decision in out
        )

    @precondition(lambda self: self.open_tickets)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        ticket = chosen(self.open_tickets, pick)
        self.open_tickets.remove(ticket)
        out = self.ledger.cancel(ticket, self.now)
        self.expect(out, "cancel", self.callers[ticket], self.now)

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        resident, owner = self.leases.pop(pick % len(self.leases))
        self.note_use(resident)
        if (resident, owner) not in self.leases:
            self.parked[resident].discard(owner)
        out = self.ledger.release(resident.model_id, owner, self.now)
        self.expect(out, "release", resident.model_id, owner, self.now)

    @rule(model_id=models, within=st.sampled_from([0.0, 2.0, 15.0]))
    def prefetch(self, model_id: str, within: float) -> None:
        request = self.requests[model_id]
        resident = self.ledger.get(model_id)
        out = self.ledger.prefetch(request, within, self.now)
        counts = not self.closed and resident is not None and resident.may_leave
        if resident is not None and counts and resident.expected_until is None:
            self.used_at[resident] = self.now
        self.expect(out, "prefetch", request, within, self.now)

    @precondition(lambda self: self.held())
    @rule(pick=picks)
    def park(self, pick: int) -> None:
        resident, owner = chosen(self.held(), pick)
        self.parked[resident].add(owner)
        out = self.ledger.park(resident.model_id, owner, self.now)
        self.expect(out, "park", resident.model_id, owner, self.now)

    @precondition(lambda self: self.held())
    @rule(pick=picks)
    def unpark(self, pick: int) -> None:
        resident, owner = lease = chosen(self.held(), pick)
        turn = self.ledger.turns.of(resident)
        self.parked[resident].discard(owner)
        if turn is not None:
            self.leases.remove(lease)
            self.note_use(resident)
        kept, out = self.ledger.unpark(resident.model_id, owner, self.now)
        assert kept == (turn is None)
        self.expect(out, "unpark", resident.model_id, owner, self.now)

    @precondition(lambda self: self.handed_over())
    @rule(pick=picks)
    def open_stream(self, pick: int) -> None:
        resident = chosen(self.handed_over(), pick)
        self.ledger.open_stream(resident)
        self.streams.append((resident, self.now))
        self.expect(None, "open_stream", resident.model_id)

    @precondition(lambda self: self.streams)
    @rule(pick=picks)
    def close_stream(self, pick: int) -> None:
        resident, opened_at = self.streams.pop(pick % len(self.streams))
        self.note_use(resident)
        out = self.ledger.close_stream(resident, self.now, opened_at)
        self.expect(out, "close_stream", resident.model_id, self.now, opened_at)

    # Operators

    @rule(model_id=models)
    def pin_or_unpin(self, model_id: str) -> None:
        if self.ledger.is_pinned(model_id):
            self.expect(self.ledger.unpin(model_id, self.now), "unpin", model_id)
        else:
            self.expect(self.ledger.pin(model_id, self.now), "pin", model_id, self.now)

    @precondition(lambda self: self.ready() or self.arriving())
    @rule(pick=picks, ttl=st.sampled_from([4.0, 0.0, 20.0, -1.0]))
    def keep_alive(self, pick: int, ttl: float) -> None:
        resident = chosen([*self.ready(), *self.arriving()], pick)
        out = self.ledger.keep_alive(resident.model_id, ttl, self.now)
        self.expect(out, "keep_alive", resident.model_id, ttl)

    @precondition(lambda self: self.ready() or self.ledger_in(State.DRAINING))
    @rule(pick=picks)
    def begin_unload(self, pick: int) -> None:
        resident = chosen([*self.ready(), *self.ledger_in(State.DRAINING)], pick)
        out = self.ledger.begin_unload(resident.model_id, self.now, drain=True)
        self.expect(out, "begin_unload", resident.model_id)

    @precondition(lambda self: self.ledger_in(State.DRAINING))
    @rule(pick=picks)
    def end_drain(self, pick: int) -> None:
        resident = chosen(self.ledger_in(State.DRAINING), pick)
        out = self.ledger.end_drain(resident.model_id, self.now)
        self.expect(out, "end_drain", resident.model_id, self.now)

    @precondition(lambda self: self.steps >= 60 and not self.closed)
    @rule()
    def close(self) -> None:
        self.closed = True
        self.expect(self.ledger.close(), "close")

    @precondition(lambda self: self.closed and self.without_threads())
    @rule(pick=picks)
    def force_unload(self, pick: int) -> None:
        resident = chosen(self.without_threads(), pick)
        self.forced.add(resident)
        out = self.ledger.force_unload(resident.model_id)
        self.expect(out, "force_unload", resident.model_id)

    # Work beside the callers

    @precondition(lambda self: self.ready())
    @rule(pick=picks)
    def begin_upgrade(self, pick: int) -> None:
        resident = chosen(self.ready(), pick)
        began = self.ledger.begin_upgrade(resident)
        assert began == (not self.closed and resident not in self.upgrades)
        if self.punctual:
            assert began == self.reference.may_upgrade(resident.model_id)
        if began:
            self.upgrades.append(resident)
            self.expect(None, "begin_upgrade", resident.model_id)

    @precondition(lambda self: self.upgrades)
    @rule(pick=picks, measured=st.sampled_from([None, None, 0, 2, 7]))
    def end_upgrade(self, pick: int, measured: int | None) -> None:
        resident = self.upgrades.pop(pick % len(self.upgrades))
        out = self.ledger.end_upgrade(resident, self.now, measured)
        self.expect(out, "end_upgrade", resident.model_id, measured)

    @rule(size=st.integers(1, 9))
    def reserve(self, size: int) -> None:
        reserved = self.ledger.reserve(size)
        if self.punctual:
            assert reserved == self.reference.may_reserve(size)
        if reserved:
            assert not self.reserved
            self.reserved = size
            self.expect(None, "reserve", size)

    @precondition(lambda self: self.reserved)
    @rule()
    def unreserve(self) -> None:
        self.reserved = 0
        self.expect(self.ledger.unreserve(self.now), "unreserve")

    # Engines

    @precondition(lambda self: self.arriving())
    @rule(pick=picks, measured=st.sampled_from([None, None, 0, 2, 7]), warm=st.booleans())
    def warming_or_loaded(self, pick: int, measured: int | None, warm: bool) -> None:
        resident = chosen(self.arriving(), pick)
        if warm and resident.state is State.LOADING:
            self.ledger.warming(resident, 0.5)
            self.expect(None, "warming", resident.model_id, 0.5)
        else:
            self.ready_at[resident] = self.used_at[resident] = self.now
            out = self.ledger.loaded(resident, object(), self.now, footprint=measured)
            self.expect(out, "loaded", resident.model_id, measured, self.now)

    @precondition(lambda self: self.arriving())
    @rule(pick=picks, gone=st.booleans())
    def failed(self, pick: int, gone: bool) -> None:
        resident = chosen(self.arriving(), pick)
        out = self.ledger.failed(resident, "boom", self.now, gone=gone)
        self.expect(out, "failed", resident.model_id, self.now, gone=gone)

    @precondition(lambda self: self.ledger_in(State.UNLOADING))
    @rule(pick=picks, overdue=st.sampled_from([False, False, True]))
    def gone_or_overdue(self, pick: int, overdue: bool) -> None:
        resident = chosen(self.ledger_in(State.UNLOADING), pick)
        self.promised.discard(resident)
        if overdue:
            self.expect(self.ledger.overdue(resident, self.now), "overdue", resident.model_id)
            return
        self.leases = [lease for lease in self.leases if lease[0] is not resident]
        self.streams = [stream for stream in self.streams if stream[0] is not resident]
        self.expect(self.ledger.gone(resident, self.now), "gone", resident.model_id)
        assert resident.instance is None

    @rule(taken=st.sampled_from([{}, {"cpu": NOISE + 6}, {"cpu": NOISE + 10, "gpu": NOISE + 9}]))
    def observed(self, taken: dict[str, int]) -> None:
        """See what the process takes of each device."""
        self.expect(self.ledger.observed(taken, self.now), "observed", taken)

    @rule(wanted=st.lists(models, min_size=1, max_size=4))
    def visit(self, wanted: list[str]) -> None:
        """Let callers come and go, and engines keep up with them."""
        for model_id in wanted:
            self.request(model_id, "cal")
            while self.ledger_in(State.UNLOADING):
                self.gone_or_overdue(0, overdue=False)
            while self.arriving():
                self.warming_or_loaded(0, None, warm=False)
            if self.leases:
                self.release(-1)

    @rule(wanted=st.lists(models, min_size=2, max_size=5), seconds=st.sampled_from([1.0, 3.0, 6.0]))
    def contend(self, wanted: list[str], seconds: float) -> None:
        """Let callers speak with what they get and others wait for it, while time goes on."""
        for model_id in wanted:
            self.request(model_id, "dan")
            while self.ledger_in(State.UNLOADING):
                self.gone_or_overdue(0, overdue=False)
            while self.arriving():
                self.warming_or_loaded(0, None, warm=self.arriving()[0].state is State.LOADING)
        if self.leases:
            self.release(-1)
        if self.handed_over():
            self.open_stream(-1)
        self.wait(seconds)

    # The clock

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0]))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.punctual and (due := self.ledger.next_due()) <= until:
            assert due > self.now
            self.now = due
            self.tick()
        self.now = until

    @rule()
    def tick(self) -> None:
        self.expect(self.ledger.tick(self.now))
        assert self.ledger.next_due() > self.now

    # The end

    def teardown(self) -> None:
        """When everything has ended, nothing is left and nothing is booked."""
        if not self.sound:
            return
        if not self.closed:
            self.close()
        while self.arriving():
            self.failed(0, gone=True)
        while self.leases:
            self.release(0)
        while self.streams:
            self.close_stream(0)
        while self.upgrades:
            self.end_upgrade(0, None)
        if self.reserved:
            self.unreserve()
        while self.speakers():
            self.force_unload(0)
        while self.ledger_in(State.UNLOADING):
            self.gone_or_overdue(0, overdue=False)
        capacity = self.ledger.capacity
        assert not self.ledger.residents
        assert not self.open_tickets
        assert not +capacity.booked
        assert (capacity._count, capacity.loading, capacity._leaving, capacity._promised) == (
            0,
            0,
            0,
            0,
        )
        assert (capacity._movable, len(capacity._protected)) == (0, 0)
        assert self.ledger.next_due() == math.inf


def chosen(things: Sequence[T], pick: int) -> T:
    return things[pick % len(things)]


TestRules = LedgerMachine.TestCase
TestRules.settings = PROFILES.get(
    os.environ.get("HYPOTHESIS_PROFILE", "default"), PROFILES["default"]
)
