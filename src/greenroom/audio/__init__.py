"""From an engine's chunks to a transport's frames: checked, resampled, framed, encoded."""

from greenroom.audio.framing import Framer, check_rate
from greenroom.audio.wav import write_wav

__all__ = ["Framer", "check_rate", "write_wav"]
