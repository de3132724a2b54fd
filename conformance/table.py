"""`docs/conformance.md`: which clients, in which versions, did what against a worker.

It has no dates and no durations in it, so that it changes only when what was run does.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

_PREFACE = """\
# Conformance

Clients that nobody here wrote, run against a started `greenroom serve` with a real voice.
`make conformance` installs them into an environment of their own, runs them, and writes this page.
Everything listed passed; what they are run against is `conformance/worker.yaml`.
"""


class Table:
    """A pytest plugin that notes what passed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._packages: dict[str, tuple[str, ...]] = {}
        self._passed: dict[str, list[str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            marker = item.get_closest_marker("client")
            assert marker is not None, f"{item.nodeid} runs no client"
            self._packages[item.nodeid] = marker.args

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            packages = self._packages[report.nodeid]
            what = report.nodeid.partition("::test_")[2].partition("[")[0].replace("_", " ")
            what = what[0].upper() + what[1:] + "."
            done = self._passed.setdefault(", ".join(packages), [])
            if what not in done:
                done.append(what)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.OK:
            self._path.write_text(self._page(), encoding="utf-8")

    def _page(self) -> str:
        rows = ["| client and version | what was run |", "| --- | --- |"]
        for packages, done in self._passed.items():
            clients = "<br>".join(f"`{name}` {version(name)}" for name in packages.split(", "))
            rows.append(f"| {clients} | {'<br>'.join(done)} |")
        return _PREFACE + "\n" + "\n".join(rows) + "\n"
