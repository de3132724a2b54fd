"""Keys over HTTP, and without keys a refusal of what pages of the internet send.

A browser on this machine reaches what listens on this machine only, whatever page it shows.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from greenroom.config.schema import WorkerSettings
from greenroom.errors import ForbiddenError
from greenroom.worker.auth import Keys, Role, owner_of

_bearer = HTTPBearer(auto_error=False, description="One of the worker's `api_keys`.")
_Described = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


class Access:
    """Lists of dependencies, one of which each router is included with: it says who may call it.

    After one of them `request.state.caller` is the `Caller`.
    """

    def __init__(self, keys: Keys, settings: WorkerSettings) -> None:
        self._keys = keys
        self._local = not keys and not settings.allow_unauthenticated
        self.speaking: Sequence[Any] = [Depends(self._needs_speak)]
        """For what a key with the role `speak` may do."""
        self.administering: Sequence[Any] = [Depends(self._needs_admin)]
        """For what needs the role `admin`."""
        self._public = settings.public_discovery
        looking = self._recognises if self._public else self._needs_speak
        self.looking: Sequence[Any] = [Depends(looking)]
        """For discovery, which many clients do without their key."""

    def may_look(self, request: Request) -> bool:
        """Return whether the caller may see what discovery shows; raises nothing."""
        if self._public:
            return True
        return self._keys.recognise(request.headers.getlist("authorization")).role >= Role.SPEAK

    async def _recognises(self, request: Request, _: _Described) -> None:
        self._admit(request, Role.NOBODY)

    async def _needs_speak(self, request: Request, _: _Described) -> None:
        self._admit(request, Role.SPEAK)

    async def _needs_admin(self, request: Request, _: _Described) -> None:
        self._admit(request, Role.ADMIN)

    def _admit(self, request: Request, role: Role) -> None:
        """Raises what `Keys.admit` raises, and `ForbiddenError` for strangers."""
        if self._local:
            _refuse_strangers(request)
        request.state.caller = self._keys.admit(request.headers.getlist("authorization"), role)


def requester(request: Request) -> str:
    """Return who sends a request, as owners of references are shown; it was let in before."""
    peer = f"{request.client.host}:{request.client.port}" if request.client else "a local client"
    return owner_of(f"{request.method} {request.url.path}", request.state.caller, peer)


def _refuse_strangers(request: Request) -> None:
    """Refuse what a page on the internet has a browser on this machine send.

    A rebound name shows in `Host`, a form or a script in `Origin`. What speaks HTTP/1.0 and names
    no host is no browser.
    """
    host = request.headers.get("host", "")
    origin = request.headers.get("origin", "")
    is_plain = request.scope["http_version"] == "1.0" and "host" not in request.headers
    if request.client is not None and not is_plain and not _is_local(host):
        raise ForbiddenError(
            f"the worker has no API keys and answers to this machine's names only, not "
            f"{host[:80]!r}; configure api_keys, or allow_unauthenticated."
        )
    if origin and origin.partition("://")[2] != host:
        raise ForbiddenError(
            f"the worker has no API keys and takes nothing from pages of {origin[:80]!r}; "
            "configure api_keys, or allow_unauthenticated."
        )


def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
