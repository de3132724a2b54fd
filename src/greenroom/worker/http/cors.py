"""Pages of other origins, named in the configuration, may use the API from their scripts."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

_READABLE = (
    *("retry-after", "retry-after-ms", "x-request-id", "x-should-retry"),
    *("x-channels", "x-sample-rate", "x-sample-width"),
)
"""Headers of answers that a script may see, beside those that it always may."""


def add_cors(app: FastAPI, origins: Sequence[str]) -> None:
    """Let scripts of pages of `origins` call every route, with a key where one is needed.

    Any header may be sent: OpenAI's SDK has a dozen of its own. There are no cookies, so pages
    act with the keys that they have. Preflights are answered here, without a key or a slot.
    """
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["DELETE", "GET", "HEAD", "POST"],
        allow_headers=["*"],
        expose_headers=list(_READABLE),
    )
