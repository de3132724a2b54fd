"""Commands by name: the module of one is imported when it is run, or when its help is shown.

What `serve`, `say` and `simulate` need takes a second to import, which `ps` and completion have no
use for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from greenroom.cli.terminal.interrupts import end_at_once

Make = Callable[[], Any]
"""Makes a command of click, which is typed as `Any`: it may be typer's own copy."""


class CommandTree(TyperGroup):
    """A group whose commands are made when they are asked for: see `with_commands`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, in order, without making one."""
        return list(self.commands)


class CommandsByName(MutableMapping[str, Any]):
    """Commands of which each is made once, when it is first looked up."""

    def __init__(self, makers: Mapping[str, Make]) -> None:
        self._makers: dict[str, Make] = dict(makers)
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __setitem__(self, name: str, command: Any) -> None:
        self._makers[name] = lambda: command
        self._made.pop(name, None)

    def __delitem__(self, name: str) -> None:
        del self._makers[name]
        self._made.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def with_commands(group: typer.Typer, makers: Mapping[str, Make]) -> Any:
    """Return a group, which has a callback of its own, with the commands of `makers`."""
    made = get_command(group)
    assert isinstance(made, TyperGroup)
    made.commands = CommandsByName(makers)
    return made


def command_of(module: str, function: str) -> Any:
    """Return the function of a module of `greenroom.cli` as a command of its name."""
    with end_at_once():  # there is nothing to clean up until the command runs
        found = import_module(f"greenroom.cli.{module}")
    alone = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    alone.command()(getattr(found, function))
    return get_command(alone)
