"""Hostile YAML and JSON: small texts that become large, and values of the wrong kinds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

SCALARS = (
    *("null", "~", "true", "no", "0", "-1", "1", "3", "1.5", ".inf", "-.inf", ".nan", "1e999"),
    *(
        "1" + "0" * 400,
        "9" * 5_000,
        "0x" + "f" * 3_000,
        "-" + "9" * 40,
        "0o777",
        "1_000",
        "1:30:00",
    ),
    *("2026-11-24", "2026-11-24T10:00:00Z", "9999-99-99", "0000-00-00", "!!timestamp 1"),
    *("!!binary aGk=", "!!binary '*'", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]"),
    *(
        "!!python/object:os.system x",
        "!!int x",
        "!!float x",
        "!!bool maybe",
        "!unknown x",
        "!!null 3",
    ),
    *(
        "''",
        "' '",
        '"\\0"',
        '"\\e[2J"',
        '"\\ud800"',
        '"\\u202e"',
        '"a b"',
        "'x'",
        "/",
        "..",
        "~root",
    ),
    *("[]", "{}", "[1, 2]", "[[]]", "{a: 1}", "{1: 2}", "{[1]: 2}", "{? {a: 1} : 2}", "[null]"),
    *(
        "tone",
        "piper",
        "tone-440",
        "cpu",
        "cuda:0",
        "cuda:99999999999999",
        "127.0.0.1:0",
        "[::1]:0",
    ),
    *(
        "*unknown",
        "&a [*a]",
        "&a {a: *a}",
        "<<",
        "=",
        "%",
        "@",
        "`",
        "- - -",
        "? :",
        "|",
        ">",
        "|+99",
    ),
)


def _brackets(dice: random.Random) -> str:
    count = dice.choice((10, 200, 5_000, 100_000))
    return dice.choice(("[", "{a: ", "[[", "- ", "? ", "!!seq [")) * count


def _closed_brackets(dice: random.Random) -> str:
    count = dice.choice((50, 900, 5_000))
    return "[" * count + "]" * count


def _bomb(dice: random.Random) -> str:
    width, depth = dice.choice(((9, 9), (2, 40), (100, 5)))
    levels = (
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]"
        for level in range(1, depth)
    )
    return "\n".join(("a0: &a0 [lol, lol, lol]", *levels))


def _merge_bomb(dice: random.Random) -> str:
    levels = (
        f"m{level}: &m{level} {{<<: [*m{level - 1}, *m{level - 1}], k{level}: 1}}"
        for level in range(1, dice.choice((20, 40)))
    )
    return "\n".join(("m0: &m0 {k: 1}", *levels))


def _long(dice: random.Random) -> str:
    return dice.choice(("x", "a: ", "'", "#", " ", "\t", "-", "\U0001f600")) * dice.choice(
        (1_000, 100_000, 2_000_000)
    )


def _many_keys(dice: random.Random) -> str:
    return "\n".join(f"k{number}: {number}" for number in range(dice.choice((1_000, 30_000))))


TEXTS: tuple[Callable[[random.Random], str], ...] = (
    _brackets,
    _closed_brackets,
    _bomb,
    _merge_bomb,
    _long,
    _many_keys,
)


def hostile_yaml(dice: random.Random, text: str, keys: Sequence[str]) -> bytes:
    """Return YAML that begins as `text` does, or as nothing does."""
    for _ in range(dice.choice((1, 1, 2, 3))):
        text = _changed(dice, text, keys)
    data = text.encode("utf-8", "surrogatepass")
    if dice.random() < 0.2:
        data = spoiled(dice, data)
    if dice.random() < 0.03:
        data = text.encode(dice.choice(("utf-16", "utf-32", "utf-8-sig")), "ignore")
    return data


def _changed(dice: random.Random, text: str, keys: Sequence[str]) -> str:
    lines = text.split("\n")
    place = dice.randrange(len(lines))
    match dice.randrange(8):
        case 0 | 1 | 2:
            key = dice.choice(keys)
            spots = [n for n, line in enumerate(lines) if line.strip().startswith(f"{key}:")]
            value = dice.choice(SCALARS)
            if spots:
                indent = lines[spots[0]][: len(lines[spots[0]]) - len(lines[spots[0]].lstrip())]
                lines[spots[0]] = f"{indent}{key}: {value}"
            else:
                lines.append(f"{key}: {value}")
        case 3:
            lines.insert(place, f"{dice.choice((*keys, *SCALARS))}: {dice.choice(SCALARS)}")
        case 4:
            lines.insert(place, lines[dice.randrange(len(lines))])
        case 5:
            del lines[place]
        case 6:
            return dice.choice(TEXTS)(dice)
        case 7:
            lines.append(f"{dice.choice(keys)}: {dice.choice(TEXTS)(dice)}")
    return "\n".join(lines) or "x"


def spoiled(dice: random.Random, data: bytes) -> bytes:
    """Return the bytes with a few flipped, cut, doubled or put in."""
    made = bytearray(data or b"x")
    for _ in range(dice.choice((1, 2, 8))):
        place = dice.randrange(len(made) + 1)
        match dice.randrange(5):
            case 0:
                made[place : place + 1] = bytes([dice.randrange(256)])
            case 1:
                made[place:place] = dice.choice(
                    (b"\x00", b"\xff", b"\r", b"\n", b"\x1b[2J", b"\xed\xa0\x80", b"{", b'"', b"\\")
                )
            case 2:
                del made[place : place + dice.choice((1, 2, 10, 1_000))]
            case 3:
                made[place:place] = made[place : place + dice.choice((1, 10, 100))]
            case 4:
                del made[place:]
    return bytes(made)


JSON_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 0.5, -1e308, float("nan"), float("inf")),
    *("", " ", "a", "\x00", "\x1b[2J", "\ud800", "\u202e", "x" * 300, "😀" * 50, "/", "..", "0"),
    *("true", "1e3", "127.0.0.1", "tone-440", "piper-en-us-joe-medium"),
    *([], {}, [1], [[]], [None], {"a": 1}, {"": None}, {"id": 3}, {"id": "tone-440"}),
    *(["x"] * 1_000, {str(n): n for n in range(1_000)}),
)


def hostile_json(dice: random.Random, value: Any) -> bytes:
    """Return JSON like `value`, with a part that is something else; now and then no JSON."""
    for _ in range(dice.choice((1, 1, 2, 3))):
        value = _altered(dice, value)
    try:
        data = json.dumps(value, ensure_ascii=dice.random() < 0.7).encode("utf-8", "surrogatepass")
    except ValueError:
        data = b"9" * 5_000
    match dice.randrange(12):
        case 0:
            data = spoiled(dice, data)
        case 1:
            data = dice.choice((b"[", b'{"a":', b"[{", b'"', b"-")) * dice.choice(
                (10, 5_000, 50_000)
            )
        case 2:
            data = b"[" * 5_000 + data + b"]" * 5_000
        case 3:
            data = dice.choice(
                (b"", b"null", b"9" * 9_000, b"\xff\xfe", b"NaN", b'"\\ud800"', b"1e999")
            )
    return data


def _altered(dice: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(list(value))
        match dice.randrange(6):
            case 0:
                return {name: found for name, found in value.items() if name != key}
            case 1:
                return {**value, dice.choice(("x", "", "\ud800", "__class__")): 1}
            case _:
                return {**value, key: _altered(dice, value[key])}
    if isinstance(value, list) and value and dice.random() < 0.6:
        place = dice.randrange(len(value))
        return [*value[:place], _altered(dice, value[place]), *value[place + 1 :]]
    return dice.choice(JSON_VALUES)
