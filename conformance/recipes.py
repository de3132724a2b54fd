"""The code of `docs/recipes.md`, with the addresses of a worker that runs."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def recipes() -> dict[tuple[str, str], str]:
    """Return the code of each recipe, by its heading and language."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        (heading, kind): code
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
        for kind, code in _BLOCK.findall(text)
    }


def recipe(heading: str, kind: str, http: str) -> str:
    """Return a recipe for a worker that serves HTTP at an address; a shell's in one line."""
    code = recipes()[heading, kind].replace("\\\n", "")
    assert "http://127.0.0.1:8880" in code
    return code.replace("http://127.0.0.1:8880", http)
