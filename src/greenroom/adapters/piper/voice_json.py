"""Read a voice's settings, the JSON beside its graph, and apply the options of a caller."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenroom.errors import InvalidInputError
from greenroom.untrusted.bounded_files import read_bounded, read_failure
from greenroom.untrusted.printable import printable, printable_repr

_MOST_BYTES = 4 * 1024**2
"""Of the JSON; one with 904 speakers has 30 KB."""

_MOST_SPEAKERS = 10_000
"""Told of one voice; the largest has 904."""

_SCALES = {"noise_scale", "length_scale", "noise_w"}


def read_settings(model: Path) -> dict[str, Any]:
    """Return the voice's JSON; raises `OSError` or `ValueError` for what would fail later."""
    beside = model.with_name(model.name + ".json")
    name = printable(beside.name)
    if not model.is_file():
        raise FileNotFoundError(f"there is no voice file {printable(model)}; correct `path`")
    if not beside.is_file():
        raise FileNotFoundError(f"{printable(model.name)} has no {name} beside it; copy it there")
    try:
        settings = json.loads(read_bounded(beside, _MOST_BYTES).decode("utf-8"))
        rate = settings["audio"]["sample_rate"]
        settings["phoneme_id_map"], settings["espeak"]["voice"], settings["num_symbols"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{name} is not a Piper voice's JSON ({_fault(error)}); fetch the voice anew"
        ) from error
    except OSError as error:
        raise ValueError(f"{name} {read_failure(error)}") from error
    if not settings["phoneme_id_map"]:
        raise ValueError(f"{name} has an empty phoneme_id_map; fetch the voice anew")
    if not _is_whole(rate, 8_000, 96_000):
        said = printable_repr(rate, 60)
        raise ValueError(f"{name} says sample_rate {said}; it must be 8000 to 96000 Hz")
    if unfit := next(_unfit(settings), None):
        raise ValueError(f"{name}: {unfit}; fetch the voice anew")
    return dict(settings)


def _fault(error: Exception) -> str:
    """Return what is wrong with JSON in which the settings were not found."""
    match error:
        case json.JSONDecodeError():
            return f"{error.msg} at line {error.lineno}, column {error.colno}"
        case KeyError():
            return f"there is no {printable(str(error.args[0]))}"
        case RecursionError():
            return "it is nested too deep"
        case UnicodeDecodeError():
            return "it is not text in UTF-8"
        case _:
            return "it has other contents"


def _unfit(settings: dict[str, Any]) -> Iterator[str]:
    """Yield what would fail when the voice is loaded or spoken with, in the file's own names."""
    phonemes = settings["phoneme_id_map"]
    if not isinstance(phonemes, dict) or not all(map(_is_ids, phonemes.values())):
        yield "phoneme_id_map must be a mapping of lists of whole numbers"
    if not isinstance(settings["espeak"]["voice"], str):
        yield "espeak.voice must be text"
    if not isinstance(settings.get("phoneme_type", "espeak"), str):
        yield "phoneme_type must be text"
    for key in ("num_symbols", "num_speakers"):
        if not _is_whole(settings.get(key), 1, 1_000_000):
            yield f"{key} must be a whole number"
    for key in ("default_speaker_id", "hop_length"):
        if settings.get(key) is not None and not _is_whole(settings[key], 0, 1_000_000):
            yield f"{key} must be a whole number"
    speakers = settings.get("speaker_id_map", {})
    if not isinstance(speakers, dict) or not all(map(_is_id, speakers.values())):
        yield "speaker_id_map must be a mapping of whole numbers"
    scales = settings.get("inference", {})
    if not isinstance(scales, dict):
        yield "inference must be a mapping"
        return
    for key in _SCALES & scales.keys():
        low = 0.01 if key == "length_scale" else 0.0
        if not (_is_number(scales[key]) and low <= scales[key] <= 100.0):
            yield f"inference.{key} must be a number from {low:g} to 100"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_id(value: object) -> bool:
    return _is_whole(value, 0, 2**31)


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_id, value))


def speakers_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return who speaks, by number; those without a name by it. Empty for a voice of one."""
    count = min(settings["num_speakers"], _MOST_SPEAKERS)
    if count < 2:
        return ()
    names = {number: name for name, number in settings.get("speaker_id_map", {}).items()}
    return tuple(names.get(number, f"{number}") for number in range(count))


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
