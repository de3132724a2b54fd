"""From the voice that a client names, or the language, to a model of the catalog."""

from __future__ import annotations

from greenroom.audio.framing import SampleRate, check_rate
from greenroom.errors import ModelNotFoundError, first_few
from greenroom.voice import Voice
from greenroom.worker.errors import FieldError, about_field
from greenroom.worker.synthesis import Synthesis
from greenroom.worker.wyoming.dialogue import VoiceRequest
from greenroom.worker.wyoming.voice_list import ListedVoices

RATE: SampleRate = check_rate(22_050)
"""Hz of all speech: what most Piper voices have, so that theirs is sent as it is made."""


def choose(asked: VoiceRequest, synthesis: Synthesis, listed: ListedVoices) -> Voice:
    """Return the voice, checked.

    A name is looked for among those of the catalog, its aliases and the configuration's; a language
    finds the default model if that speaks it, else the first that does. Raises `FieldError`.
    """
    if asked.name:
        model_id = _by_name(asked.name, synthesis)
    elif asked.language:
        found = synthesis.by_language.find(asked.language)
        if found is None:
            raise _unspoken(asked.language, synthesis)
        model_id = found
    else:
        model_id = synthesis.voices.default_model_id
    _check_speaker(asked.speaker, listed.speakers.get(model_id, ()))
    options = {"speaker": asked.speaker} if asked.speaker else {}
    with about_field("speaker"):
        return synthesis.voices.choose(model_id, options, RATE)


def _by_name(name: str, synthesis: Synthesis) -> str:
    try:
        return synthesis.names.find(name)
    except ModelNotFoundError as error:
        near = ", ".join(error.near)
    fix = f"did you mean {near}?" if near else "`describe` lists them."
    raise FieldError("voice", f"voice {name[:80]!r} is not known; {fix}", code="voice_not_found")


def _unspoken(language: str, synthesis: Synthesis) -> FieldError:
    there = first_few(synthesis.manager.catalog.languages)
    fix = f"there are: {there}." if there else "no voice says which it speaks."
    problem = f"no voice speaks the language {language[:80]!r}; {fix}"
    return FieldError("language", problem, code="voice_not_found")


def _check_speaker(name: str, speakers: tuple[str, ...]) -> None:
    """Refuse one that the voice does not have, as far as it is known who speaks in it."""
    by_number = name.isascii() and name.isdecimal() and len(name) < 9 and int(name) < len(speakers)
    if name and speakers and name not in speakers and not by_number:
        problem = f"speaker {name[:80]!r} is not one of this voice's {len(speakers)}: "
        raise FieldError("speaker", f"{problem}{first_few(speakers)}.")
