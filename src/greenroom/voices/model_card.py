"""What a voice's MODEL_CARD states: the licence of its speech, and where that comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass

from greenroom.untrusted.printable import one_line

MAX_CARD_BYTES = 256 * 1024

_LONGEST = 300
_LINE = re.compile(r"^\s*(?:[*-]\s*)?(?P<key>[A-Za-z ]{2,20}?)\s*:\s*(?P<value>\S.*)$")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is stated, in the card's own words; empty where it states nothing."""

    licence: str = ""
    dataset: str = ""
    """The address of the recordings."""


def parsed_card(content: bytes) -> ModelCard:
    """Return what a card states; one that is no text states nothing.

    Its form is that of Piper's collection: Markdown, with lines such as `* License: CC0`. Of
    several licences, as of a voice that was made from another, all are given.
    """
    stated: dict[str, list[str]] = {}
    for line in content[:MAX_CARD_BYTES].decode("utf-8", "replace").splitlines():
        if found := _LINE.match(line[:2_000]):
            stated.setdefault(found["key"].lower(), []).append(found["value"].strip())
    licences = [*stated.get("license", []), *stated.get("licence", [])]
    urls = stated.get("url", [])
    return ModelCard(
        one_line("; ".join(dict.fromkeys(licences)), _LONGEST),
        one_line(urls[0], _LONGEST) if urls else "",
    )
