"""Home Assistant's own Wyoming integration, from its package, without the rest of Home Assistant.

The package wants a newer Python than this one and a hundred others, of which the two files that
speak Wyoming (`data.py` and `tts.py`) need a few names. Those stand in here; the files are theirs.
"""

from __future__ import annotations

import asyncio
import enum
import importlib.util
import sys
import types
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WYOMING = "homeassistant.components.wyoming"


class _Platform(enum.StrEnum):
    STT = "stt"
    TTS = "tts"
    WAKE_WORD = "wake_word"
    CONVERSATION = "conversation"


@dataclass
class Voice:
    """A voice as it is shown to users."""

    voice_id: str
    name: str


@dataclass
class TTSAudioRequest:
    """A text to say, as it comes."""

    language: str
    options: dict[str, Any]
    message_gen: AsyncGenerator[str, None]


@dataclass
class TTSAudioResponse:
    """The audio as it comes."""

    extension: str
    data_gen: AsyncGenerator[bytes, None]


class ConfigEntry:
    """One set-up of the integration."""

    entry_id = "1"

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def async_create_background_task(
        self, hass: Any, target: Coroutine[Any, Any, Any], name: str
    ) -> None:
        """Run a task beside the answer."""
        task = asyncio.create_task(target, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _same(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _stand_in(name: str, **names: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(names)
    sys.modules[name] = module
    return module


def integration() -> tuple[Any, Any]:
    """Return `WyomingService` and `WyomingTtsProvider`."""
    if f"{_WYOMING}.tts" not in sys.modules:
        _stand_in_for_the_rest()
    data = importlib.import_module(f"{_WYOMING}.data")
    tts = importlib.import_module(f"{_WYOMING}.tts")
    return data.WyomingService, tts.WyomingTtsProvider


def _stand_in_for_the_rest() -> None:
    package = importlib.util.find_spec("homeassistant")
    assert package is not None
    assert package.submodule_search_locations is not None
    place = Path(package.submodule_search_locations[0]) / "components" / "wyoming"
    tts = _stand_in(
        "homeassistant.components.tts",
        ATTR_AUDIO_OUTPUT="audio_output",
        ATTR_VOICE="voice",
        TextToSpeechEntity=object,
        TTSAudioRequest=TTSAudioRequest,
        TTSAudioResponse=TTSAudioResponse,
        Voice=Voice,
    )
    _stand_in("homeassistant.components", tts=tts, __path__=[])
    _stand_in(_WYOMING, __path__=[str(place)])
    _stand_in(f"{_WYOMING}.devices", SatelliteDevice=object)
    _stand_in("homeassistant.config_entries", ConfigEntry=ConfigEntry)
    _stand_in("homeassistant.const", Platform=_Platform)
    _stand_in("homeassistant.core", HomeAssistant=object, callback=_same)
    _stand_in("homeassistant.exceptions", HomeAssistantError=Exception)
    _stand_in("homeassistant.helpers", __path__=[])
    _stand_in(
        "homeassistant.helpers.entity_platform",
        AddConfigEntryEntitiesCallback=object,
        AddEntitiesCallback=object,
    )
