"""The command line: one module for each command, and here `main`, where its process begins.

`terminal/` has what commands share, `shared_options.py` their options, `app.py` the tree of
commands, `runner.py` runs one. Importing this module takes next to no time, because Ctrl-C ends in
a traceback until it is imported.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` would import more first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 1 for an error, 2 for a wrong command line.

    An error is one line on standard error; `--debug` adds the traceback. Without `arguments` it is
    the command of this process, whose signals are then taken: an interrupted command has the code
    128 and the number of the signal.
    """
    if arguments is not None:
        from greenroom.cli.runner import run

        return run(arguments)
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from greenroom.cli.runner import run
    from greenroom.cli.terminal.interrupts import INTERRUPTED, Interrupts

    interrupts = Interrupts()
    try:
        with interrupts.raised():
            code = run(None)
    except KeyboardInterrupt:
        code = INTERRUPTED
    return interrupts.exit_code if code == INTERRUPTED else code
