"""API keys as text: what one may be made of."""

from __future__ import annotations


def is_sendable(key: str) -> bool:
    """Return whether an API key can be sent in a header without any encoding."""
    return key.isascii() and key.isprintable() and " " not in key
