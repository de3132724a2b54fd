"""`greenroom pin` and `unpin`: exempt models from eviction and expiry, over HTTP."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from greenroom.cli.http_address import http_url
from greenroom.cli.model_argument import Models
from greenroom.cli.shared_options import HttpServer, Key
from greenroom.cli.terminal.console import KEY_FIX, CommandError, print_text
from greenroom.config.address import DEFAULT_HTTP_LISTEN

_LIMIT_S = 10.0
"""A pin waits for nothing: a worker that answers at all answers sooner."""


def pin(models: Models, server: HttpServer = DEFAULT_HTTP_LISTEN, key: Key = None) -> None:
    """Exempt models from eviction and expiry, now or whenever they are loaded."""
    url = http_url(server, key)
    for name in models:
        state = _post(url, key, "/api/pin", {"model": name})["state"]
        print_text(f"{name} is pinned" + ("" if state else "; it is not in memory yet"))


def unpin(models: Models, server: HttpServer = DEFAULT_HTTP_LISTEN, key: Key = None) -> None:
    """Let models be evicted and expire again."""
    url = http_url(server, key)
    for name in models:
        _post(url, key, "/api/unpin", {"model": name})
        print_text(f"{name} is not pinned")


def _post(url: str, key: str | None, path: str, body: dict[str, str]) -> Any:
    """Post to a worker and return its answer; raises `CommandError` with the worker's message."""
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url + path, data=json.dumps(body).encode(), headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_LIMIT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise CommandError(_problem(error)) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise CommandError(
            f"no worker answers at {url} ({reason}); start one with `greenroom serve`."
        ) from None


def _problem(error: urllib.error.HTTPError) -> str:
    try:
        said = str(json.load(error)["error"]["message"])
        return f"{said} {KEY_FIX}" if error.code in (401, 403) else said
    except (ValueError, KeyError, TypeError):
        return f"the answer was {error.code} {error.reason}; is it a worker's address?"
