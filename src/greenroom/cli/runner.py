"""Run one command; an error becomes one line on standard error and an exit code."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import typer

from greenroom.cli.app import command
from greenroom.cli.terminal.console import KEY_FIX, CommandError, logging_restored, print_error
from greenroom.cli.terminal.streams import open_missing, safe_streams
from greenroom.errors import ModelManagerError

logger = logging.getLogger(__name__)

UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]
"""The error of a wrong command line, of typer's click: that may be typer's own copy."""


def run(arguments: Sequence[str] | None) -> int:
    """Run one command; without `arguments` that of this process, which does nothing else."""
    own = arguments is None
    # Before anything else opens a file, which would take the number of a closed stream.
    if own:
        open_missing()
    with safe_streams(to_the_end=own) as out, logging_restored():
        code = _run(arguments)
        if out.complaint:
            print_error(out.complaint)
            return code or 1
        return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        outcome = command().main(arguments, prog_name="greenroom", standalone_mode=False)
    except (ModelManagerError, CommandError) as error:
        logger.debug("where it happened:", exc_info=error)
        print_error(_with_fix(error))
        return 1
    except UsageProblem as error:
        return _refuse(error)
    except Exception as error:  # whatever it is, people get a line and not a traceback
        logger.debug("where it happened:", exc_info=error)
        print_error(f"{type(error).__name__}: {error} (a fault of greenroom's; see --debug)")
        return 1
    return outcome if isinstance(outcome, int) else 0


def _with_fix(error: Exception) -> str:
    """Return an error's message; if it is about the key, with how a command is given one."""
    if getattr(error, "code", "") in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return f"{error} {KEY_FIX}"
    return str(error)


def _refuse(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "greenroom"
    problem = str(getattr(error, "format_message", error.__str__)()).rstrip(".")
    print_error(f"{problem}; `{path} --help` shows how.")
    return 2
