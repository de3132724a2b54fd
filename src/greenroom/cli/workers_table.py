"""The table of several workers that `greenroom ps` shows: what each of them reports."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from greenroom.cli.terminal.console import CommandError, print_json, print_note, print_table
from greenroom.errors import ModelManagerError, first_few
from greenroom.ledger.state import State
from greenroom.untrusted.printable import one_line

if TYPE_CHECKING:
    from greenroom.worker.report import WorkerReport

_PATIENCE_S = 15.0
"""For a cluster, which asks all its workers."""

_MOST_SILENT = 10_000

_HEADINGS = ("WORKER", "STATE", "MODELS", "PLACES", "SPEECHES", "CORES")


def print_workers(servers: Sequence[str], key: str | None, *, as_json: bool) -> None:
    """Print what each worker has; one that does not answer is shown with the reason."""
    print_reports(asyncio.run(_ask(servers, key)), as_json=as_json)


def print_cluster(url: str, key: str | None, *, as_json: bool) -> None:
    """Print what each worker of a cluster has, as its way in tells; raises `CommandError`."""
    print_reports(reports_of_cluster(url, key), as_json=as_json)


def print_reports(answers: Sequence[tuple[str, WorkerReport | str]], *, as_json: bool) -> None:
    """Print the report of each worker, or why there is none."""
    if as_json:
        print_json([_as_json(server, answer) for server, answer in answers])
        return
    rows = [_row(server, answer) for server, answer in answers]
    print_table(_HEADINGS, rows, wraps=("MODELS", "STATE"), right=("PLACES", "SPEECHES", "CORES"))
    ready = sum(not isinstance(answer, str) and answer.ready for _, answer in answers)
    print_note(f"{ready} of {len(answers)} workers take work")


def reports_of_cluster(url: str, key: str | None) -> list[tuple[str, WorkerReport | str]]:
    """Return the report of each worker of a cluster, by the beginning of its life's id."""
    import httpx

    from greenroom.worker.report import read_report

    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(
            f"{url.rstrip('/')}/api/cluster",
            headers=headers,
            timeout=_PATIENCE_S,
            trust_env=False,  # as of a worker: it is next door, whatever the environment says
        )
        content = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise CommandError(f"no cluster answers at {url}: {error or 'no answer'}.") from None
    try:
        reports = [read_report(each) for each in content["replicas"]]
        silent = [("?", "does not answer")] * min(int(content["silent"]), _MOST_SILENT)
    except (KeyError, TypeError, ValueError):
        problem = f"HTTP {answer.status_code}"
        with contextlib.suppress(KeyError, TypeError):
            problem = one_line(str(content["error"]["message"]), 200)
        raise CommandError(f"{url} is no cluster, or refuses: {problem}") from None
    return [*((report.boot_id[:8], report) for report in reports), *silent]


async def _ask(servers: Sequence[str], key: str | None) -> list[tuple[str, WorkerReport | str]]:
    """Return the report of each worker, or why there is none."""
    from greenroom.worker.client import Client

    async def ask(server: str) -> WorkerReport | str:
        try:
            async with Client(server, key) as client:
                return await client.report()
        except ModelManagerError as error:
            return str(error)

    found = await asyncio.gather(*map(ask, servers))
    return list(zip(servers, found, strict=True))


def _row(server: str, answer: WorkerReport | str) -> tuple[str, ...]:
    if isinstance(answer, str):
        return server, answer, "", "-", "-", "-"
    state = "draining" if answer.draining else "ready" if answer.ready else "not ready"
    models = [
        each.model_id if each.state is State.READY else f"{each.model_id} ({each.state})"
        for each in answer.residents
    ]
    return (
        server,
        state,
        first_few(models),
        f"{len(models)} of {answer.places}",
        str(answer.in_flight),
        f"{answer.capacity_used:.0%}",
    )


def _as_json(server: str, answer: WorkerReport | str) -> dict[str, object]:
    from greenroom.worker.report import written_report

    if isinstance(answer, str):
        return {"server": server, "problem": answer, "report": None}
    return {"server": server, "problem": None, "report": written_report(answer)}
