"""What the steps are made of: headings, measurements, and claims that hold or do not."""

from __future__ import annotations

import asyncio
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from greenroom.audio import write_wav
from greenroom.audio.frames import OUTPUT_RATE
from greenroom.cli.ps import print_residents
from greenroom.cli.terminal.console import out, print_text
from greenroom.cli.terminal.stopwatch import Stopwatch
from greenroom.effects.lease import Lease
from greenroom.journal import Kind
from greenroom.memory.usage import MIB, resident_bytes
from greenroom.model_manager import ModelManager

_AUDIBLE = 0.01
_WIDTH = 72
_DECISIONS = {Kind.LOADING, Kind.READY, Kind.JOINED, Kind.WAITING, Kind.REFUSED, Kind.UNLOADING}


class Tour:
    """One run of the demo: the manager that is shown, and what was measured."""

    def __init__(self, manager: ModelManager, folder: Path, started_at: int) -> None:
        self.manager = manager
        self.folder = folder
        self.memory = {"at the start": started_at}
        """Bytes that the process took, by the name of the moment."""
        self._claims: list[bool] = []
        self._seen = 0

    def begin(self, number: int, step: Callable[..., Any]) -> None:
        """Print the heading of a step: the first line of its docstring."""
        title = (inspect.getdoc(step) or "").splitlines()[0].rstrip(".")
        out.print(f"\n[bold]{number}. {title}[/]", soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a paragraph."""
        for line in _wrapped(text):
            print_text(f"   {line}")

    def quote(self, line: str) -> None:
        """Print a line that the manager itself has written."""
        for part in _wrapped(line, hanging=True):
            out.print(Text(f"   {part}", style="dim"), soft_wrap=True)

    def claim(self, text: str, holds: bool) -> None:
        """Print what was measured, and whether the claim about it holds."""
        self._claims.append(holds)
        mark = Text("   ok  " if holds else "   NO  ", style="green" if holds else "bold red")
        for line in _wrapped(text):
            out.print(Text.assemble(mark, line), soft_wrap=True)
            mark = Text(" " * len(mark))

    def measure(self, moment: str) -> int:
        """Record the process's memory at this moment, and return it."""
        self.memory[moment] = resident_bytes()
        return self.memory[moment]

    def show_decisions(self) -> None:
        """Print what the manager has decided since the last call."""
        events = self.manager.journal.events()
        for event in events[self._seen :]:
            if event.kind in _DECISIONS:
                self.quote(f"· {event}")
        self._seen = len(events)

    def show_residents(self) -> None:
        """Print the table of `greenroom ps`."""
        print_residents(self.manager.list_resident(), indent=3)

    async def speak(self, lease: Lease, text: str, *, part: int = 1) -> Stopwatch:
        """Speak into a file of the folder, and return what was measured."""
        stopwatch = Stopwatch()
        pcm = bytearray()
        stream = lease.synthesize_stream(text)
        async for frame in stream:
            stopwatch.count(frame)
            pcm += frame.pcm
        file = self.folder / f"{lease.owner}-{lease.model_id}{'' if part == 1 else f'-{part}'}.wav"
        await asyncio.to_thread(write_wav, file, bytes(pcm), OUTPUT_RATE)
        peak = float(np.abs(np.frombuffer(pcm, "<i2")).max(initial=0)) / 32768
        self.claim(f"{lease.owner} {stopwatch}: {file}", peak > _AUDIBLE)
        return stopwatch

    def finish(self) -> int:
        """Print the result; return how many claims did not hold."""
        failed = self._claims.count(False)
        many = len(self._claims)
        what = f"{failed} of {many} claims did NOT hold" if failed else f"all {many} claims held"
        files = len(list(self.folder.glob("*.wav")))
        print_text(f"\nDone: {what}; {files} WAV files are in {self.folder}.")
        return failed


def _wrapped(text: str, *, hanging: bool = False) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        break_on_hyphens=False,
        break_long_words=False,
        subsequent_indent="      " if hanging else "",
    )


def megabytes(size: int) -> str:
    """Return a size in megabytes, as text."""
    return f"{size / MIB:,.0f} MB"
