"""Admission control: how much is used at once, in all, by one key, and by one address with it.

A slot is counted in the step that checks for it, and is given back once, by whatever ends first.
Administrators have slots of their own, so that what others use never takes theirs; probes need
none (`grpc/calls.py`, `http/middleware.py`).
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote

from greenroom.config.schema import WorkerSettings
from greenroom.errors import WorkerBusyError
from greenroom.worker.auth import Caller, Role

SPARE_CALLS = 1_024
"""Calls at once besides what all sessions and streams need: looking, controlling."""

RETRY_S = 1.0
"""When a refused caller may try again: most calls are over by then."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How many slots there are, and how many of them one may have."""

    total: int
    key: int
    """Of one key; also of all those together who send none, where there are keys."""
    peer: int
    """Of one address with one key, or without."""


class Slot:
    """The right to use something until it is given back; a second time changes nothing."""

    __slots__ = ("_give_back",)

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def give_back(self) -> None:
        """Let another caller have it."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()


class Slots:
    """Slots of one kind, `what` in words and in the plural."""

    def __init__(self, what: str, shares: Shares, refused: Callable[[], None]) -> None:
        """`refused` is called for each that is not given a slot."""
        self.shares = shares
        self._what = what
        self._refused = refused
        self._total = 0
        self._keys: Counter[str] = Counter()
        self._peers: Counter[tuple[str, str]] = Counter()

    def take(self, key: str, peer: str) -> Slot:
        """Count one more use by the holder of a key (empty: none) at an address.

        Raises `WorkerBusyError`.
        """
        holder = (key, peer)
        problem = self._problem(holder)
        if problem is not None:
            self._refused()
            raise WorkerBusyError(problem, RETRY_S)
        self._total += 1
        self._keys[key] += 1
        self._peers[holder] += 1
        return Slot(lambda: self._give_back(holder))

    def _problem(self, holder: tuple[str, str]) -> str | None:
        key, shares = holder[0], self.shares
        if self._peers[holder] >= shares.peer:
            return f"{shares.peer} {self._what} of this address are open already"
        if self._keys[key] >= shares.key:
            who = "this key" if key else "callers without a key"
            return f"{shares.key} {self._what} of {who} are open already"
        if self._total >= shares.total:
            return f"{self._total} {self._what} are open already"
        return None

    def _give_back(self, holder: tuple[str, str]) -> None:
        """Forget holders that have none left: addresses come and go as long as a worker lives."""
        self._total -= 1
        _less(self._keys, holder[0])
        _less(self._peers, holder)

    def __len__(self) -> int:
        return self._total

    def __repr__(self) -> str:
        return f"<Slots {self._what} {self._total}/{self.shares.total}>"


class SlotPools:
    """Slots of one kind twice: for administrators, and for all other callers."""

    def __init__(self, what: str, shares: Shares, refused: Callable[[], None]) -> None:
        self.administrators = Slots(what, shares, refused)
        self.others = Slots(what, shares, refused)

    def take(self, caller: Caller, peer: str) -> Slot:
        """Count one more use of a caller's; raises `WorkerBusyError`."""
        is_administrator = bool(caller.name) and caller.role is Role.ADMIN
        slots = self.administrators if is_administrator else self.others
        return slots.take(caller.name, peer)

    def __len__(self) -> int:
        return len(self.administrators) + len(self.others)


class Admission:
    """Everything of a worker that callers use at once, whatever the protocol.

    Without keys all are equal: one address has its share, and all together have everything.
    """

    def __init__(self, settings: WorkerSettings, refused: Callable[[str], None]) -> None:
        """`refused` is called with what was refused, one of `prometheus.LIMITS`."""
        speaking = settings.max_sessions + settings.max_streams
        has_keys = bool(settings.api_keys)

        def shared(what: str, reason: str, total: int, key: int, peer: int) -> SlotPools:
            shares = Shares(total, key if has_keys else total, peer)
            return SlotPools(what, shares, lambda: refused(reason))

        total = 2 * speaking + SPARE_CALLS
        self.calls = shared("calls", "requests", total, speaking + 256, speaking + 128)
        """gRPC calls and HTTP requests, other than probes; one alone may use all that can speak."""
        self.watches = shared("watches", "watches", 512, 128, 64)
        """gRPC calls without an end: of health, and of reflection."""
        self.followers = shared("followers", "followers", 64, 32, 16)
        """Followers of the events over HTTP."""


def host_of(peer: str) -> str:
    """Return the address in what gRPC calls a peer, as `peer_of` does; the port changes nothing."""
    scheme, _, rest = unquote(peer).partition(":")
    if scheme not in ("ipv4", "ipv6"):
        return "this machine"
    return peer_of(rest.rpartition(":")[0].strip("[]"))


def peer_of(host: str | None) -> str:
    """Return what is counted as one address: of IPv6 the 64 bits that one subscriber is given.

    `None` is who came over a unix socket.
    """
    if host is None:
        return "this machine"
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and not address.is_loopback:
            address = address.ipv4_mapped or ipaddress.IPv6Address(int(address) >> 64 << 64)
        return str(address)
    return host


def _less(counts: Counter[Any], key: Any) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
