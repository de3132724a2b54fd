"""A voice's own settings: the JSON beside its graph, and what callers may change of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenroom.errors import InvalidInputError


def read_settings(model: Path) -> dict[str, Any]:
    """Return the voice's JSON; raises `OSError` or `ValueError` for what would fail later."""
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


def feeds(config: Any, ids: list[int], options: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return what the graph reads to say `ids`; raises `InvalidInputError` for the speaker.

    `config` is Piper's own of the voice. `scales` are noise, length and noise of the durations,
    in the order that Piper's export fixed.
    """
    noise = options.get("noise_scale", config.noise_scale)
    noise_w = options.get("noise_w_scale", config.noise_w_scale)
    found: dict[str, NDArray[Any]] = {
        "input": np.array([ids], np.int64),
        "input_lengths": np.array([len(ids)], np.int64),
        "scales": np.array([noise, length_of(config, options), noise_w], np.float32),
    }
    if config.num_speakers > 1:
        found["sid"] = np.array([_speaker(config, options.get("speaker"))], np.int64)
    return found


def length_of(config: Any, options: Mapping[str, Any]) -> float:
    """Return by how much slower than at length scale 1 the voice shall speak."""
    length = float(options.get("length_scale", config.length_scale))
    return length / float(options.get("speed", 1.0))


def _speaker(config: Any, speaker: str | int | None) -> int:
    if speaker is None:
        return int(getattr(config, "default_speaker_id", None) or 0)
    number = config.speaker_id_map.get(speaker) if isinstance(speaker, str) else speaker
    if number is None and isinstance(speaker, str) and speaker.isdecimal():
        number = int(speaker)
    if number is None or not 0 <= number < config.num_speakers:
        known = ", ".join(list(config.speaker_id_map)[:5])
        raise InvalidInputError(
            f"speaker {speaker!r} is not one of the {config.num_speakers} of this voice ({known}…)."
        )
    return int(number)
