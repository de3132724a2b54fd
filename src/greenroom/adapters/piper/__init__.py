"""Piper voices, through the real `piper-tts`: the extra `piper`, as that is GPL-3.0-or-later."""

from greenroom.adapters.piper.piper_adapter import PiperTTSAdapter

__all__ = ["PiperTTSAdapter"]
