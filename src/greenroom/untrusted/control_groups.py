"""Find the control groups that bind this process: version 1 and 2, nested or not.

`/proc/self/cgroup` says which groups these are, `/proc/self/mountinfo` where their files are. A
limit binds every group below it, so the group and all its parents are looked at, as far as they
are mounted. Files that cannot be read are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/self")

_MOST_DIGITS = 19

_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a hierarchy of groups is mounted."""

    version: int
    root: str
    """The group that is seen at `point`, as `/proc/self/cgroup` would name it."""
    point: Path


def binding_folders(controller: str, proc: Path = PROC) -> Iterator[tuple[int, Path]]:
    """Yield version and folder of each group whose limits of `controller` bind this process.

    Of version 2 all are yielded: their files say which controllers they have.
    """
    groups = groups_in(text_of(proc / "cgroup"), controller)
    for mount in mounts_in(text_of(proc / "mountinfo"), controller):
        if mount.version in groups:
            for folder in group_folders(mount, groups[mount.version]):
                yield mount.version, folder


def groups_in(text: str, controller: str) -> dict[int, str]:
    """Return the process's groups by version, from the text of `/proc/self/cgroup`."""
    found = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            found[2] = group
        elif controller in controllers.split(","):
            found[1] = group
    return found


def mounts_in(text: str, controller: str) -> list[Mount]:
    """Return the mounts that may have such limits, from the text of `/proc/self/mountinfo`."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or not kinds:
            continue
        version = {"cgroup": 1, "cgroup2": 2}.get(kinds[0])
        if version == 2 or (version == 1 and controller in kinds[-1].split(",")):
            found.append(Mount(version, _unescaped(fields[3]), Path(_unescaped(fields[4]))))
    return found


def group_folders(mount: Mount, group: str) -> Iterator[Path]:
    """Yield the folders of `group` and of its parents, the innermost first.

    Paths are relative to the process's cgroup namespace, and lead out of it by `..`:

    1. The group is below what is mounted: its folder, and those above it up to the mount point.
    2. The mount begins above the namespace: the names between are not known, and only the mount
       point is sure to be a parent.
    3. The group is outside the namespace, and what is mounted is not above it: nothing.
    4. Neither has `..`, and they have nothing to do with each other: a container that was given
       its group's files at the mount point, and names from outside.
    """
    up, names = _steps(group)
    root_up, root_names = _steps(mount.root)
    if up == root_up and names[: len(root_names)] == root_names:
        below = names[len(root_names) :]
        yield from (mount.point.joinpath(*below[:end]) for end in range(len(below), -1, -1))
    elif (root_up > up and not root_names) or not (up or root_up):
        yield mount.point


def _steps(path: str) -> tuple[int, list[str]]:
    """Return how many times a path goes up, and the names it then goes down."""
    up, names = 0, list[str]()
    for name in filter(None, path.split("/")):
        if name != "..":
            names.append(name)
        elif names:
            names.pop()
        else:
            up += 1
    return up, names


def text_of(path: Path) -> str:
    """Return a file's text; nothing of one that cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def positive(text: str) -> int | None:
    """Return a limit as a file tells it; `None` for what is none, as `max`, or no number."""
    number = text.strip()
    if number.isascii() and number.isdecimal() and len(number) <= _MOST_DIGITS:
        return int(number) or None
    return None


def _unescaped(text: str) -> str:
    """Return a path of `mountinfo`, in which a space is `\\040`."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
