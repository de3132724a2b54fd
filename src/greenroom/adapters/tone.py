"""A deterministic sine voice for tests, benchmarks and the demo; never a fallback."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from greenroom.adapter import ModelSpec, TTSAdapter
from greenroom.adapters.options import Number, check
from greenroom.audio.frames import AudioChunk
from greenroom.memory.usage import MIB
from greenroom.speech.pace import mark_last

_OPTIONS = {
    "frequency": Number(20.0, 8_000.0),
    "sample_rate": Number(8_000, 96_000),
    "speed": Number(0.25, 4.0),
    "volume": Number(0.0, 1.0),
}
_CHUNK_S = 0.1
_S_PER_CHARACTER = 0.06


class ToneTTSAdapter(TTSAdapter):
    """Speaks 60 ms of sine for every character, in chunks of 100 ms.

    Options: `frequency` in Hz (440), `volume` (0.5), `speed` (1.0); for the model also
    `sample_rate` in Hz (22050).
    """

    concurrency: ClassVar[int | None] = None
    listed: ClassVar[bool] = False

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.sample_rate = int(spec.options.get("sample_rate", 22_050))
        self._loaded = False

    @classmethod
    def discover(cls, directories: Sequence[Path]) -> Iterable[ModelSpec]:
        """Return eight tones, `tone-220` to `tone-440`: a major scale on A."""
        notes = (220, 247, 277, 294, 330, 370, 415, 440)
        return [
            ModelSpec(f"tone-{note}", "tone", options={"frequency": float(note)}, tags=("test",))
            for note in notes
        ]

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise `InvalidInputError` for an unknown option or one out of range."""
        check(options, _OPTIONS)

    def load(self) -> None:
        """Need no file."""
        self._loaded = True

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        """Yield the tone, continuous in phase over the text."""
        if not self._loaded:
            raise RuntimeError("the tone was unloaded")
        seconds = len(text) * _S_PER_CHARACTER / float(options.get("speed", 1.0))
        total = int(seconds * self.sample_rate)
        step = int(_CHUNK_S * self.sample_rate)
        turn = 2 * np.pi * float(options.get("frequency", 440.0)) / self.sample_rate
        volume = float(options.get("volume", 0.5))
        for start in range(0, total, step):
            at = np.arange(start, min(start + step, total))
            mark_last(start + step >= total)
            yield AudioChunk((volume * np.sin(turn * at)).astype(np.float32), self.sample_rate)

    def footprint_bytes(self) -> int:
        """Return what the catalog states, to try budgets with: a tone itself takes nothing."""
        return int((self.spec.footprint_mb or 0) * MIB)

    def mapped_bytes(self) -> int:
        """Return nothing: there is no file."""
        return 0

    def unload(self) -> None:
        """Speak no more."""
        self._loaded = False
