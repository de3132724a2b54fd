"""The end of a manager: in bounded time whatever hangs, and what is left behind is said."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from greenroom.effects import Shell
from greenroom.ledger.state import State
from greenroom.untrusted.exceptions import trace
from greenroom.untrusted.logs import safe_logger

logger = safe_logger(__name__)

# Each wait has a limit of its own; with the 2 s of preparations, all after the drain take 14 s.
STREAMS_LIMIT_S = 3.0
UNLOADS_LIMIT_S = 6.0
TASKS_LIMIT_S = 1.0
WRITE_LIMIT_S = 2.0


async def shut_down(shell: Shell, drain: float) -> None:
    """Wait for holders up to `drain` seconds, then end everything; a step that fails ends none."""
    shell.carry_out(shell.ledger.close())
    shell.preparations.close()
    await shell.until(lambda: not any(r.in_use for r in shell.ledger.residents), drain)
    steps: tuple[Callable[[Shell], Awaitable[None]], ...]
    steps = (_stop_streams, _unload_all, _end_tasks, _remember)
    for step in steps:
        try:
            await step(shell)
        except Exception as error:  # noqa: BLE001 - the next step must be taken all the same
            logger.critical("the shutdown is incomplete: %s", trace(error))
    shell.close()


async def _stop_streams(shell: Shell) -> None:
    """Let no stream begin and end those that run; wait until no thread speaks, or hangs."""
    shell.hosts.stop_all()
    await shell.until(lambda: not any(r.occupied for r in shell.ledger.residents), STREAMS_LIMIT_S)
    shell.hosts.give_up()


async def _unload_all(shell: Shell) -> None:
    """Unload everything but what a thread hangs in; wait until it is gone, or hangs itself."""
    ledger = shell.ledger
    shell.lifecycle.close()
    for resident in list(ledger.residents):
        if resident.occupied:
            logger.error("model %s is left behind: a thread hangs in it", resident.model_id)
        elif resident.state in (State.READY, State.DRAINING):
            shell.carry_out(ledger.force_unload(resident.model_id))
    await shell.until(lambda: all(r.occupied for r in ledger.residents), UNLOADS_LIMIT_S)
    for resident in ledger.residents:
        logger.error("model %s did not leave: it is %s", resident.model_id, resident.state)


async def _end_tasks(shell: Shell) -> None:
    shell.stop()
    await shell.tasks.end(TASKS_LIMIT_S)
    await shell.preparations.closed()


async def _remember(shell: Shell) -> None:
    """Write down what was measured, on a thread of its own: others may hang."""
    write = shell.looking.submit_surely(shell.footprints.write)
    done, _ = await asyncio.wait([write], timeout=WRITE_LIMIT_S)
    if not done:
        logger.error("what was measured is not remembered: writing it down hangs")
