"""What gets deliberate faults, which tests must find them, and what is promised."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Part:
    """Files that are changed and the tests that concern them: folders, files, or patterns."""

    name: str
    sources: tuple[str, ...]
    tests: tuple[str, ...]
    promise: float
    """The share of faults to be found."""
    without: tuple[str, ...] = ()
    """Tests among them that take too long, or that are about something else."""

    def files(self) -> list[str]:
        """The files that are changed, as paths below `ROOT`."""
        return sorted(_matching(self.sources))

    def selection(self) -> tuple[str, ...]:
        """The files of tests that pytest is asked to collect."""
        found = {file for file in _matching(self.tests) if Path(file).name.startswith("test_")}
        return tuple(sorted(found - set(self.without)))

    def digest(self, file: str) -> str:
        """What the result of `file` depends on: itself and the tests of its part.

        The rest of the source is left out: a change in one module would otherwise ask for all
        others to be judged again.
        """
        digest = hashlib.sha256()
        tests = sorted(set(_matching(self.tests)) - set(self.without))
        for path in (file, "tests/conftest.py", *tests):
            content = (ROOT / path).read_bytes()
            digest.update(f"{path} {len(content)}\n".encode() + content)
        return digest.hexdigest()[:16]


PARTS = (
    Part(
        "ledger",
        sources=("src/greenroom/ledger", "src/greenroom/memory/leaks.py"),
        tests=("tests/ledger", "tests/memory/test_leaks.py"),
        promise=0.98,
    ),
    Part(
        "manager",
        sources=(
            "src/greenroom/effects/effects.py",
            "src/greenroom/effects/loader.py",
            "src/greenroom/effects/shutdown.py",
            "src/greenroom/model_manager.py",
        ),
        tests=("tests/manager", "tests/speech/test_streams.py"),
        without=("tests/manager/test_metrics.py", "tests/manager/test_real_voice.py"),
        promise=0.92,
    ),
)


def _matching(patterns: tuple[str, ...]) -> Iterator[str]:
    for pattern in patterns:
        for path in ROOT.glob(pattern):
            for file in path.rglob("*.py") if path.is_dir() else (path,):
                yield str(file.relative_to(ROOT))
