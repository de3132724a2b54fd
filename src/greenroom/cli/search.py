"""`greenroom search` and `show`: which voices could be pulled, and everything about one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from greenroom.adapter import ModelSpec
from greenroom.catalog.discovery import discover_models
from greenroom.cli.pull import Source, size_of
from greenroom.cli.shared_options import AsJson, ConfigFile, Settings, configuration
from greenroom.cli.terminal.console import (
    print_json,
    print_note,
    print_table,
    print_text,
    spinner,
)
from greenroom.config.schema import VoiceSettings, voice_directories
from greenroom.errors import PullError
from greenroom.voices.chosen_source import source_of
from greenroom.voices.model_card import MAX_CARD_BYTES, ModelCard, parsed_card
from greenroom.voices.voice_index import IndexedVoice
from greenroom.voices.voice_source import CutError, VoiceSource, index_of, read_small


def search(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORD...", help="Of a name, a language or a quality; without any, all voices."
        ),
    ] = None,
    source: Source = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """List the voices that could be pulled.

    Those that have every word in their name, language, country or quality. HERE says whether a
    voice of that name lies in one of the directories already. The exit code is 1 if there is none.
    """
    found = configuration(config, settings).voices
    with spinner("looking for voices"), source_of(source or found.index) as place:
        index = index_of(place)
    voices = index.search(" ".join(words or ()))
    here = _names_here(found)
    if as_json:
        print_json([_entry(voice, here) for voice in voices])
    elif voices:
        _print(voices, here)
    if not voices:
        near = index.near("-".join(words or ()))
        fix = f"did you mean {', '.join(near)}?" if near else "try fewer words."
        print_note(f"none of the {len(index)} voices of {place.name} has all of these words; {fix}")
        raise typer.Exit(1)


def show(
    voice: Annotated[str, typer.Argument(metavar="VOICE", help="A name, as `search` lists it.")],
    source: Source = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show everything about one voice that could be pulled: languages, size, licence."""
    found = configuration(config, settings).voices
    with spinner("looking"), source_of(source or found.index) as place:
        chosen = index_of(place).get(voice)
        card = _card_of(place, chosen)
    shown = {**_entry(chosen, _names_here(found)), "licence": card.licence or None}
    shown["dataset"] = card.dataset or None
    if as_json:
        print_json(shown)
        return
    lines = (
        ("voice", chosen.key),
        ("language", ", ".join((chosen.language, *chosen.language_names)).strip(", ")),
        ("quality", chosen.quality or "not stated"),
        ("speakers", f"{chosen.speakers}"),
        ("size", size_of(chosen.size)),
        ("licence", card.licence or "not stated, ask its makers"),
        ("dataset", card.dataset or "not stated"),
        ("other names", ", ".join(chosen.aliases) or "none"),
        ("here", "yes" if shown["here"] else f"no; `greenroom pull {chosen.key}` brings it"),
        ("from", place.name),
    )
    print_text("\n".join(f"{name:<12} {value}" for name, value in lines))


def _card_of(source: VoiceSource, voice: IndexedVoice) -> ModelCard:
    """Return what the voice's card states; nothing where it cannot be had."""
    if voice.card is None:
        return ModelCard()
    try:
        return parsed_card(read_small(source, voice.card, MAX_CARD_BYTES))
    except (CutError, PullError) as error:
        print_note(f"its card cannot be read: {error}")
        return ModelCard()


def _names_here(settings: VoiceSettings) -> frozenset[str]:
    """Return every name of a voice that lies in one of the directories."""
    specs: Sequence[ModelSpec] = tuple(
        discover_models(voice_directories(settings), ["piper"]).models.values()
    )
    return frozenset(name for spec in specs for name in (spec.model_id, *spec.aliases))


def _print(voices: Sequence[IndexedVoice], here: frozenset[str]) -> None:
    headings = ("VOICE", "LANGUAGE", "COUNTRY", "QUALITY", "SPEAKERS", "SIZE", "HERE")
    rows = [
        (
            voice.key,
            next(iter(voice.language_names), voice.language),
            voice.language_names[-1] if len(voice.language_names) > 2 else "",
            voice.quality,
            f"{voice.speakers}",
            size_of(voice.size),
            "yes" if voice.key in here else "",
        )
        for voice in voices
    ]
    spare = ("COUNTRY", "SPEAKERS")
    print_table(headings, rows, right=("SPEAKERS", "SIZE"), wraps=("LANGUAGE",), spare=spare)


def _entry(voice: IndexedVoice, here: frozenset[str]) -> dict[str, Any]:
    return {
        "voice": voice.key,
        "language": voice.language,
        "language_names": voice.language_names,
        "quality": voice.quality,
        "speakers": voice.speakers,
        "size_bytes": voice.size,
        "aliases": voice.aliases,
        "here": voice.key in here,
    }
