"""Measure what a prepared voice takes, where nothing else runs: in a process of its own."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from greenroom.adapters.piper.phoneme_runs import LONGEST_IDS
from greenroom.adapters.piper.prepared.build.parent_death import end_with_parent
from greenroom.adapters.piper.prepared.run.prepared_voice import (
    GRAPH_BYTES,
    VOICE_BYTES,
    PreparedVoice,
    sentence,
)
from greenroom.adapters.piper.prepared.store.paths import PreparedFiles
from greenroom.adapters.piper.prepared.store.store import default_store
from greenroom.memory import usage

_CALLERS = max(4, os.cpu_count() or 1)
"""Threads that speak at once, as many as a manager has for all its streams."""

_TIMES = 2
"""Said until the graph has taken all that it takes, with pieces side by side."""


def measure(source: Path) -> None:
    """Speak with the voice and with one more on the same graph; remember what each of them took.

    Both by as many callers as there can be, so that what is booked covers them all.
    """
    files = default_store().find(source)
    if files is None:
        return
    spoken: list[PreparedVoice] = []
    first, second = _taken(files, spoken, _TIMES), _taken(files, spoken, 1)
    default_store().remember(source, **{GRAPH_BYTES: max(0, first - second), VOICE_BYTES: second})


def _taken(files: PreparedFiles, spoken: list[PreparedVoice], times: int) -> int:
    """Load a voice, let it speak, and return by how much the process grew."""
    before = usage.usage()
    voice = PreparedVoice(files, threads=1)
    spoken.append(voice)
    with ThreadPoolExecutor(_CALLERS) as callers:
        for _ in callers.map(_speak, [voice] * _CALLERS * times):
            pass
    return max(0, (usage.usage() - before).anonymous)


def _speak(voice: PreparedVoice) -> None:
    for _piece in voice.speak(sentence(LONGEST_IDS)):
        pass


if __name__ == "__main__":
    end_with_parent()
    measure(Path(sys.argv[1]))
