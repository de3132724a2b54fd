"""Look up whether a voice is prepared, for lists: this does not count as a use of it."""

from __future__ import annotations

import os
from pathlib import Path

from greenroom.adapters.piper.prepared.fingerprint import runtime
from greenroom.adapters.piper.prepared.store.identity import FileStat, Sources, resolved
from greenroom.adapters.piper.prepared.store.index import CorruptFileError, read_index
from greenroom.adapters.piper.prepared.store.paths import SOURCES, Layout, default_root
from greenroom.adapters.piper.prepared.store.verify import check_voice

SWITCH = "GREENROOM_PREPARE"
"""`off` in the environment: voices are neither prepared nor looked for in the store."""


UNWEIGHED = "unweighed"
"""The fact of a voice that is kept already while what it takes is still to be measured."""


def switched_off() -> bool:
    """Whether this process has to do without prepared voices."""
    return os.environ.get(SWITCH) == "off"


def is_prepared(source: Path) -> bool:
    """Whether a sound prepared form of the voice in `source` is kept. Never raises.

    Unlike `Store.find` it leaves the order in which voices make room as it is, and reads no source:
    one that was copied or touched is known again when it is next loaded or prepared. One whose
    preparation was ended before it was weighed is not prepared: what to book for it is unknown.
    """
    try:
        if not Sources.is_known(f"{default_root()}/{SOURCES}", os.path.realpath(source)):
            return False  # a list of 10,000 voices ends here for nearly all
        layout = Layout(default_root(), runtime())
        source = resolved(source)
        content = Sources(layout.sources).known(source, FileStat.of(source))
        if content is None:
            return False
        path = layout.index_of(content)
        index = read_index(path)
        check_voice(layout, path, index)
    except (OSError, ValueError, CorruptFileError):
        return False
    return not index.facts.get(UNWEIGHED)
