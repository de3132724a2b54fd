"""The simulator without short cuts: one heap, and every stream opened and closed."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import count
from typing import Any

from greenroom.ledger.residency import Residency
from greenroom.ledger.state import Decision, Granted, Load, ModelRequest, Policy, Unload
from greenroom.simulation.trace import Trace
from tests.ledger.driver import describe


def decisions_of(trace: Trace, policy: Policy) -> list[tuple[float, str]]:
    """Return every decision of the ledger in a trace, and when it was made."""
    ledger = Residency(policy)
    made: list[tuple[float, str]] = []
    # Ends come before arrivals, and those of speeches before those of loads and unloads.
    events: list[tuple[float, int, int, Any]] = [
        (at, 1, number, None) for number, at in enumerate(trace.at.tolist())
    ]
    events.sort()
    numbers = count(len(trace))
    loads = dict.fromkeys((model.model_id for model in trace.models), 0)
    models = {model.model_id: model for model in trace.models}
    due = float("inf")

    def carry_out(decisions: Iterable[Decision], now: float) -> None:
        nonlocal due
        for decision in decisions:
            made.append((now, describe(decision)))
            match decision:
                case Load(resident):
                    known = models[resident.model_id].loads_s
                    took = known[loads[resident.model_id] % len(known)]
                    loads[resident.model_id] += 1
                    heappush(events, (now + took, 0, next(numbers), (resident, now)))
                case Unload(resident):
                    took = models[resident.model_id].unload_s
                    heappush(events, (now + took, 0, next(numbers), (resident, now)))
                case Granted(ticket, resident):
                    begin(ticket.owner, resident, now)
        due = ledger.next_due()

    def carry_out_any(decisions: Iterable[Decision] | None, now: float) -> None:
        if decisions is not None:
            carry_out(decisions, now)

    def begin(number: Any, resident: Any, now: float) -> None:
        ledger.open_stream(resident)
        heappush(events, (now + float(trace.speech_s[number]), 0, number, (resident, now)))

    while events or due < float("inf"):
        if not events or due < events[0][0]:
            now, due = due, float("inf")
            carry_out(ledger.tick(now), now)
            continue
        now, arrives, number, what = heappop(events)
        if arrives:
            model = trace.models[trace.model[number]]
            found = ledger.hit(model.model_id, number, now)
            if found is not None:
                begin(number, found, now)
            else:
                request = ModelRequest(model.model_id, model.device, model.footprint)
                carry_out(ledger.request(request, number, now)[1], now)
            continue
        resident, since = what
        if number < len(trace):
            carry_out_any(ledger.close_stream(resident, now, since), now)
            carry_out_any(ledger.release(resident.model_id, number, now), now)
        elif resident.loading:
            ledger.warming(resident, now - since)
            carry_out(ledger.loaded(resident, True, now), now)
        else:
            carry_out(ledger.gone(resident, now), now)
    return made
