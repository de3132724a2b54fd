"""The index of voices: which there are at a source, with sizes and checksums of their files.

Its form is that of `voices.json` in Piper's own collection. It comes from outside: what is wrong
with a voice in it leaves out that voice, and its names never become paths here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from rapidfuzz import fuzz, process

from greenroom.errors import PullError, VoiceNotFoundError
from greenroom.untrusted.printable import one_line, printable, printable_repr

MAX_INDEX_BYTES = 8 * 1024**2
"""Piper's own, of 163 voices, has 180 KB."""

_MOST_VOICES = 20_000

_MOST_BYTES = {".onnx": 16 * 1024**3, ".onnx.json": 4 * 1024**2, "MODEL_CARD": 256 * 1024}
"""Of a voice's files, by their kind: of the larger ones none is a voice's."""

_LONGEST_KEY, _LONGEST_PATH, _LONGEST_LABEL = 100, 500, 100
_MD5 = re.compile("[0-9a-fA-F]{32}")
_MIN_SIMILARITY, _MIN_WITHIN = 55.0, 80.0  # of 100, by rapidfuzz: of whole names, of a part


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """One file at a source."""

    path: str
    """Relative to the source, with slashes; none of its parts is `..`."""
    size: int
    """Bytes."""
    md5: str | None
    """Its checksum, 32 hexadecimal digits; `None` where the source has none."""


@dataclass(frozen=True, slots=True)
class IndexedVoice:
    """One voice at a source."""

    key: str
    """Its name in Piper's naming, `en_US-lessac-medium`: fit for a file name."""
    model: IndexedFile
    settings: IndexedFile
    """The JSON that goes beside the model."""
    card: IndexedFile | None
    """The text that states where the voice comes from, and its licence."""
    language: str = ""
    """Its code, such as `en_US`."""
    language_names: tuple[str, ...] = ()
    """In English, in itself, and the country's."""
    quality: str = ""
    speakers: int = 1
    aliases: tuple[str, ...] = ()

    @property
    def files(self) -> dict[str, IndexedFile]:
        """The files by the names that they have here; the model is the last."""
        card = {} if self.card is None else {"MODEL_CARD": self.card}
        return {f"{self.key}.onnx.json": self.settings, **card, f"{self.key}.onnx": self.model}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


class VoiceIndex:
    """The voices of one source, by key."""

    def __init__(
        self, voices: Iterable[IndexedVoice] = (), problems: Mapping[str, str] | None = None
    ) -> None:
        """`problems` say of voices that are left out why."""
        self._voices = {voice.key: voice for voice in voices}
        self._keys = {_folded(voice.key): voice.key for voice in self._voices.values()}
        for voice in self._voices.values():
            for alias in voice.aliases:
                self._keys.setdefault(_folded(alias), voice.key)
        self.problems = dict(problems or {})

    def get(self, name: str) -> IndexedVoice:
        """Return the voice of that key, alias or model id (`piper-en-us-lessac-medium`).

        Raises `VoiceNotFoundError` with similar ones, and `PullError` for one that is left out.
        """
        folded = _folded(name)
        key = self._keys.get(folded) or self._keys.get(folded.removeprefix("piper-"))
        if key is not None:
            return self._voices[key]
        if problem := self.problems.get(name):
            raise PullError(name, f"the index is wrong about it: {problem}")
        raise VoiceNotFoundError(name, self.near(name))

    def near(self, name: str) -> tuple[str, ...]:
        """Return up to three keys that look like `name`."""
        known = {key: _folded(key) for key in self._voices}
        wanted = _folded(name[:_LONGEST_KEY])
        found = []
        for scorer, cutoff in ((fuzz.ratio, _MIN_SIMILARITY), (fuzz.partial_ratio, _MIN_WITHIN)):
            found += process.extract(wanted, known, scorer=scorer, limit=3, score_cutoff=cutoff)
        return tuple(dict.fromkeys(key for _, _, key in found))[:3]

    def search(self, text: str) -> list[IndexedVoice]:
        """Return the voices whose name, language or quality has every word of `text` in it."""
        words = text.casefold().replace("-", "_").split()
        return [voice for voice in self if all(map(_said(voice).__contains__, words))]

    def __iter__(self) -> Iterator[IndexedVoice]:
        return iter(self._voices.values())

    def __len__(self) -> int:
        return len(self._voices)

    def __repr__(self) -> str:
        return f"<VoiceIndex of {len(self)} voices>"


def is_key(name: str) -> bool:
    """Return whether a name is fit for a voice's folder and files.

    Letters of any script, digits and `_-.+`, the first one a letter or a digit, so that it is no
    path, hidden, or an option of a command.
    """
    return (
        0 < len(name.encode(errors="replace")) <= _LONGEST_KEY
        and name[0].isalnum()
        and all(each.isalnum() or each in "_-.+" for each in name)
    )


def parsed(content: bytes, origin: str) -> VoiceIndex:
    """Return the index in a `voices.json`; `origin` names it in errors.

    Raises `PullError` for what is none.
    """
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise PullError("", f"{origin} is no index of voices: {printable(error)}") from None
    if not isinstance(found, dict) or len(found) > _MOST_VOICES:
        raise PullError(
            "", f"{origin} is no index of voices: it must be a mapping of at most {_MOST_VOICES:,}"
        )
    voices, problems = [], {}
    for key, entry in found.items():
        try:
            voices.append(_voice(key, entry))
        except ValueError as problem:
            problems[one_line(key, _LONGEST_KEY)] = str(problem)
    return VoiceIndex(voices, problems)


def _folded(name: str) -> str:
    return name.casefold().replace("_", "-")


def _said(voice: IndexedVoice) -> str:
    said = (voice.key, *voice.language_names, voice.language, *voice.aliases)
    return " ".join(said).casefold().replace("-", "_")


def _voice(key: str, entry: Any) -> IndexedVoice:
    """Return one voice; raises `ValueError` with what is wrong with it."""
    if not is_key(key):
        raise ValueError(f"{printable_repr(key, 80)} cannot be a voice's name")
    if not isinstance(entry, dict) or not isinstance(entry.get("files"), dict):
        raise ValueError("its files are no mapping")
    files = {}
    for path, stated in entry["files"].items():
        name = path.rpartition("/")[2]
        if name in (f"{key}.onnx", f"{key}.onnx.json", "MODEL_CARD"):
            files[name] = _file(path, name.removeprefix(key), stated)
    for name in (f"{key}.onnx", f"{key}.onnx.json"):
        if name not in files:
            raise ValueError(f"{name} is not among its files")
    language = entry.get("language")
    language = language if isinstance(language, dict) else {}
    names = [_label(language.get(f"{each}")) for each in _LANGUAGE_NAMES]
    speakers: Any = entry.get("num_speakers")
    aliases = entry.get("aliases")
    return IndexedVoice(
        key,
        files[f"{key}.onnx"],
        files[f"{key}.onnx.json"],
        files.get("MODEL_CARD"),
        _label(language.get("code")),
        tuple(filter(None, names)),
        _label(entry.get("quality")),
        speakers if _is_whole(speakers, 1, 1_000_000) else 1,
        tuple(filter(None, map(_label, aliases[:20]))) if isinstance(aliases, list) else (),
    )


_LANGUAGE_NAMES = ("name_english", "name_native", "country_english")


def _file(path: str, kind: str, stated: Any) -> IndexedFile:
    if not _is_inside(path):
        raise ValueError(f"{printable_repr(path, 80)} is no path below the index")
    stated = stated if isinstance(stated, dict) else {}
    size, md5 = stated.get("size_bytes"), stated.get("md5_digest")
    if not _is_whole(size, 1, _MOST_BYTES[kind]):
        raise ValueError(f"{printable(path, 80)} cannot have {printable_repr(size, 40)} bytes")
    if not isinstance(md5, str) or not _MD5.fullmatch(md5):
        raise ValueError(f"{printable(path, 80)} has no MD5 checksum")
    return IndexedFile(path, size, md5.lower())


def _is_inside(path: str) -> bool:
    """Return whether a path stays below the source whatever resolves it, a URL's server too."""
    return (
        len(path) <= _LONGEST_PATH
        and path.isprintable()
        and not any(each in path for each in "\\?#%:")
        and not path.startswith("/")
        and ".." not in PurePosixPath(path).parts
    )


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _label(value: Any) -> str:
    return one_line(value, _LONGEST_LABEL) if isinstance(value, str) else ""
