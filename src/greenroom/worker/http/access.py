"""Who may do what: API keys with a role, and what each may use.

Without keys everybody who reaches the worker may do everything, so it then listens on this machine
only (`server.py`), and refuses what a web page of somebody else's sends through a browser here.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from greenroom.config import ApiKey, WorkerSettings
from greenroom.errors import ForbiddenError, UnauthenticatedError
from greenroom.worker.http.limits import Allowance

_bearer = HTTPBearer(auto_error=False, description="One of the worker's `api_keys`.")
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


class Role(IntEnum):
    """What a caller may do; each role may do what those below it may."""

    NOBODY = 0
    SPEAK = 1
    ADMIN = 2


class Caller:
    """One key's holder, or everybody where there are no keys."""

    def __init__(self, name: str, role: Role, allowance: Allowance) -> None:
        self.name = name
        """What logs and owners of leases show; never the key."""
        self.role = role
        self.allowance = allowance

    def __repr__(self) -> str:
        return f"<Caller {self.name!r} {self.role.name.lower()}>"


class Access:
    """Recognises callers. Routers are included with one of the lists of dependencies.

    After one of them `request.state.caller` is the `Caller`.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._keys = [
            (_digest(key.key.get_secret_value()), _caller(key)) for key in _named(settings)
        ]
        self._everybody = Caller("", Role.NOBODY if self._keys else Role.ADMIN, Allowance())
        self._local = not self._keys and not settings.allow_unauthenticated
        self.speaking: Sequence[Any] = [Depends(self._needs_speak)]
        """For what a key with the role `speak` may do."""
        self.administering: Sequence[Any] = [Depends(self._needs_admin)]
        """For what needs the role `admin`."""
        looking = self._recognises if settings.public_discovery else self._needs_speak
        self.looking: Sequence[Any] = [Depends(looking)]
        """For discovery, which many clients do without their key."""

    @property
    def has_keys(self) -> bool:
        """Whether any key is configured."""
        return bool(self._keys)

    async def _recognises(self, request: Request, credentials: _Credentials) -> None:
        self._admit(request, credentials, Role.NOBODY)

    async def _needs_speak(self, request: Request, credentials: _Credentials) -> None:
        self._admit(request, credentials, Role.SPEAK)

    async def _needs_admin(self, request: Request, credentials: _Credentials) -> None:
        self._admit(request, credentials, Role.ADMIN)

    def _admit(
        self, request: Request, credentials: HTTPAuthorizationCredentials | None, role: Role
    ) -> None:
        """Raises `UnauthenticatedError`, `ForbiddenError`, or `WorkerBusyError` for the rate."""
        if self._local:
            _refuse_strangers(request)
        caller = self._caller(credentials.credentials if credentials else None)
        if caller.role < role:
            if caller is self._everybody:
                raise UnauthenticatedError(
                    "this needs one of the worker's API keys; send `Authorization: Bearer KEY`."
                )
            raise ForbiddenError(
                f"key {caller.name!r} may {caller.role.name.lower()} only; "
                f"this needs a key with the role {role.name.lower()}."
            )
        if role is not Role.NOBODY:
            caller.allowance.count_request()
        request.state.caller = caller

    def _caller(self, key: str | None) -> Caller:
        """Return who has this key, in a time that does not depend on which it is."""
        digest = _digest(key or "")
        found = self._everybody
        for known, caller in self._keys:
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def __repr__(self) -> str:
        return f"<Access by {len(self._keys)} keys>"


def _named(settings: WorkerSettings) -> list[ApiKey]:
    return [
        key if key.name else key.model_copy(update={"name": f"key {number}"})
        for number, key in enumerate(settings.api_keys, 1)
    ]


def _caller(key: ApiKey) -> Caller:
    allowance = Allowance(key.max_streams, key.requests_per_minute)
    return Caller(key.name, Role[key.role.upper()], allowance)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _refuse_strangers(request: Request) -> None:
    """Refuse what a page on the internet has a browser on this machine send.

    A rebound name shows in `Host`, a form or a script in `Origin`.
    """
    host = request.headers.get("host", "")
    origin = request.headers.get("origin", "")
    if request.client is not None and not _is_local(host):
        raise ForbiddenError(
            f"the worker has no API keys and answers to this machine's names only, not "
            f"{host[:80]!r}; configure api_keys, or allow_unauthenticated."
        )
    if origin and urlsplit(origin).netloc != host:
        raise ForbiddenError(
            f"the worker has no API keys and takes nothing from pages of {origin[:80]!r}; "
            "configure api_keys, or allow_unauthenticated."
        )


def _is_local(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
