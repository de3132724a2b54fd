"""Piper voices, through the real `piper-tts`: the extra `piper`, as that is GPL-3.0-or-later."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from greenroom.adapter import TTSAdapter
from greenroom.adapters.options import Name, Number, check
from greenroom.adapters.packs import find_voices
from greenroom.errors import ConfigError, InvalidInputError
from greenroom.speech import AudioChunk, ModelSpec

logger = logging.getLogger(__name__)

_OPTIONS: dict[str, Number | Name] = {
    "speaker": Name(),
    "speed": Number(0.25, 4.0),
    "length_scale": Number(0.1, 10.0),
    "noise_scale": Number(0.0, 2.0),
    "noise_w_scale": Number(0.0, 2.0),
    "sentence_silence": Number(0.0, 10.0),
    "volume": Number(0.0, 4.0),
    "threads": Number(1, 256),
}


class PiperTTSAdapter(TTSAdapter):
    """One Piper voice: an `.onnx` file with its `.onnx.json` beside it.

    Options: `speaker` (name or number), `speed` (1.0, or `length_scale` as Piper has it),
    `noise_scale`, `noise_w_scale` (the voice's own), `sentence_silence` in seconds (0), `volume`
    (1.0, a constant gain: sentences are never normalised to their own peak); for the model also
    `threads` inside one run (as many as there are cores).
    """

    concurrency: ClassVar[int | None] = None

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.sample_rate = 0
        self._voice: Any = None

    @classmethod
    def discover(cls, directories: Sequence[Path]) -> Iterable[ModelSpec]:
        """Return every Piper voice in `directories`: packs, and files in Piper's own naming."""
        return find_voices(directories, family="piper", adapter="piper")

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise `InvalidInputError` for an unknown option or one out of range."""
        check(options, _OPTIONS)

    @classmethod
    def check_spec(cls, spec: ModelSpec) -> None:
        """Raise `ConfigError` for an unknown device, or files that are not a voice."""
        if spec.device != "cpu":
            raise ConfigError(f"device {spec.device!r} is not supported by piper; use `cpu`.")
        if spec.path is None:
            raise ConfigError("a piper model needs `path`, the .onnx file of the voice.")
        try:
            _settings(Path(spec.path))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{error}.") from None

    def load(self) -> None:
        """Read the voice and build its session."""
        self.check_spec(self.spec)
        try:
            import onnxruntime
            from piper import PiperVoice
            from piper.config import PiperConfig
        except ImportError as error:
            raise ConfigError(
                "the piper engine is not installed; run `pip install 'greenroom[piper]'`."
            ) from error
        model = Path(self.spec.path or "")
        settings = _settings(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(self.spec.options.get("threads", os.cpu_count() or 1))
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(model), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._voice = PiperVoice(session=session, config=PiperConfig.from_dict(settings))
        self.sample_rate = settings["audio"]["sample_rate"]

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        """Yield one chunk per sentence that Piper finds in `text`."""
        from piper.config import SynthesisConfig

        voice = self._voice
        config = SynthesisConfig(
            speaker_id=_speaker(voice.config, options.get("speaker")),
            length_scale=_length_scale(voice.config.length_scale, options),
            noise_scale=options.get("noise_scale"),
            noise_w_scale=options.get("noise_w_scale"),
            normalize_audio=False,
            volume=float(options.get("volume", 1.0)),
        )
        pause = round(float(options.get("sentence_silence", 0.0)) * self.sample_rate)
        for chunk in voice.synthesize(text, config):
            yield AudioChunk(chunk.audio_float_array, self.sample_rate)
            if pause:
                yield AudioChunk(np.zeros(pause, np.float32), self.sample_rate)

    def unload(self) -> None:
        """Drop the session; its memory is free when this returns."""
        self._voice = None


def _settings(model: Path) -> dict[str, Any]:
    """Read the voice's JSON, and refuse what would fail later or sound wrong."""
    beside = model.with_name(model.name + ".json")
    if not model.is_file():
        raise FileNotFoundError(f"there is no voice file {model}; correct `path`")
    if not beside.is_file():
        raise FileNotFoundError(f"{model.name} has no {beside.name} beside it; copy it there")
    try:
        settings = json.loads(beside.read_text(encoding="utf-8"))
        rate = settings["audio"]["sample_rate"]
        settings["phoneme_id_map"], settings["espeak"]["voice"], settings["num_symbols"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{beside.name} is not a Piper voice's JSON: {error!r}") from error
    if not settings["phoneme_id_map"]:
        raise ValueError(f"{beside.name} has an empty phoneme_id_map; fetch the voice anew")
    if not isinstance(rate, int) or not 8_000 <= rate <= 96_000:
        raise ValueError(f"{beside.name} says sample_rate {rate!r}; it must be 8000 to 96000 Hz")
    return dict(settings)


def _speaker(config: Any, speaker: str | int | None) -> int | None:
    if speaker is None or config.num_speakers <= 1:
        return None
    number = config.speaker_id_map.get(speaker) if isinstance(speaker, str) else speaker
    if number is None and isinstance(speaker, str) and speaker.isdecimal():
        number = int(speaker)
    if number is None or not 0 <= number < config.num_speakers:
        known = ", ".join(list(config.speaker_id_map)[:5])
        raise InvalidInputError(
            f"speaker {speaker!r} is not one of the {config.num_speakers} of this voice ({known}…)."
        )
    return int(number)


def _length_scale(default: float, options: Mapping[str, Any]) -> float:
    scale = float(options.get("length_scale", default))
    return scale / float(options.get("speed", 1.0))
