"""The page at `/`: a few small files, with headers that keep everything else out of it."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import Response

FILES = Path(__file__).parent / "static"

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_page(app: FastAPI) -> None:
    """Serve the page and its files; what they show is asked for with the viewer's key."""
    answers = {path.name: _answer(path) for path in FILES.iterdir() if path.suffix in _TYPES}

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return answers["index.html"]

    @app.get("/static/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        found = answers.get(name)
        if found is None:
            raise HTTPException(404)
        return found


def _answer(path: Path) -> Response:
    return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=_HEADERS)
