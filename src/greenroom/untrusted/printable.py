"""Text that others wrote, made fit to be shown: names, file paths, what an exception says.

Control characters move the cursor of a terminal, marks of direction turn words around, and half a
surrogate (a file name that is no UTF-8) can be encoded nowhere. All are shown as Python writes
them, `\\x1b`.
"""

from __future__ import annotations

LONGEST = 300
"""Characters of a text of unknown origin that fit into a message."""


def escaped(text: str) -> str:
    """Return `text` with everything escaped that is not printable, except ends of line and tabs."""
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(each if each in "\n\t" else _visible(each) for each in text)


def printable(value: object, limit: int = LONGEST) -> str:
    """Return `value` as text on one line, escaped, and cut in the middle when it is too long."""
    text = value if isinstance(value, str) else _text_of(value)
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}…{text[-half:]}"
    return _one_line(text)


def printable_repr(value: object, limit: int = LONGEST) -> str:
    """Return `value` as Python writes it, on one line, cut when it is too long; never raises."""
    try:
        return printable(repr(value), limit)
    except BaseException:  # noqa: BLE001 - a number may have too many digits, `__repr__` be anybody's
        return f"<{type(value).__name__}>"


def error_message(error: BaseException) -> str:
    """Return what an exception says, or its type where that says more; never raises."""
    said = _text_of(error)
    name = type(error).__name__
    return printable(f"{name}: {said}" if said else name)


def one_line(text: str, longest: int) -> str:
    """Return at most `longest` characters of `text` on one line, whatever it is a subclass of."""
    plain = str.__str__(text)[: longest + 1]  # of a subclass too, which may do anything
    line = " ".join(plain.split())
    if not line.isprintable():
        line = "".join(_visible(c) for c in line)
    return line if len(line) <= longest else line[: longest - 3] + "..."


def type_name(thing: object, longest: int = 80) -> str:
    """Return the name of a thing's class, past a metaclass that has another idea of it."""
    return one_line(type.__dict__["__name__"].__get__(type(thing)), longest)


def _text_of(value: object) -> str:
    try:
        return str(value)
    except BaseException:  # noqa: BLE001 - others wrote `__str__`; it may raise anything, SystemExit too
        return f"<{type(value).__name__}>"


def _one_line(text: str) -> str:
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]
