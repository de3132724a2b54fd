"""Piper voices, through the real `piper-tts`: the extra `piper`, as that is GPL-3.0-or-later."""

import os

# Set before the first import of onnxruntime, which reports its use to its vendor from then on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from greenroom.adapters.piper.piper_adapter import PiperTTSAdapter

__all__ = ["PiperTTSAdapter"]
