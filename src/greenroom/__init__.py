"""Greenroom keeps speech voices ready to speak."""

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
