"""Keys over HTTP, and without keys a refusal of what pages of the internet send.

A browser on this machine reaches what listens on this machine only, whatever page it shows.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers

from greenroom.config.schema import WorkerSettings
from greenroom.errors import ForbiddenError
from greenroom.worker.auth import Keys, Role, owner_of

_bearer = HTTPBearer(auto_error=False, description="One of the worker's `api_keys`.")
_header = APIKeyHeader(name="x-api-key", auto_error=False, description="The same, for others.")
_Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
_Header = Annotated[str | None, Security(_header)]


def authorizations(headers: Headers) -> list[str]:
    """Return what a request authorizes itself with, as `Authorization` says it.

    `x-api-key` counts where there is no bearer's key, as where a proxy has `Authorization` for
    itself.
    """
    sent = headers.getlist("authorization")
    if any(each.strip().lower().startswith("bearer ") for each in sent):
        return sent
    return [f"Bearer {key}" for key in headers.getlist("x-api-key")] or sent


class Access:
    """Lists of dependencies, one of which each router is included with: it says who may call it.

    After one of them `request.state.caller` is the `Caller`.
    """

    def __init__(self, keys: Keys, settings: WorkerSettings) -> None:
        self._keys = keys
        self._local = not keys and not settings.allow_unauthenticated
        self._origins = frozenset(settings.cors_origins)
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
        return self._keys.recognise(authorizations(request.headers)).role >= Role.SPEAK

    async def _recognises(self, request: Request, _: _Bearer, __: _Header) -> None:
        self._admit(request, Role.NOBODY)

    async def _needs_speak(self, request: Request, _: _Bearer, __: _Header) -> None:
        self._admit(request, Role.SPEAK)

    async def _needs_admin(self, request: Request, _: _Bearer, __: _Header) -> None:
        self._admit(request, Role.ADMIN)

    def _admit(self, request: Request, role: Role) -> None:
        """Raises what `Keys.admit` raises, and `ForbiddenError` for strangers."""
        if self._local:
            _refuse_strangers(request, self._origins)
            if role is not Role.NOBODY:
                _refuse_embedding(request)
        request.state.caller = self._keys.admit(authorizations(request.headers), role)


def requester(request: Request) -> str:
    """Return who sends a request, as owners of references are shown; it was let in before."""
    peer = f"{request.client.host}:{request.client.port}" if request.client else "a local client"
    return owner_of(f"{request.method} {request.url.path}", request.state.caller, peer)


def _refuse_strangers(request: Request, origins: Collection[str]) -> None:
    """Refuse what a page on the internet has a browser on this machine send.

    A rebound name shows in `Host`, a form or a script in `Origin`. What speaks HTTP/1.0 and names
    no host is no browser. Pages of `origins` are friends.
    """
    host = request.headers.get("host", "")
    origin = request.headers.get("origin", "")
    is_plain = request.scope["http_version"] == "1.0" and "host" not in request.headers
    if request.client is not None and not is_plain and not _is_local(host):
        raise ForbiddenError(
            f"the worker has no API keys and answers to this machine's names only, not "
            f"{host[:80]!r}; configure api_keys, or allow_unauthenticated."
        )
    if origin and origin.partition("://")[2] != host and origin not in origins:
        raise ForbiddenError(
            f"the worker has no API keys and takes nothing from pages of {origin[:80]!r}; "
            "configure api_keys, cors_origins, or allow_unauthenticated."
        )


def _refuse_embedding(request: Request) -> None:
    """Refuse what a page of another site shows or plays: for that, no `Origin` is sent.

    What the page sees of it is nothing, but the work would be done.
    """
    site = request.headers.get("sec-fetch-site", "none")
    if site in ("cross-site", "same-site") and "origin" not in request.headers:
        raise ForbiddenError(
            "the worker has no API keys and plays nothing in pages of others; name their origin in "
            "cors_origins and set `crossorigin` on the element, or configure api_keys."
        )


def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
