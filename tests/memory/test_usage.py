"""What the process takes: anonymous and mapped memory, and differences of two usages."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest

from greenroom.memory import usage
from greenroom.memory.usage import MIB, Usage

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def test_usage_is_a_difference_too() -> None:
    assert Usage(10, 7) - Usage(4, 9) == Usage(6, -2)


@linux
def test_anonymous_and_mapped_memory_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"x" * 32 * MIB)
    before = usage.usage()
    with file.open("rb") as opened:
        pages = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    assert sum(pages[at] for at in range(0, len(pages), 4096))
    grown = usage.usage() - before
    assert 28 * MIB < grown.mapped < 40 * MIB
    assert grown.anonymous < 4 * MIB
    block = bytearray(b"x" * 32 * MIB)
    assert 28 * MIB < usage.anonymous_bytes() - before.anonymous < 40 * MIB
    pages.close()
    del block
    assert usage.mapped_bytes() - before.mapped < 4 * MIB


def test_where_the_kernel_does_not_tell_all_that_is_ours_alone_is_anonymous(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(usage, "_STATUS", "/no/such/file")
    found = usage.usage()
    assert MIB < found.anonymous < 2 * usage.resident_bytes()
    assert (found.mapped, usage.mapped_bytes()) == (0, 0)
