"""Where a request for a voice goes: the replica in which it is expected to be heard first.

    1 at home      where the voice is in memory or on its way, while such a replica is not busy
    2 one more     all homes are busy, or there is none: the replica that can load it soonest
    3 busy homes   where nobody can take it, the home in which it is heard first

The expected time to audio is the queue, plus at a home what is left of the load, plus elsewhere a
whole load and the wait for room. A model that has to leave costs its own load again, the less
likely the longer it has not been used; so the whole cluster evicts about as one ledger would. Of
those that are about equal the rendezvous hash of voice and replica decides, which routers that
know nothing of each other compute alike (Thaler and Ravishankar 1998).

A replica is busy when it has more than `Reports.bound` times the mean in flight, as with consistent
hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam 2018), more than it may have by
chance, more than a few, and its streams need more than half of its cores: else a few callers would
scatter over all machines. One that takes no more is passed over while another does.

Pure, as `Reports` is; what is picked is to be noted there (`Reports.picked`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from greenroom.cluster.reports import Reports, seed_of

_RECENT_S = 10.0
"""A model that was used so long ago is taken to be wanted again with a probability of a half."""

_NEARLY = 1.1
_ABOUT_S = 0.005
"""Times that differ by less than a tenth and 5 ms are about equal: reports are older than that."""

_DEVIATIONS = 2.0
"""What arrives by chance varies with the root of its mean (Poisson): so many standard deviations
above the mean say nothing, and a copy that is made for them takes the place of another voice."""

_HARDLY_S = 1e-6
_FEW = 8
"""Up to so many times the slots that are wanted, sorting all is quicker than finding the least."""

Slots = NDArray[np.bool_]
"""Which of the slots are meant."""

_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
"""A multiplication and a shift mix 64 bits well enough to order replicas (by splitmix64)."""


def rank(reports: Reports, voice: str, now: float, count: int = 3) -> tuple[str, ...]:
    """Return the names of at most `count` replicas for a request, the best first.

    Empty when none takes work or may have the voice. Never one that drains, is not ready, or has
    not reported for `Reports.dead_after_s` when others have.
    """
    open_slots = reports.is_open(now)
    lacking = reports.catalogs_without(voice)
    if lacking:
        open_slots &= ~np.isin(reports.catalog, list(lacking))
    number = int(np.count_nonzero(open_slots))
    if not number:
        return ()
    if reports.most_in_flight:
        taking = open_slots & (reports.flight < reports.most_in_flight)
        if taking.any():
            open_slots, number = taking, int(np.count_nonzero(taking))
    free = open_slots & ~_busy(reports, open_slots, number)
    homes, seconds = _homes(reports, voice, now, open_slots)
    best: list[int] = []
    busy: list[int] = []
    if homes.size:
        calm = free[homes]
        best = _first(homes[calm], seconds[calm], count)
        if len(best) < count:
            busy = _first(homes[~calm], seconds[~calm], count)
    if len(best) < count:
        others: list[int] = []
        if not homes.size or not reports.max_copies or homes.size < reports.max_copies:
            among = free
            if homes.size:
                among[homes] = False
                among &= reports.room == 0.0  # one more copy is worth no wait
            others = _soonest(reports, voice, now, among, count - len(best))
        best += [*others[:1], *busy, *others[1:]]
    if len(best) < min(count, number):
        open_slots[best] = False
        best += _soonest(reports, voice, now, open_slots, count - len(best))
    return tuple(reports.names[slot] for slot in best[:count])


def _busy(reports: Reports, open_slots: Slots, number: int) -> Slots:
    """Return which slots have more than their share of what is in flight."""
    mean = (float(reports.flight[open_slots].sum()) + 1) / number
    most = max(reports.bound * mean, mean + _DEVIATIONS * math.sqrt(mean))
    busy: Slots = reports.flight + 1 > np.maximum(reports.limit, most)
    return busy


def _homes(
    reports: Reports, voice: str, now: float, open_slots: Slots
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the slots where the voice is or will be, and after how long it would be heard."""
    slots, ready_at = reports.homes_of(voice)
    if not slots.size:
        return slots, ready_at
    usable = open_slots[slots]
    slots, ready_at = slots[usable], ready_at[usable]
    seconds = np.maximum(ready_at - now, 0.0) + reports.queue[slots]
    # Of homes that are alike the one with least in flight, so that they fill evenly.
    seconds += _HARDLY_S * reports.flight[slots]
    return slots, seconds


def _first(slots: NDArray[np.int64], seconds: NDArray[np.float64], count: int) -> list[int]:
    """Return the slots with the least seconds."""
    if slots.size > _FEW * count:
        near = np.argpartition(seconds, count)[:count]
        slots, seconds = slots[near], seconds[near]
    found: list[int] = slots[np.argsort(seconds, kind="stable")[:count]].tolist()
    return found


def _soonest(reports: Reports, voice: str, now: float, among: Slots, count: int) -> list[int]:
    """Return the slots of some in which the voice could be loaded soonest."""
    load = reports.load_s(voice)
    # What the model that leaves will cost, the longer it was not used the less.
    seconds = np.maximum(now - reports.spare, 0.0)
    seconds += _RECENT_S
    np.divide(load * _RECENT_S, seconds, out=seconds)
    seconds += reports.queue
    seconds += reports.room
    seconds += load
    footprint = reports.footprint(voice)
    if footprint:
        among = among & (reports.bytes >= footprint)
    seconds[~among] = np.inf
    seed = np.uint64(seed_of(voice))
    found: list[int] = []
    while len(found) < count:
        least = float(seconds.min())
        if least == np.inf:
            break
        equal = np.flatnonzero(seconds <= least * _NEARLY + _ABOUT_S)
        hashes = (reports.seeds[equal] ^ seed) * _MIX
        hashes ^= hashes >> _SHIFT
        hashes *= _MIX
        # All that are about equal at once, in the order of their hashes.
        chosen = equal[np.argsort(hashes)[::-1][: count - len(found)]]
        seconds[equal if chosen.size < equal.size else chosen] = np.inf
        found += chosen.tolist()
    return found
