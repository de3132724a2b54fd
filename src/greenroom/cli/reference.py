"""Generate `docs/cli.md` from the commands themselves: `python -m greenroom.cli.reference`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from greenroom.cli.app import command

HEAD = """# The command line

This page is generated: `python -m greenroom.cli.reference > docs/cli.md`.

Results go to standard output, everything else to standard error; nothing is animated where there is no terminal.
An error is one line that says what to do about it, with exit code 1; a wrong command line has exit code 2, one that was interrupted 128 and the number of the signal: 130 for Ctrl-C.
A configuration comes from `--config`, else from `GREENROOM_CONFIG`, else it is all defaults; each key can be overridden by the environment (`GREENROOM_MODEL_MANAGER__TTL_MS=0`), and that by `--set model_manager.ttl_ms=0`.
"""  # noqa: E501 - one sentence a line


def pages(tree: Any, path: str = "greenroom") -> Iterator[str]:
    """Yield the Markdown of a command, then of each command below it."""
    below = getattr(tree, "commands", {})
    usage = [path, "[OPTIONS]", *(_shape(p) for p in tree.params if not _is_option(p))]
    parts = [f"## {path}", f"```\n{' '.join(usage)}{' COMMAND' if below else ''}\n```"]
    parts += [_sentences(paragraph) for paragraph in (tree.help or "").split("\n\n")]
    rows = [f"| {_name(param)} | {_meaning(param)} |" for param in tree.params]
    if rows:
        parts.append("\n".join(["| | |", "|---|---|", *rows]))
    yield "\n\n".join(parts) + "\n"
    for name, each in below.items():
        yield from pages(each, f"{path} {name}")


def _is_option(param: Any) -> bool:
    return bool(param.param_type_name == "option")


def _shape(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _name(param: Any) -> str:
    if not _is_option(param):
        return f"`{param.metavar}`"
    names = sorted(param.opts, key=len)
    takes = "" if param.is_flag else f" {param.metavar or 'NUMBER'}"
    return ", ".join(f"`{name}`" for name in (*names[:-1], names[-1] + takes))


def _meaning(param: Any) -> str:
    parts = [param.help or ""]
    default = param.default
    if isinstance(default, str | int | float | Path) and default not in ("", True, False):
        parts.append(f"Default: `{default}`.")
    if param.envvar:
        first = param.envvar if isinstance(param.envvar, str) else param.envvar[0]
        parts.append(f"Environment: `{first}`.")
    return " ".join(parts).replace("|", "\\|")


def _sentences(paragraph: str) -> str:
    return re.sub(r"(?<=[.;]) (?=[A-Z])", "\n", " ".join(paragraph.split()))


def reference() -> str:
    """Return the whole page."""
    return "\n".join((HEAD, *pages(command())))


if __name__ == "__main__":
    sys.stdout.write(reference())
