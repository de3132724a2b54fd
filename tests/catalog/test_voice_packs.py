"""One odd pack, file or name is named and left out; the other voices are served."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greenroom import ConfigError
from greenroom.adapters import voice_files
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.catalog.catalog import Catalog
from greenroom.config.sources import read_mapping
from tests.catalog.pack_files import BOMB, found, only_problem, put_loose, put_pack


@pytest.mark.parametrize(
    ("metadata", "line", "words"),
    [
        ("languages: [en]\n\nreleased: 2024-01-01\n", 3, "released: is not a key"),
        ("footprint_mb: 2024-01-01\n", 1, "must be a valid number"),
        ("2024-01-01: x\n", 1, "is not a key"),
        ("tags:\n- " + "[" * 5_000, 2, "inside each other"),
        ("tags: " + "[" * 5_000 + "]" * 5_000, 1, "inside each other"),
        (BOMB, 5, "more than 5,000 values"),
        ("footprint_mb: " + "9" * 5_000, 1, "too large"),
        ("ttl_ms: 1\nfootprint_mb: 1.0e+300\n", 2, "less than or equal"),
        ("footprint_mb: .inf", 1, "finite"),
        ("footprint_mb: .nan", 1, "finite"),
        ("ttl_ms: 9000000000000000000", 1, "less than or equal"),
        ("ttl_ms: -9000000000000000000", 1, "greater than or equal"),
        ("options:\n  speed: .nan\n", 1, "finite"),
        ("options: {speed: 1}\ntags: [a]\ntags: [b]", 3, "twice"),
        ("- a\n- b", None, "must be a mapping"),
        ("just text", None, "must be a mapping"),
        (b"\xff\xfe\x00", None, "UTF-8"),
        (b"\x7fELF\x02\x01\x01\x00", 1, "is not YAML"),
        (b"tags: [a]\nx: \x00", 2, "is not YAML"),
        ("tags: ['\x1b[2J']", 1, "is not YAML"),
        ('tags:\n- warm\n- "\\e[2J"\n', 3, "must be printable"),
        ('languages: ["en\\u202Enp"]', 1, "must be printable"),
        ('aliases: [fine, "a\\nb"]', 1, "printable and without spaces"),
        ('aliases: ["\\u200Bjoe"]', 1, "printable and without spaces"),
        ('tags: ["' + "x" * 300 + '"]', 1, "at most 200 characters"),
        ("tags: [" + ", ".join("x" * 101) + "]", 1, "at most 100 items"),
        ("? [a]\n: b", 1, "a key must be text"),
        ("!!python/object/apply:os.system ['true']", 1, "the tag !!python"),
        ("tags: !!binary aGk=", 1, "the tag !!binary"),
    ],
)
def test_bad_metadata_is_named_with_file_line_and_reason(
    tmp_path: Path, metadata: str | bytes, line: int | None, words: str
) -> None:
    pack = put_pack(tmp_path, "bad", metadata)
    problem = only_problem(tmp_path)
    where = "" if line is None else f"line {line}: "
    assert problem.startswith(f"{pack}/metadata.yaml is left out: {where}")
    assert words in problem


def test_a_date_where_text_may_be_is_text(tmp_path: Path) -> None:
    put_pack(tmp_path, "dated", "tags: [2024-01-01, 2024-13-45]\naliases: [2024-01-01]\n")
    spec = Catalog.discover(tmp_path, adapters=[PiperTTSAdapter]).get("2024-01-01")
    assert spec.tags == ("2024-01-01", "2024-13-45")


def test_metadata_of_100_mb_is_not_read(tmp_path: Path) -> None:
    pack = put_pack(tmp_path, "large")
    with (pack / "metadata.yaml").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    assert "is larger than 64 KiB" in only_problem(tmp_path)


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def a_broken_link(path: Path) -> None:
    path.symlink_to(path.with_name("nothing here"))


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        place = os.open(path.parent, os.O_RDONLY)
        try:
            made.bind(f"/proc/self/fd/{place}/{path.name}")
        finally:
            os.close(place)


Maker = Callable[[Path], None]


@pytest.mark.parametrize("make", [a_fifo, a_folder, a_device, a_loop, a_broken_link, a_socket])
@pytest.mark.parametrize("name", ["metadata.yaml", "model.onnx", "model.onnx.json"])
def test_what_is_no_regular_file_is_named_and_never_opened(
    tmp_path: Path, make: Maker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = put_pack(tmp_path, "odd")
    (pack / name).unlink(missing_ok=True)
    make(pack / name)
    opened: list[Any] = []
    monkeypatch.setattr(os, "open", lambda *given: opened.append(given))
    if (make, name) == (a_folder, "model.onnx"):
        assert found(tmp_path) == ([], ()), "a folder is looked into, whatever its name"
        return
    problem = only_problem(tmp_path)
    assert f"{name} is left out: " in problem
    assert opened == []


@pytest.mark.parametrize("make", [a_fifo, a_device, a_loop, a_broken_link])
@pytest.mark.parametrize("end", [".onnx", ".onnx.json"])
def test_a_loose_voice_that_is_no_regular_file_is_named(
    tmp_path: Path, make: Maker, end: str
) -> None:
    model = put_loose(tmp_path, "en_US-odd-low")
    path = model.with_name(f"en_US-odd-low{end}")
    path.unlink()
    make(path)
    assert f"en_US-odd-low{end} is left out: " in only_problem(tmp_path)


def test_a_file_that_became_a_pipe_while_it_was_opened_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("a: 1")
    regular = os.stat(file)
    file.unlink()
    os.mkfifo(file)
    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", lambda path: regular)
        with pytest.raises(ConfigError, match="is no regular file"):
            read_mapping(file, voice_files._LIMITS)


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_pack(tmp_path, "closed")
    scandir = os.scandir

    def refusing(path: Path) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert "closed is left out: cannot be read: Permission denied" in only_problem(tmp_path)


def test_a_voice_directory_that_no_system_can_have_is_named(tmp_path: Path) -> None:
    put_pack(tmp_path, "good")
    catalog = Catalog.discover(tmp_path, Path("a\0b"), adapters=[PiperTTSAdapter])
    assert "piper-good" in catalog
    assert "null byte" in catalog.problems[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"caf\xe9", "its id is no UTF-8 (piper-caf\\udce9)"),
        ("a\x1b[2Jb", "characters that cannot be shown (piper-a\\x1b[2jb)"),
        ("a\nb", "characters that cannot be shown (piper-a\\nb)"),
        ("a\u202eb", "characters that cannot be shown (piper-a\\u202eb)"),
        ("a\x9bb", "characters that cannot be shown (piper-a\\x9bb)"),
        ("x" * 220, "its id is longer than 200 characters"),
    ],
)
def test_a_name_that_cannot_be_shown_is_left_out(
    tmp_path: Path, name: str | bytes, words: str
) -> None:
    put_pack(tmp_path, name)
    assert words in only_problem(tmp_path)


def test_a_file_whose_name_is_no_utf_8_is_left_out(tmp_path: Path) -> None:
    put_loose(tmp_path, os.fsdecode(b"en_US-caf\xe9-low"))
    assert "is no UTF-8" in only_problem(tmp_path)


def test_a_folder_above_that_is_no_utf_8_is_left_out(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"\xff")
    place.mkdir()
    put_loose(place, "en_US-joe-low")
    assert "its path is no UTF-8; rename" in only_problem(tmp_path)


def test_the_metadata_of_a_pack_is_read_once_for_all_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = put_pack(tmp_path, "many", "tags: [a]")
    for number in range(5):
        (pack / f"more-{number}.onnx").write_bytes(b"")
    read: list[Path] = []

    def counted(path: Path, limits: Any) -> Any:
        read.append(path)
        return read_mapping(path, limits)

    monkeypatch.setattr(voice_files, "read_mapping", counted)
    assert found(tmp_path) == (["piper-many"], ())
    assert read == [pack / "metadata.yaml"]


def test_no_file_of_a_loose_voice_is_opened_or_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        put_loose(tmp_path, f"en_US-v{number}-low")

    def looked(path: Any, *_: Any, **__: Any) -> Any:
        raise AssertionError(f"looked at {path}")

    with monkeypatch.context() as patched:
        for name in ("stat", "lstat", "open"):
            patched.setattr(os, name, looked)
        assert len(found(tmp_path)[0]) == 20
