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
    """What pytest collects. In a folder, what tests share counts as well."""
    promise: float
    """The share of faults to be found."""

    def files(self) -> list[str]:
        """The files that are changed, as paths below `ROOT`."""
        return sorted(_matching(self.sources))

    def selection(self) -> tuple[str, ...]:
        """What pytest is asked to collect."""
        found = {str(path.relative_to(ROOT)) for test in self.tests for path in ROOT.glob(test)}
        return tuple(sorted(found))

    def digest(self, file: str) -> str:
        """What the result of `file` depends on: itself and the tests of its part.

        The rest of the source is left out: a change in one module would otherwise ask for all
        others to be judged again.
        """
        digest = hashlib.sha256()
        for path in (file, "tests/conftest.py", *sorted(_matching(self.tests))):
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
            "src/greenroom/effects.py",
            "src/greenroom/loader.py",
            "src/greenroom/model_manager.py",
        ),
        tests=("tests/manager",),
        promise=0.92,
    ),
)


def _matching(patterns: tuple[str, ...]) -> Iterator[str]:
    for pattern in patterns:
        for path in ROOT.glob(pattern):
            for file in path.rglob("*.py") if path.is_dir() else (path,):
                yield str(file.relative_to(ROOT))
