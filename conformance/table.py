"""`docs/conformance.md`: which clients, in which versions, did what against a worker.

It has no dates and no durations in it, so that it changes only when what was run does. The row of
a client that cannot be had here stays as it is, if it is about the version that would be run.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

NOT_HAD = "cannot be had here"
"""What the reason begins with for which tests of a client that is not to be had are skipped."""

_HERE = Path(__file__).parent

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
        """What each client did; nothing, where it cannot be had."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            marker = item.get_closest_marker("client")
            assert marker is not None, f"{item.nodeid} runs no client"
            self._packages[item.nodeid] = marker.args

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        packages = self._packages[report.nodeid]
        if report.skipped and NOT_HAD in str(report.longrepr):
            self._passed.setdefault(", ".join(packages), [])
        if report.when == "call" and report.passed:
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
            clients = "<br>".join(map(_with_version, packages.split(", ")))
            rows += [f"| {clients} | {'<br>'.join(done)} |"] if done else self._kept(clients)
        return _PREFACE + "\n" + "\n".join(rows) + "\n"

    def _kept(self, clients: str) -> list[str]:
        """Return the row that the page has of clients that cannot be had here."""
        page = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        return [row for row in page.splitlines() if row.startswith(f"| {clients} |")]


def _with_version(client: str) -> str:
    """Return how a client is shown.

    It is the name of a Python package, `npm:NAME`, or `NAME==VERSION` for one whose requests are
    sent by ours.
    """
    kind, _, package = client.rpartition(":")
    if kind == "npm":
        pins = json.loads((_HERE / "node" / "package.json").read_text(encoding="utf-8"))
        return f"`{package}` {pins['dependencies'][package]} for Node"
    name, _, stated = package.partition("==")
    if stated:
        return f"requests of `{name}` {stated}"
    try:
        return f"`{name}` {version(name)}"
    except PackageNotFoundError:  # it has an environment of its own
        pins = (_HERE / "litellm-constraints.txt").read_text(encoding="utf-8")
        (pinned,) = re.findall(rf"^{re.escape(name)}==(.+)$", pins, re.MULTILINE)
        return f"`{name}` {pinned}"
