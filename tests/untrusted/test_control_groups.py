"""Where a process's control groups are, from what the system tells of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from greenroom.untrusted.control_groups import Mount, group_folders, groups_in, mounts_in

POINT = Path("/fs")


@pytest.mark.parametrize(
    ("root", "group", "found"),
    [
        ("/", "/", ["/fs"]),
        ("/", "/a/b", ["/fs/a/b", "/fs/a", "/fs"]),
        ("/a", "/a/b", ["/fs/b", "/fs"]),
        ("/a", "/a", ["/fs"]),
        ("/..", "/..", ["/fs"]),
        ("/..", "/../x", ["/fs/x", "/fs"]),
        ("/..", "/", ["/fs"]),
        ("/../..", "/../x", ["/fs"]),
        ("/", "/../x", []),
        ("/../x", "/", []),
        ("/ab", "/a", ["/fs"]),
        ("/docker/x", "/", ["/fs"]),
        ("/", "//a/../b/", ["/fs/b", "/fs"]),
    ],
)
def test_a_group_is_found_by_how_it_lies_to_what_is_mounted(
    root: str, group: str, found: list[str]
) -> None:
    assert list(group_folders(Mount(2, root, POINT), group)) == list(map(Path, found))


@pytest.mark.parametrize("text", ["", "\n\n", ":", "0", "0::", "x:memory", "4:memory", "\0:\0:\0"])
def test_groups_that_cannot_be_read_are_ignored(text: str) -> None:
    assert set(groups_in(text, "memory").values()) <= {""}


@pytest.mark.parametrize("text", ["", "\n", " - ", "1 2 3 - cgroup2", "1 2 3 / /fs - ", "- - - -"])
def test_mounts_that_cannot_be_read_are_ignored(text: str) -> None:
    assert mounts_in(text, "memory") == []
