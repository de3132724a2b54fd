"""`greenroom ps`: list what is in a worker's memory; also the table that `top` and `demo` show."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from greenroom.cli.shared_options import (
    DEFAULT_SERVER,
    AsJson,
    Cluster,
    Key,
    Server,
    Servers,
    as_dict,
)
from greenroom.cli.terminal.console import err, print_json, print_note, print_table
from greenroom.cli.terminal.lines import wrapped_lines
from greenroom.cli.workers_table import print_cluster, print_workers
from greenroom.errors import InvalidInputError, duration
from greenroom.ledger.state import State
from greenroom.statistics import (
    ProcessMemoryStatistics,
    ProcessStatistics,
    ResidentStatistics,
    SharedMemoryStatistics,
)
from greenroom.untrusted.owners import summed
from greenroom.untrusted.printable import escaped, printable_repr

_STATES = frozenset(State)

_HEADINGS: tuple[str, ...] = (
    "MODEL",
    "STATE",
    "REFS",
    "HELD BY",
    "MEMORY",
    "MAPPED",
    "IDLE",
    "EXPIRES",
)
SHAPE: dict[str, tuple[str, ...]] = {
    "wraps": ("HELD BY", "PROCESS"),
    "right": (
        *("REFS", "MEMORY", "MAPPED", "IDLE", "EXPIRES", "GAPS", "SILENT"),
        *("PID", "TAKES", "AGE", "RESTARTS"),
    ),
    "spare": ("RESTARTS", "AGE", "PID", "MAPPED", "TAKES", "SILENT", "GAPS", "PROCESS"),
}
"""How the table of residents is fitted to a narrow terminal, and which columns are numbers."""


def ps(
    server: Server = DEFAULT_SERVER,
    servers: Servers = None,
    cluster: Cluster = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List what is in a worker's memory, or with `--servers` or `--cluster` in each of several's.

    Who holds each model, holders of one kind together, how much memory it takes, and when it
    expires. MEMORY is what only unloading gives back; MAPPED are pages of files, which the system
    takes back when it must, and which a narrow terminal leaves out. Where speech was interrupted,
    GAPS are how often a listener who plays at real time heard nothing for more than 20 ms, and
    SILENT is for how long in all. Where engines have processes of their own, PROCESS is the
    model's, TAKES what that takes of physical memory, with its share of what others have too, AGE
    for how long it runs, and RESTARTS how many before it have crashed.

    Below, what several models have in common, such as a graph, is told with the model in whose
    MEMORY it counts, once for all of them; and what the worker's own process takes in all:
    anonymous, which only freeing gives back, mapped from files, and proportional, with its share
    of the pages that other processes have too. Processes that are idle are named: their last model
    has left, and they wait a while for the next.
    """
    if servers is not None:
        print_workers(servers.split(","), key, as_json=as_json)
        return
    if cluster is not None:
        print_cluster(cluster, key, as_json=as_json)
        return
    answer = asyncio.run(_ask(server, key))
    residents = [found for model in answer.models if (found := resident_of(model)) is not None]
    if as_json:
        print_json([as_dict(resident) for resident in residents])
        return
    if residents:
        print_residents(residents)
    notes = [summary(answer, len(residents)), *accounts(answer)]
    width = err.width if err.is_terminal else None
    print_note("\n".join(wrapped_lines("\n".join(map(escaped, notes)), width)))


def summary(answer: Any, count: int) -> str:
    """Return in a line what a worker has of what it may have: models, memory, and its cores.

    And which processes wait for a model, where any does.
    """
    waiting = answer.streams_waiting
    line = f"; {waiting} {'stream waits' if waiting == 1 else 'streams wait'}" if waiting else ""
    idle = ", ".join(
        f"{each.name} (pid {each.pid}, {each.memory_mb:,.0f} MB)" for each in answer.idle_processes
    )
    line += f"; idle: {idle}" if idle else ""
    return (
        f"{count} of {answer.resident_cap} models, "
        f"{answer.footprint_mb:,.0f} of {answer.budget_mb:,.0f} MB, "
        f"{answer.capacity_used:.0%} of the cores{line}"
    )


def accounts(answer: Any) -> Iterator[str]:
    """Yield a line for each memory that models have in common, and one for the worker's process."""
    for part in answer.shared:
        if models := tuple(part.model_ids):
            yield f"shared {SharedMemoryStatistics(part.name, part.size_mb, part.device, models)}"
    if answer.HasField("memory"):
        own = answer.memory
        whole = own.proportional_mb if own.HasField("proportional_mb") else None
        said = ProcessMemoryStatistics(own.anonymous_mb, own.mapped_mb, whole)
        yield f"the worker's own process: {said}"


async def _ask(server: str, key: str | None) -> Any:
    from greenroom.worker.client import Client

    async with Client(server, key) as client:
        return await client.list_models()


def resident_of(model: Any) -> ResidentStatistics | None:
    """Return a worker's message about a model as statistics; `None` if it is not in memory.

    Raises `InvalidInputError` for a state that is not known here.
    """
    if not model.HasField("resident"):
        return None
    message = model.resident
    if message.state not in _STATES:
        said = printable_repr(message.state)
        raise InvalidInputError(f"the worker has a model in the state {said}; is it a later one?")
    return ResidentStatistics(
        model_id=model.model_id,
        state=State(message.state),
        refcount=message.refcount,
        owners=tuple(message.owners),
        pinned=message.pinned,
        age_s=message.age_s,
        idle_s=message.idle_s,
        expires_in_s=message.expires_in_s if message.HasField("expires_in_s") else None,
        footprint_mb=message.footprint_mb,
        load_s=message.load_s,
        warmup_s=message.warmup_s,
        streams=message.streams,
        device=message.device,
        mapped_mb=message.mapped_mb,
        gaps=message.gaps,
        late_s=message.late_s,
        process=_process_of(message),
        yields_to=message.yields_to,
        shared_mb=message.shared_mb,
    )


def _process_of(message: Any) -> ProcessStatistics | None:
    if not message.HasField("process"):
        return None
    process = message.process
    return ProcessStatistics(
        name=process.name,
        pid=process.pid,
        age_s=process.age_s,
        memory_mb=process.memory_mb if process.HasField("memory_mb") else None,
        restarts=process.restarts,
    )


def print_residents(residents: Iterable[ResidentStatistics], *, indent: int = 0) -> None:
    """Print a table of what is in memory."""
    headings, rows = residents_table(tuple(residents))
    print_table(headings, rows, **SHAPE, indent=indent)


def residents_table(
    residents: Collection[ResidentStatistics],
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the headings and the rows of a table of what is in memory.

    Silences and processes have columns where there are any.
    """
    headings, rows = _HEADINGS, [_row(resident) for resident in residents]
    if any(resident.gaps for resident in residents):
        headings += ("GAPS", "SILENT")
        silences = [(str(each.gaps), duration(each.late_s)) for each in residents]
        rows = [row + more for row, more in zip(rows, silences, strict=True)]
    if any(resident.process for resident in residents):
        headings += ("PROCESS", "PID", "TAKES", "AGE", "RESTARTS")
        lives = [_life(each.process) for each in residents]
        rows = [row + more for row, more in zip(rows, lives, strict=True)]
    return headings, rows


def _life(process: ProcessStatistics | None) -> tuple[str, ...]:
    if process is None:
        return ("-",) * 5
    memory = "-" if process.memory_mb is None else f"{process.memory_mb:,.0f} MB"
    age = duration(process.age_s)
    return process.name, str(process.pid), memory, age, str(process.restarts)


def _row(resident: ResidentStatistics) -> tuple[str, ...]:
    return (
        resident.model_id,
        state_of(resident),
        str(resident.refcount),
        summed(resident.owners),
        f"{resident.footprint_mb:,.0f} MB",
        f"{resident.mapped_mb:,.0f} MB",
        duration(resident.idle_s) if resident.idle_s else "-",
        expiry_of(resident),
    )


def state_of(resident: ResidentStatistics) -> str:
    """Return a model's state, and for which it leaves."""
    return f"{resident.state} for {resident.yields_to}" if resident.yields_to else resident.state


def expiry_of(resident: ResidentStatistics) -> str:
    """Return when a model expires, or why it does not."""
    if resident.expires_in_s is not None:
        return duration(resident.expires_in_s)
    if resident.pinned:
        return "pinned"
    idle = resident.state == State.READY and not resident.refcount and not resident.streams
    return "never" if idle else "-"
