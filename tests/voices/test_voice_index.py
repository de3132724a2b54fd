"""The index of voices: what it finds, and that nothing in it is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.errors import PullError, VoiceNotFoundError
from greenroom.voices.model_card import ModelCard, parsed_card
from greenroom.voices.voice_index import VoiceIndex, is_key, parsed
from tests.voices.collection import KEYS, Collection, entry_of, files_of

AMY = KEYS[0]


def index_of(content: Any) -> VoiceIndex:
    return parsed(json.dumps(content).encode(), "the index")


@pytest.fixture
def index() -> VoiceIndex:
    return index_of(Collection.of().index)


@pytest.mark.parametrize(
    "name", [AMY, "EN_us-AMY-low", "en-amy-low", "piper-en-us-amy-low", "en-us-amy-low"]
)
def test_a_voice_is_found_by_its_key_alias_or_model_id_in_any_case(
    index: VoiceIndex, name: str
) -> None:
    assert index.get(name).key == AMY


def test_a_voice_says_what_the_index_says(index: VoiceIndex) -> None:
    voice = index.get("de_DE-thorsten-medium")
    assert (voice.language, voice.quality, voice.speakers) == ("de_DE", "medium", 1)
    assert voice.language_names == ("German", "Deutsch", "Germany")
    assert list(voice.files) == [f"{voice.key}.onnx.json", "MODEL_CARD", f"{voice.key}.onnx"]
    assert voice.size == sum(map(len, files_of(voice.key).values()))


def test_an_unknown_voice_is_an_error_that_names_similar_ones(index: VoiceIndex) -> None:
    with pytest.raises(VoiceNotFoundError, match="did you mean en_US-amy-low") as caught:
        index.get("en_US-amie-low")
    assert caught.value.near[0] == AMY
    assert "pt_PT-tugão-medium" in index.near("tugão")
    with pytest.raises(VoiceNotFoundError, match="greenroom search"):
        index.get("x" * 1_000)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("german", ["de_DE-thorsten-medium"]),
        ("DEUTSCH medium", ["de_DE-thorsten-medium"]),
        ("medium", ["de_DE-thorsten-medium", "pt_PT-tugão-medium"]),
        ("en-us", [AMY]),
        ("united low", [AMY]),
        ("german low", []),
        ("", list(KEYS)),
    ],
)
def test_voices_are_found_by_words_all_of_which_they_have(
    index: VoiceIndex, words: str, found: list[str]
) -> None:
    assert [voice.key for voice in index.search(words)] == found


def broken(path: str | None = None, **stated: Any) -> dict[str, Any]:
    """Return the entry of amy with another path for its model, or other statements about it."""
    entry = entry_of(AMY, files_of(AMY))
    files = entry["files"]
    model = next(name for name in files if name.endswith(".onnx"))
    files[path or model] = {**files.pop(model), **stated}
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        broken(f"../{AMY}.onnx"),
        broken(f"en/../../{AMY}.onnx"),
        broken(f"/etc/{AMY}.onnx"),
        broken(f"en\0/{AMY}.onnx"),
        broken(f"C:\\x/{AMY}.onnx"),
        broken(f"https://elsewhere.example/{AMY}.onnx"),
        broken(f"%2e%2e/{AMY}.onnx"),
        broken(f"en?x=/{AMY}.onnx"),
        broken(f"{'x' * 600}/{AMY}.onnx"),
        broken("en/other.onnx"),
        broken(size_bytes=0),
        broken(size_bytes=-5),
        broken(size_bytes=10**15),
        broken(size_bytes=True),
        broken(size_bytes="5"),
        broken(size_bytes=None),
        broken(md5_digest="x" * 32),
        broken(md5_digest="abc"),
        broken(md5_digest=None),
        {"files": []},
        {"files": {"a": 1}},
        [],
        None,
        7,
    ],
)
def test_a_voice_that_the_index_is_wrong_about_is_left_out_alone_and_says_why(entry: Any) -> None:
    good = Collection.of(KEYS[1]).index
    index = index_of({AMY: entry, **good})
    assert [voice.key for voice in index] == [KEYS[1]]
    with pytest.raises(PullError, match="the index is wrong about it") as caught:
        index.get(AMY)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "../x",
        "/x",
        "a/b",
        "a\\b",
        "a\0b",
        "-rf",
        ".x",
        "a b",
        "x\n",
        "é" * 60,
        "\ud800",
    ],
)
def test_what_could_be_a_path_is_no_name_of_a_voice(key: str) -> None:
    assert not is_key(key)
    assert len(index_of({key: entry_of(AMY, files_of(AMY))})) == 0


def test_a_name_may_have_letters_of_any_script() -> None:
    assert all(map(is_key, (*KEYS, "zh_CN-小雅-medium", "en_US-l2arctic-medium", "a+b.c")))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
        json.dumps(dict.fromkeys(map(str, range(20_001)))).encode(),
    ],
)
def test_what_is_no_index_is_an_error(content: bytes) -> None:
    with pytest.raises(PullError, match="the index is no index of voices"):
        parsed(content, "the index")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
STATED = st.fixed_dictionaries({}, optional={"size_bytes": JUNK, "md5_digest": JUNK})
PATHS = st.lists(st.sampled_from(["..", ".", "", "en", "\0", f"{AMY}.onnx", f"{AMY}.onnx.json"]))
ENTRIES = st.fixed_dictionaries(
    {"files": st.dictionaries(PATHS.map("/".join), STATED | JUNK)},
    optional={"language": JUNK, "quality": JUNK, "num_speakers": JUNK, "aliases": JUNK},
)


@settings(max_examples=40)
@given(st.dictionaries(st.text() | st.just(AMY), ENTRIES | JUNK, max_size=3))
def test_no_content_of_an_index_does_any_harm(content: dict[str, Any]) -> None:
    for voice in index_of(content):
        assert is_key(voice.key)
        for file in voice.files.values():
            assert ".." not in file.path.split("/")
            assert not file.path.startswith("/")


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("* License: CC0\n", "CC0"),
        ("* Licence: see the site\n", "see the site"),
        ("- license: https://example.org/by-nc/4.0\n", "https://example.org/by-nc/4.0"),
        ("License: MIT\n* License: CC BY 4.0\n* License: MIT\n", "MIT; CC BY 4.0"),
        ("* License: \x1b[31mred\n", "\\x1b[31mred"),
        ("# A card\n\nwithout one\n", ""),
        ("* License:\n", ""),
        ("", ""),
    ],
)
def test_a_licence_is_what_the_card_states(text: str, licence: str) -> None:
    assert parsed_card(text.encode()).licence == licence


def test_a_card_that_is_no_text_states_nothing_and_a_long_one_is_cut() -> None:
    assert parsed_card(b"\xff\x00" * 500) == ModelCard()
    assert len(parsed_card(b"* License: " + b"x" * 1_000).licence) <= 300
    assert parsed_card(b"* URL: https://a.example/b\n").dataset == "https://a.example/b"
