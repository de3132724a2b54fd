"""What a prepared voice takes, measured where nothing else runs: in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from greenroom import memory
from greenroom.prepared.lifeline import end_with_parent
from greenroom.prepared.runtime import default_store
from greenroom.prepared.store import PreparedFiles
from greenroom.prepared.voice import GRAPH_BYTES, VOICE_BYTES, PreparedVoice, sentence

_IDS = 150
"""Text ids of a sentence of average length, about 70 characters."""

_TIMES = 5
"""Said until the graph has taken all that it takes, with pieces side by side."""


def weigh(source: Path) -> None:
    """Speak with the voice and with one more of its kind; remember what each of them took."""
    files = default_store().find(source)
    if files is None:
        return
    spoken: list[PreparedVoice] = []
    first, second = _taken(files, spoken), _taken(files, spoken)
    default_store().remember(source, **{GRAPH_BYTES: max(0, first - second), VOICE_BYTES: second})


def _taken(files: PreparedFiles, spoken: list[PreparedVoice]) -> int:
    """Load a voice, let it speak, and return by how much the process grew."""
    before = memory.usage()
    spoken.append(PreparedVoice(files, threads=1))
    for _ in range(_TIMES):
        for _piece in spoken[-1].speak(sentence(_IDS)):
            pass
    return max(0, (memory.usage() - before).anonymous)


if __name__ == "__main__":
    end_with_parent()
    weigh(Path(sys.argv[1]))
