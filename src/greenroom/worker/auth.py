"""Who may do what, and how much: API keys, their roles and their quotas, for HTTP and gRPC alike.

Without keys every caller that reaches the worker may do everything, so it then listens on this
machine only (`settings_check.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from enum import IntEnum

from greenroom.config.schema import ApiKey, WorkerSettings
from greenroom.errors import ForbiddenError, UnauthenticatedError, WorkerBusyError


class Role(IntEnum):
    """What a caller may do; each role may do what those below it may."""

    NOBODY = 0
    SPEAK = 1
    ADMIN = 2


class Caller:
    """The holder of one key, or all callers together where there are no keys."""

    def __init__(self, name: str, role: Role, quota: Quota) -> None:
        self.name = name
        """What logs and owners of leases show; never the key."""
        self.role = role
        self.quota = quota

    def needs(self, role: Role) -> None:
        """Raise `ForbiddenError` unless the caller may do what needs `role`."""
        if self.role < role:
            raise ForbiddenError(
                f"key {self.name!r} may {self.role.name.lower()} only; "
                f"this needs a key with the role {role.name.lower()}."
            )

    def __repr__(self) -> str:
        return f"<Caller {self.name!r} {self.role.name.lower()}>"


CALLER: ContextVar[Caller] = ContextVar("greenroom_caller")
"""The caller of the gRPC call that this code runs for."""


def owner_of(what: str, caller: Caller, peer: str) -> str:
    """Return how the references of a caller are shown."""
    return f"{what} of {caller.name} at {peer}" if caller.name else f"{what} of {peer}"


class Keys:
    """Recognises callers by their keys."""

    def __init__(self, settings: WorkerSettings, refused: Callable[[str], None]) -> None:
        """`refused` is called with what a quota refused, as `Quota` does."""
        self._refused = refused
        self._settings = settings
        self._keys = [
            (_digest(key.key.get_secret_value()), _caller(key, settings, refused))
            for key in settings.api_keys
        ]
        self._keyless = Caller("", Role.NOBODY if self._keys else Role.ADMIN, Quota())

    def replace(self, settings: WorkerSettings) -> None:
        """Recognise the keys of `settings` from here on.

        The holder of a key that stays as it is keeps what it has used of its quotas.
        """
        before = dict(zip(self._settings.api_keys, self._keys, strict=True))
        shares = len(settings.api_keys) > 1, len(self._settings.api_keys) > 1
        kept = before if shares[0] == shares[1] else {}
        self._keys = [
            kept.get(key)
            or (_digest(key.key.get_secret_value()), _caller(key, settings, self._refused))
            for key in settings.api_keys
        ]
        self._settings = settings

    def __len__(self) -> int:
        return len(self._keys)

    def admit(self, authorizations: Sequence[str], role: Role) -> Caller:
        """Return the caller that sends this `Authorization`, if it may do what needs `role`.

        More than one is none: who could say which of them counts? Raises `UnauthenticatedError`,
        `ForbiddenError`, or `WorkerBusyError` for the rate.
        """
        caller = self.recognise(authorizations)
        if caller is self._keyless and caller.role < role:
            raise UnauthenticatedError(
                "the key that was sent is none of the worker's API keys."
                if _only(authorizations)
                else "this needs one of the worker's API keys; send `Authorization: Bearer KEY`."
            )
        caller.needs(role)
        if role is not Role.NOBODY:
            caller.quota.count_request()
        return caller

    def recognise(self, authorizations: Sequence[str]) -> Caller:
        """Return the caller that sends this `Authorization`.

        Without a key of the worker's it is the one that stands for all such callers.
        """
        return self._holder(_only(authorizations))

    def _holder(self, key: str) -> Caller:
        """Return who has this key, in a time that does not depend on which it is."""
        digest = _digest(key)
        found = self._keyless
        for known, caller in self._keys:
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def __repr__(self) -> str:
        return f"<Keys {len(self)}>"


def _only(authorizations: Sequence[str]) -> str:
    """Return the key that was sent; empty for none, and for more than one."""
    return _bearer(authorizations[0]) if len(authorizations) == 1 else ""


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _caller(key: ApiKey, settings: WorkerSettings, refused: Callable[[str], None]) -> Caller:
    quota = Quota(
        key.max_streams or _share(settings.max_streams, settings),
        key.requests_per_minute,
        max_sessions=key.max_sessions or _share(settings.max_sessions, settings),
        max_text_chars=key.max_text_chars,
        refused=refused,
    )
    return Caller(key.name, Role[key.role.upper()], quota)


def _share(total: int, settings: WorkerSettings) -> int:
    """Return what a key without a limit of its own may have: a quarter is left for other keys."""
    return total - total // 4 if len(settings.api_keys) > 1 else total


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


STREAM_RETRY_S = 1.0
"""A stream may end at any moment, so this is how often it is worth asking for its slot."""


def _not_counted(reason: str) -> None:
    pass


class Quota:
    """How much one key may use: sessions, streams at once, requests a minute, length of text.

    Everything is allowed where there is no limit.

    Requests refill evenly, and may come in a burst of a minute's worth.
    `refused` is called with what was refused, as `greenroom.worker.prometheus.LIMITS` names it.
    """

    def __init__(
        self,
        max_streams: int | None = None,
        requests_per_minute: int | None = None,
        *,
        max_sessions: int | None = None,
        max_text_chars: int | None = None,
        refused: Callable[[str], None] = _not_counted,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_streams = max_streams
        self._rate = requests_per_minute
        self.max_sessions = max_sessions
        self._max_text_chars = max_text_chars
        self._refused = refused
        self._clock = clock
        self._streams = 0
        self._left = float(requests_per_minute or 0)
        self._since = clock()

    def text_limit(self, workers_limit: int) -> int:
        """Return how many characters one text may have: the lower of the key's and the worker's."""
        return min(workers_limit, self._max_text_chars or workers_limit)

    def count_request(self) -> None:
        """Raises `WorkerBusyError` when there were too many; a refused one does not count."""
        if self._rate is None:
            return
        now = self._clock()
        refilled = self._left + (now - self._since) * self._rate / 60
        self._left, self._since = min(float(self._rate), refilled), now
        if self._left < 1:
            self._refused("key_requests")
            raise WorkerBusyError(
                f"this key may send {self._rate} requests a minute",
                (1 - self._left) * 60 / self._rate,
            )
        self._left -= 1

    @contextlib.contextmanager
    def stream(self) -> Iterator[None]:
        """Count one stream inside the block; raises `WorkerBusyError` when there are too many."""
        if self._max_streams is not None and self._streams >= self._max_streams:
            self._refused("key_streams")
            raise WorkerBusyError(
                f"this key has {self._streams} streams running already", STREAM_RETRY_S
            )
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1
