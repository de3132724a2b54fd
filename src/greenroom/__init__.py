"""Greenroom keeps speech voices ready to speak.

What is exported is imported when it is first asked for: that takes most of a second, in which
Ctrl-C would end the command line with a traceback. For the same reason nothing is imported here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from greenroom.adapter import TTSAdapter
    from greenroom.catalog import Catalog
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
    from greenroom.lease import Lease
    from greenroom.model_manager import ModelManager
    from greenroom.residents import State
    from greenroom.speech import AudioChunk, AudioFrame, ModelSpec
    from greenroom.statistics import Explanation, ManagerStatistics, ResidentStatistics
    from greenroom.stream import SpeechStream

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
]

_PLACES = {
    name: module
    for module, names in {
        "greenroom.adapter": ("TTSAdapter",),
        "greenroom.catalog": ("Catalog",),
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
        "greenroom.lease": ("Lease",),
        "greenroom.model_manager": ("ModelManager",),
        "greenroom.residents": ("State",),
        "greenroom.speech": (
            "AudioChunk",
            "AudioFrame",
            "ModelSpec",
        ),
        "greenroom.statistics": (
            "Explanation",
            "ManagerStatistics",
            "ResidentStatistics",
        ),
        "greenroom.stream": ("SpeechStream",),
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
