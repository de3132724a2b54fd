"""Which events a client may send in which order, and what is made of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from wyoming.event import Event
from wyoming.info import Describe as DescribeEvent
from wyoming.ping import Ping
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeVoice,
)

from greenroom.errors import InvalidInputError
from greenroom.worker.wyoming.dialogue import (
    Describe,
    Dialogue,
    Echo,
    Say,
    SayPieces,
    TextPieces,
    VoiceRequest,
)

START, STOP = SynthesizeStart().event(), SynthesizeStop().event()


def chunk(text: str) -> Event:
    return SynthesizeChunk(text).event()


def said(dialogue: Dialogue, *events: Event) -> list[object]:
    """Return the requests that events made."""
    return [each for each in map(dialogue.take, events) if each is not None]


async def test_events_become_requests_in_their_order() -> None:
    voice = SynthesizeVoice("amy", speaker="3")
    events = [DescribeEvent(), Ping("a"), Ping(), Synthesize("Hello.", voice, text_format="text")]
    assert said(Dialogue(99), *(each.event() for each in events)) == [
        Describe(),
        Echo("a"),
        Echo(None),
        Say("Hello.", VoiceRequest("amy", "", "3")),
    ]


async def test_a_text_in_pieces_is_one_request_and_its_repetition_none() -> None:
    dialogue = Dialogue(99)
    start = SynthesizeStart(SynthesizeVoice(language="en_US")).event()
    (request,) = said(dialogue, start, chunk("Good "), chunk(""), chunk("evening."))
    assert isinstance(request, SayPieces)
    assert request.voice == VoiceRequest(language="en_US")
    assert said(dialogue, Synthesize("Good evening.").event(), STOP) == []
    assert [piece async for piece in request.pieces] == ["Good evening."]
    (after,) = said(dialogue, Synthesize("And more.").event())
    assert after == Say("And more.", VoiceRequest())


async def test_a_second_text_in_pieces_is_apart_from_the_first() -> None:
    first, second = said(Dialogue(9), START, chunk("one"), STOP, START, chunk("two"), STOP)
    assert isinstance(first, SayPieces)
    assert isinstance(second, SayPieces)
    assert [piece async for piece in first.pieces] == ["one"]
    assert [piece async for piece in second.pieces] == ["two"]


async def test_events_of_other_services_are_dropped() -> None:
    others = ["audio-chunk", "transcribe", "select-program", "detect", "", "synthesize-stopped"]
    assert said(Dialogue(9), *(Event(each, {"text": 5}) for each in others)) == []


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([chunk("a")], "synthesize-chunk came before synthesize-start"),
        ([STOP], "synthesize-stop came before synthesize-start"),
        ([START, START], "synthesize-start came before the synthesize-stop"),
        ([START, STOP, STOP], "synthesize-stop came before synthesize-start"),
        ([START, STOP, chunk("a")], "synthesize-chunk came before synthesize-start"),
    ],
)
async def test_a_wrong_order_is_refused_with_what_is_missing(
    events: list[Event], words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        said(Dialogue(9), *events)


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("synthesize", {}, "no `text`"),
        ("synthesize", {"text": 5}, "must be text, not 5"),
        ("synthesize", {"text": ["a"] * 99}, "must be text"),
        ("synthesize", {"text": "a" * 10}, "10 characters, 9 are allowed"),
        ("synthesize", {"text": "a", "voice": "amy"}, "`voice` must be an object"),
        ("synthesize", {"text": "a", "voice": {"name": 5}}, "`name` of a voice"),
        ("synthesize", {"text": "a", "voice": {"name": "a" * 201}}, "200 characters"),
        ("synthesize", {"text": "a", "voice": {"language": {}}}, "`language` of a voice"),
        ("synthesize", {"text": "a", "voice": {"speaker": 3}}, "`speaker` of a voice"),
        ("synthesize", {"text": "<p>a</p>", "text_format": "ssml"}, "'ssml' is not spoken"),
        ("synthesize-start", {"text_format": "ssml"}, "'ssml' is not spoken"),
        ("synthesize-start", {"voice": []}, "`voice` must be an object"),
        ("ping", {"text": {}}, "must be text"),
        ("ping", {"text": "a\ud800"}, "half of a character"),
        ("synthesize", {"text": "\udfffa"}, "half of a character"),
    ],
)
async def test_a_field_that_cannot_be_used_is_refused(
    kind: str, data: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        Dialogue(9).take(Event(kind, data))


async def test_pieces_are_bounded_together_however_many() -> None:
    dialogue = Dialogue(9)
    said(dialogue, START, *[chunk("")] * 1_000, *[chunk("abc")] * 3)
    with pytest.raises(InvalidInputError, match="more than 9 characters"):
        dialogue.take(chunk("a"))


async def test_pieces_are_handed_over_as_they_come() -> None:
    pieces = TextPieces(99)
    begun = asyncio.ensure_future(pieces.begun())
    reading = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(0)
    pieces.add("")
    await asyncio.sleep(0)
    assert not begun.done()
    pieces.add("One. ")
    assert await begun
    assert await reading == "One. "
    pieces.add("Two.")
    pieces.end()
    assert [piece async for piece in pieces] == ["Two."]
    assert not await pieces.begun()
