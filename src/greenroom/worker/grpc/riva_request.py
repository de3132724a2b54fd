"""What a Riva request asks for, checked before anything is started."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from greenroom.audio.encoding import FORMATS, Format
from greenroom.config.schema import MAX_NAME_CHARS
from greenroom.errors import InvalidInputError
from greenroom.untrusted.printable import printable_repr
from greenroom.voice import MAX_ASKED_WORDS, Voice
from greenroom.worker.grpc.riva_protos import riva_common_pb2, riva_tts_pb2
from greenroom.worker.grpc.riva_voices import RivaVoices
from greenroom.worker.synthesis import Synthesis

_RATE = 22_050
"""Hz, unless asked for otherwise, where the format has no rate of its own: as Riva's client asks
for."""

_FORMATS: Mapping[int, Format] = {
    riva_common_pb2.ENCODING_UNSPECIFIED: FORMATS["pcm"],
    riva_common_pb2.LINEAR_PCM: FORMATS["pcm"],
    riva_common_pb2.FLAC: FORMATS["flac"],
    riva_common_pb2.MULAW: FORMATS["mulaw"],
    riva_common_pb2.OGGOPUS: FORMATS["opus"],
    riva_common_pb2.ALAW: FORMATS["alaw"],
}

_SSML = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?<speak[\s>/]")

_NOT_IPA = re.compile(r"[\[\]{}@]")
"""Brackets would end phonemes too early; `{@AH0}` is how older models of Riva's write others."""


@dataclass(frozen=True, slots=True)
class RivaPlan:
    """A request that can be fulfilled, as far as that can be known before a model is loaded."""

    voice: Voice
    format: Format
    request_id: str


class RivaPlanner:
    """Checks requests against the catalog and the limits; their texts apart."""

    def __init__(self, synthesis: Synthesis) -> None:
        self._voices = synthesis.voices
        self._named = RivaVoices(
            synthesis.manager.catalog,
            synthesis.names,
            synthesis.by_language,
            synthesis.voices.default_model_id,
        )

    def plan(self, asked: riva_tts_pb2.SynthesizeSpeechRequest) -> RivaPlan:
        """Return what to do; raises `InvalidInputError` and `ModelNotFoundError`."""
        if asked.HasField("zero_shot_data"):
            raise InvalidInputError("zero_shot_data: no engine here clones voices; leave it out.")
        if len(asked.id.value) > MAX_NAME_CHARS:
            raise InvalidInputError(f"id has more than {MAX_NAME_CHARS} characters; shorten it.")
        made = _FORMATS.get(asked.encoding)
        if made is None:
            raise InvalidInputError(
                f"encoding {int(asked.encoding)} is not known; use LINEAR_PCM, FLAC, MULAW, "
                "OGGOPUS or ALAW."
            )
        rate = made.rate(asked.sample_rate_hz or (None if made.rates else _RATE))
        named = self._named.find(asked.voice_name, asked.language_code)
        options = dict(asked.custom_configuration)
        if named.speaker:
            options["speaker"] = named.speaker
        words = pronunciations_in(asked.custom_dictionary)
        voice = self._voices.choose(named.model_id, options, rate, pronunciations=words)
        return RivaPlan(
            replace(voice, word_times=asked.enable_word_time_offsets), made, asked.id.value
        )


def check_is_plain(text: str) -> None:
    """Raise `InvalidInputError` for a document in SSML: its tags would be read out."""
    if _SSML.match(text):
        raise InvalidInputError(
            "SSML is not spoken; send plain text, how words are said in custom_dictionary, and "
            "speed or volume in custom_configuration."
        )


def check_is_alike(
    later: riva_tts_pb2.SynthesizeSpeechRequest, first: riva_tts_pb2.SynthesizeSpeechRequest
) -> None:
    """Raise `InvalidInputError` for a later request that asks for something else than text."""
    for field, value in later.ListFields():
        if field.name not in ("text", "id") and value != getattr(first, field.name):
            raise InvalidInputError(
                f"{field.name}: one call speaks in one way; make another call for another."
            )


def pronunciations_in(custom_dictionary: str) -> dict[str, str]:
    """Return the pronunciations of a dictionary, `word  phonemes` with commas between.

    Full stops between phonemes are left out: Riva's mark syllables, an engine would pause there.
    Raises `InvalidInputError`.
    """
    # Counted first: a message may have millions.
    entries = custom_dictionary.count(",") + 1
    if entries > MAX_ASKED_WORDS + 1:
        raise InvalidInputError(
            f"custom_dictionary has {entries} entries; {MAX_ASKED_WORDS} are allowed."
        )
    found = {}
    for entry in custom_dictionary.split(","):
        if not entry.strip():
            continue
        word, _, phonemes = (part.strip() for part in entry.strip().partition("  "))
        if not phonemes or _NOT_IPA.search(phonemes):
            raise InvalidInputError(
                f"custom_dictionary: {printable_repr(entry, 40)} is no word, two spaces, and its "
                "phonemes in IPA."
            )
        found[word] = f"[[{phonemes.replace('.', '')}]]"
    return found
