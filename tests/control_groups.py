"""Trees of control groups for tests: made up in a folder, and a real one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from greenroom.untrusted.control_groups import binding_folders


class Machine:
    """A made-up `/proc/self` and a place for what it says is mounted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        self.proc.mkdir()
        self._mounts: list[str] = []

    def group(self, text: str) -> None:
        (self.proc / "cgroup").write_text(text)

    def mount(self, kind: str, *, root: str = "/", options: str = "rw", at: str = "fs") -> Path:
        point = self.root / at
        point.mkdir(exist_ok=True)
        shown = str(point).replace(" ", r"\040")
        self._mounts.append(f"30 23 0:26 {root} {shown} rw,nosuid shared:4 - {kind} none {options}")
        (self.proc / "mountinfo").write_text("\n".join(self._mounts) + "\n")
        return point


def put(place: Path, name: str, text: str | int) -> None:
    """Write a file of a group."""
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_text(f"{text}\n")


@contextlib.contextmanager
def real_group(controller: str, limits: Mapping[int, Mapping[str, str]]) -> Iterator[Path]:
    """Make a group below this process's own, of the first version that lets us; remove it after.

    `limits` are the files to write, by version. Skips the test where no group can be made.
    """
    own: dict[int, Path] = {}
    for version, folder in binding_folders(controller):
        own.setdefault(version, folder)
    for version, folder in own.items():
        made = folder / f"greenroom-test-{os.getpid()}"
        try:
            made.mkdir()
            for name, text in limits[version].items():
                (made / name).write_text(text)
        except OSError:
            continue
        else:
            yield made
            return
        finally:
            if made.is_dir():
                made.rmdir()
    pytest.skip("no control group can be made here")
