"""Tell from its first bytes what is wrong with a voice's graph that did not arrive whole.

An ONNX file is a `ModelProto` in protobuf's wire format (onnx.proto; protobuf.dev/programming-
guides/encoding): fields in the order of their numbers, of which the graph is the seventh and nearly
all of the file. Its length is stated before it, so the size that the file should have is known
without reading more than a few dozen bytes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_GRAPH = 7
_BEFORE_GRAPH = {1, 2, 3, 4, 5, 6, 8, 14}
"""Fields of a `ModelProto` that may come before it: version, producer, domain, text, operators."""
_MOST_FIELDS = 64
_MOST_BYTES = 2**31
"""Of a message in protobuf's format; a number beyond is no length."""

_VARINT, _BYTES = 0, 2
"""Wire types of numbers and of what has a length."""

_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype", b"<html")


def problem_with(model: Path) -> str | None:
    """Return what is certainly wrong with the file; `None` for one that only the engine can judge.

    Raises `OSError`.
    """
    with model.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(512)
        if not head:
            return "is empty; fetch the voice anew"
        if head.startswith(_POINTER):
            return "is a pointer of Git LFS and not the file; run `git lfs pull`"
        if head.lstrip().lower().startswith(_PAGES):
            return "is a web page and not a voice; fetch the voice anew"
        file.seek(0)
        whole = _stated_size(file)
    if whole is None or whole <= size:
        return None
    return f"has {_amount(size)} of {_amount(whole)}: an incomplete download? Fetch the voice anew"


def _stated_size(file: BinaryIO) -> int | None:
    """Return how long the file is at least by what it says; `None` if it is no `ModelProto`."""
    for _ in range(_MOST_FIELDS):
        tag = _varint(file)
        number, kind = (0, 0) if tag is None else (tag >> 3, tag & 7)
        value = _varint(file)
        if value is None or number not in _BEFORE_GRAPH | {_GRAPH} or kind not in (_VARINT, _BYTES):
            return None
        if kind == _BYTES:
            end = file.tell() + value
            if end > _MOST_BYTES:
                return None
            if number == _GRAPH:
                return end
            file.seek(end)
    return None


def _varint(file: BinaryIO) -> int | None:
    """Return the next number; `None` at the end of the file, and for one longer than 64 bits."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None


def _amount(size: int) -> str:
    """Return a size as people read it."""
    if size < 1024:
        return f"{size} bytes"
    return f"{size / 1024**2:,.0f} MB" if size >= 1024**2 else f"{size / 1024:,.0f} kB"
