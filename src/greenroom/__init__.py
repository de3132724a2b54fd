"""Greenroom keeps speech voices ready to speak.

What is exported is imported when it is first asked for: that takes most of a second, in which
Ctrl-C would end the command line with a traceback. For the same reason nothing is imported here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from greenroom.adapter import ModelSpec, TTSAdapter
    from greenroom.audio.frames import AudioChunk, AudioFrame, WordTime
    from greenroom.catalog.catalog import Catalog
    from greenroom.effects.lease import Lease
    from greenroom.errors import (
        CapacityError,
        ConfigError,
        InvalidInputError,
        LeaseReleasedError,
        LoadTimeoutError,
        ManagerClosedError,
        ModelInUseError,
        ModelLoadError,
        ModelManagerError,
        ModelNotFoundError,
        ModelNotResidentError,
        SynthesisError,
        UnloadError,
        WarmupError,
    )
    from greenroom.ledger.state import State
    from greenroom.model_manager import ModelManager
    from greenroom.speech.stream import SpeechStream
    from greenroom.statistics import Explanation, ManagerStatistics, ResidentStatistics

__all__ = [
    "AudioChunk",
    "AudioFrame",
    "CapacityError",
    "Catalog",
    "ConfigError",
    "Explanation",
    "InvalidInputError",
    "Lease",
    "LeaseReleasedError",
    "LoadTimeoutError",
    "ManagerClosedError",
    "ManagerStatistics",
    "ModelInUseError",
    "ModelLoadError",
    "ModelManager",
    "ModelManagerError",
    "ModelNotFoundError",
    "ModelNotResidentError",
    "ModelSpec",
    "ResidentStatistics",
    "SpeechStream",
    "State",
    "SynthesisError",
    "TTSAdapter",
    "UnloadError",
    "WarmupError",
    "WordTime",
]

_PLACES = {
    name: module
    for module, names in {
        "greenroom.adapter": ("ModelSpec", "TTSAdapter"),
        "greenroom.catalog.catalog": ("Catalog",),
        "greenroom.errors": (
            "CapacityError",
            "ConfigError",
            "InvalidInputError",
            "LeaseReleasedError",
            "LoadTimeoutError",
            "ManagerClosedError",
            "ModelInUseError",
            "ModelLoadError",
            "ModelManagerError",
            "ModelNotFoundError",
            "ModelNotResidentError",
            "SynthesisError",
            "UnloadError",
            "WarmupError",
        ),
        "greenroom.effects.lease": ("Lease",),
        "greenroom.model_manager": ("ModelManager",),
        "greenroom.ledger.state": ("State",),
        "greenroom.audio.frames": (
            "AudioChunk",
            "AudioFrame",
            "WordTime",
        ),
        "greenroom.statistics": (
            "Explanation",
            "ManagerStatistics",
            "ResidentStatistics",
        ),
        "greenroom.speech.stream": ("SpeechStream",),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
