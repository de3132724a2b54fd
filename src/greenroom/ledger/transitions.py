"""The states of a resident, and which event leads from which state to which.

    request: its room is booked
       |
       v       warming               loaded
    LOADING ------------> WARMING ------------> READY <-----------.
     |   |                   |                  ^ | |             |
     |   '--- loaded (without a warmup) --------' | | drain       | end_drain:
     |                       |                    | v             | the drain is taken back
     |                       |                    | DRAINING -----'
     | failed         failed |              leave | |
     |                       |                    | | leave: the last use has ended
     |                       |                    v v
     '-----------------------'--------------> UNLOADING --------> forgotten
                                                          gone

    leave from READY: expired, evicted, surplus, or unloaded while idle; a shutdown lets models
    leave from READY and DRAINING by force, whoever holds them.

A model whose engine has crashed takes the same way, at once: READY, DRAINING until its streams
have ended, UNLOADING.

A load that failed is `UNLOADING` too, since a thread may still be inside the engine; where none
is, `gone` follows in the same step. A model that is gone has no state: the ledger forgets it, and
a later life of the same model is another `Resident`, with another number.

The other events keep the state and are legal in some states only. Streams and upgrades keep a
thread inside the engine (`Resident.occupied`), so nothing leads to `UNLOADING` while one runs.

Part of the ledger, as pure as it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from greenroom.ledger.state import Resident, State


class Event(StrEnum):
    """What can happen to a resident; each is named after the ledger's step for it."""

    # Of a load: reports of the effects.
    WARMING = "warming"
    LOADED = "loaded"
    FAILED = "failed"

    # Of a model that can be used: steps of callers, and of the work that replaces its form.
    OPEN_STREAM = "open_stream"
    CLOSE_STREAM = "close_stream"
    BEGIN_UPGRADE = "begin_upgrade"
    END_UPGRADE = "end_upgrade"

    # Of its end: the ledger's own decisions, then reports of the effects.
    DRAIN = "drain"
    END_DRAIN = "end_drain"
    LEAVE = "leave"
    OVERDUE = "overdue"
    GONE = "gone"


FORGOTTEN: Final = None
"""The absence that `Event.GONE` leads to."""

TRANSITIONS: Mapping[State, Mapping[Event, State | None]] = {
    # No LEAVE while it loads: a thread is inside the engine, and only `failed` says when it ends.
    State.LOADING: {
        Event.WARMING: State.WARMING,
        Event.LOADED: State.READY,
        Event.FAILED: State.UNLOADING,
    },
    # A warmup that fails is a load that failed: no caller gets a model that has not spoken.
    State.WARMING: {
        Event.LOADED: State.READY,
        Event.FAILED: State.UNLOADING,
    },
    # The only state in which a model is a hit, expires and is evicted.
    State.READY: {
        Event.OPEN_STREAM: State.READY,
        Event.CLOSE_STREAM: State.READY,
        Event.BEGIN_UPGRADE: State.READY,
        Event.END_UPGRADE: State.READY,
        Event.DRAIN: State.DRAINING,
        Event.LEAVE: State.UNLOADING,
    },
    # Callers that hold it go on as before, streams included. No upgrade begins: it would only
    # make the drain longer, and what it makes better would be gone in a moment.
    State.DRAINING: {
        Event.OPEN_STREAM: State.DRAINING,
        Event.CLOSE_STREAM: State.DRAINING,
        Event.END_UPGRADE: State.DRAINING,
        Event.END_DRAIN: State.READY,
        Event.LEAVE: State.UNLOADING,
    },
    # No way back: the engine is being freed. An unload may be reported overdue again and again.
    State.UNLOADING: {
        Event.OVERDUE: State.UNLOADING,
        Event.GONE: FORGOTTEN,
    },
}


class LedgerStateError(AssertionError):
    """A report to the ledger that does not fit its state: a mistake in Greenroom, not of a caller.

    It is raised before anything was changed, so the ledger's accounts are right afterwards.
    """

    def __init__(self, resident: Resident, event: Event, problem: str) -> None:
        super().__init__(
            f"{event} of model {resident.model_id!r} (life {resident.number}) refused: {problem}."
        )
        self.resident = resident
        self.event = event


def successor(resident: Resident, event: Event) -> State | None:
    """Return the state that `event` leads to, `FORGOTTEN` after the last one.

    Raises `LedgerStateError` where it cannot happen in the resident's state.
    """
    # Own and present is for the ledger to check: this looks at the state alone.
    following = TRANSITIONS[resident.state]
    if event not in following:
        legal = ", ".join(following)
        raise LedgerStateError(resident, event, f"it is {resident.state}, which allows {legal}")
    return following[event]
