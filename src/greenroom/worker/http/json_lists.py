"""Lists of the whole catalog as JSON: it never changes, so each is encoded once, off the loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

from fastapi import Response


class CatalogList:
    """`{…, "key": [an entry for each model]}`."""

    def __init__(self, key: str, entries: Callable[[], Iterable[dict[str, Any]]], **rest: Any):
        self._key = key
        self._entries = entries
        self._rest = rest
        self._body: bytes | None = None

    async def answer(self) -> Response:
        """Return the list, encoded at the first question."""
        if self._body is None:
            self._body = await asyncio.to_thread(self._encoded)
        return Response(self._body, media_type="application/json")

    def _encoded(self) -> bytes:
        """Encode entry by entry: one call for all would keep the loop's thread from running."""
        head = "".join(f"{_text(key)}:{_text(value)}," for key, value in self._rest.items())
        entries = ",".join(map(_text, self._entries()))
        return f"{{{head}{_text(self._key)}:[{entries}]}}".encode()


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
