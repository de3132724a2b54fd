"""The screen of `greenroom top`: draws looks at a worker, and takes keys; by Textual."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.css.query import NoMatches
from textual.events import Resize
from textual.widgets import Footer, Input, Static

from greenroom.cli.terminal.watchdog import Watchdog
from greenroom.cli.top_table import Look, Refusals, View, head_lines, models_lines
from greenroom.errors import ModelManagerError, duration

_STALE_S = 3.0
"""An answer that is older is told of: the worker is away, or does not answer."""


class _Models(VerticalScroll, inherit_bindings=False):
    """The table below its headings; arrows to the side are not its own, there is no such way."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_up", show=False),
        Binding("down", "scroll_down", show=False),
        Binding("pageup", "page_up", show=False),
        Binding("pagedown", "page_down", show=False),
        Binding("home", "scroll_home", show=False),
        Binding("end", "scroll_end", show=False),
        Binding("escape", "app.clear", show=False),
    ]


class _Filter(Input):
    """Where words to filter by are typed; escape comes after what was typed before it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.clear", show=False)]


class TopScreen(App[int]):
    """Looks again and again, and draws; returns an exit code."""

    TITLE = "greenroom top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head, #problem { height: auto; padding: 0; }
    #problem { text-style: bold; display: none; }
    #headings { height: auto; margin-top: 1; text-style: bold; }
    #models { height: 1fr; scrollbar-size: 1 1; }
    #rows { height: auto; }
    #filter { display: none; border: none; height: 1; padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave(0)", "quit"),
        Binding("s,right", "sort(1)", "sort", key_display="s"),
        Binding("left", "sort(-1)", show=False),
        Binding("r", "turn", "reverse"),
        # These two at once, so that the keys after them are for whoever has the focus then, though
        # they come together: as from a script, or a fast hand.
        Binding("slash", "filter", "filter", key_display="/", priority=True),
        Binding("enter", "keep", show=False, priority=True),
        # Ctrl-C comes as a key, as the terminal is raw, and means what it means everywhere.
        Binding("ctrl+c", f"leave({128 + signal.SIGINT})", show=False, priority=True),
    ]

    def __init__(self, look: Callable[[], Awaitable[Look]], first: Look, every: float) -> None:
        """`look` raises `ModelManagerError` when the worker is away; `every` is in seconds."""
        super().__init__(ansi_color=True)
        self.view = View()
        self._ask = look
        self._every = every
        self._last = first
        self._last_at = time.monotonic()
        self._problem = ""
        self._written: dict[str, str] = {}
        self._refusals = Refusals()
        self._refused_lately = self._refusals.seen(first.figures, self._last_at)

    async def run_live(self) -> int:
        """Show it on the terminal until a key or a signal ends it; return the exit code."""
        with Watchdog(self.exit):
            code = await self.run_async(mouse=False)
        return self.return_code or 0 if code is None else code

    def compose(self) -> ComposeResult:
        """Yield the parts of the screen, from the top."""
        yield Static(id="head", markup=False)
        yield Static(id="problem", markup=False)
        yield Static(id="headings", markup=False)
        with _Models(id="models"):
            yield Static(id="rows", markup=False)
        yield _Filter(id="filter", placeholder="words of a model, a state, a holder")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self.theme = "ansi-dark"  # the terminal's own colours, dark or light
        self.query_one(_Models).focus()
        self._draw()
        self.set_interval(self._every, self._draw)
        self.run_worker(self._watch(), name="watch", exit_on_error=True)

    def on_resize(self, event: Resize) -> None:
        """Fit what is shown to another size."""
        self._draw(width=event.size.width)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                look = await self._ask()
            except ModelManagerError as error:
                self._problem = str(error)
            else:
                self._problem = ""
                self._last, self._last_at = look, time.monotonic()
                self._refused_lately = self._refusals.seen(look.figures, self._last_at)
            self._draw()

    # Drawing

    def _draw(self, *, width: int | None = None) -> None:
        # At the end the parts go before the timers, and at the start they come after a size.
        with contextlib.suppress(NoMatches):
            self._write_parts(width or self.size.width)

    def _write_parts(self, width: int) -> None:
        self._write("#head", head_lines(self._last, width, self._refused_lately))
        problem = self._stale()
        self.query_one("#problem").display = bool(problem)
        self._write("#problem", [problem])
        room = max(width - 1, 1)  # beside the bar that says where the table is scrolled to
        head, *rows = models_lines(self._last, self.view, room)
        self._write("#headings", [head])
        self._write("#rows", rows or [self._nothing()])

    def _write(self, part: str, lines: list[str]) -> None:
        text = "\n".join(lines)
        if self._written.get(part) != text:  # what stays is not sent again
            self.query_one(part, Static).update(Text(text))
            self._written[part] = text

    def _stale(self) -> str:
        age = time.monotonic() - self._last_at
        if not self._problem and age < max(_STALE_S, 2 * self._every):
            return ""
        why = self._problem.rstrip(".") or "the worker does not answer"
        return f"{why} (figures of {duration(age)} ago; looking again)"

    def _nothing(self) -> str:
        return f"no model has {self.view.words!r}" if self.view.words else "no model is in memory"

    # Keys

    def action_leave(self, code: int) -> None:
        """End it."""
        self.exit(code)

    def action_sort(self, by: int) -> None:
        """Sort by another column."""
        self._show(self.view.moved(by))

    def action_turn(self) -> None:
        """Turn the order round."""
        self._show(self.view.turned())

    def action_filter(self) -> None:
        """Ask for words to filter by."""
        words = self.query_one(_Filter)
        words.display = True
        self.set_focus(words)

    def action_keep(self) -> None:
        """Keep the words, and take keys again."""
        words = self.query_one(_Filter)
        words.display = bool(words.value)
        self.set_focus(self.query_one(_Models))

    def action_clear(self) -> None:
        """Show all models again."""
        self.query_one(_Filter).value = ""
        self.action_keep()
        self._show(self.view.filtered(""))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while the words are typed; what is filtered by stays in sight."""
        words = event.input
        words.display = self.focused is words or bool(words.value)
        self._show(self.view.filtered(words.value))

    def _show(self, view: View) -> None:
        self.view = view
        self._draw()
