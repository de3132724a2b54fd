"""`greenroom pull`, `search`, `show` and `rm`, against a real server of voices."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from greenroom.cli import main
from tests.voices.collection import KEYS, Collection, Server, cut, path_of, serving, whole

Run = Callable[[str], tuple[int, str, str]]
AMY, THORSTEN, TUGAO = KEYS
MODEL = path_of(AMY, f"{AMY}.onnx")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serving(Collection.of()) as made:
        yield made


@pytest.fixture
def run(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with a configuration of one directory, whose index the server has."""
    file = tmp_path / "c.yaml"
    file.write_text(f"voices: {{directories: [voices], packages: [], index: '{server.url}'}}\n")

    def run(line: str) -> tuple[int, str, str]:
        code = main([*shlex.split(line), "--config", str(file)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_voices_are_pulled_with_their_licences_and_are_in_the_catalog(
    run: Run, server: Server, tmp_path: Path
) -> None:
    server.faults[MODEL] = [cut(100_000), cut(100_000)]
    code, out, err = run(f"pull {AMY} piper-de-de-thorsten-medium {AMY}")
    assert code == 0
    folder = tmp_path / "voices"
    assert out.splitlines() == [
        f"{AMY}: pulled, 0.3 MB in {folder / AMY}; licence: CC0 (of {AMY})",
        f"{THORSTEN}: pulled, 0.3 MB in {folder / THORSTEN}; licence: CC0 (of {THORSTEN})",
    ]
    assert err.splitlines() == [f"pulling {AMY}, 0.3 MB", f"pulling {THORSTEN}, 0.3 MB"]
    assert "piper-en-us-amy-low" in run("ls")[1]
    assert "here already" in run(f"pull {AMY}")[1]


def test_a_voice_that_cannot_be_pulled_does_not_stop_the_others(
    run: Run, server: Server, tmp_path: Path
) -> None:
    server.always[MODEL] = whole(b"\0" * 300_000)
    code, out, err = run(f"pull {AMY} en_US-ami-low {TUGAO}")
    assert code == 1
    assert out.startswith(f"{TUGAO}: pulled")
    assert f"error: voice '{AMY}' cannot be pulled: {AMY}.onnx has a wrong checksum" in err
    assert f"error: the index has no voice 'en_US-ami-low'; did you mean {AMY}?" in err
    assert [path.name for path in (tmp_path / "voices").iterdir()] == [TUGAO]


def test_what_became_of_each_voice_as_json(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(f"pull --json {AMY} nothing-like-it")
    assert code == 1
    pulled, failed = json.loads(out)
    assert (pulled["voice"], pulled["outcome"], pulled["licence"]) == (
        AMY,
        "pulled",
        f"CC0 (of {AMY})",
    )
    assert pulled["folder"] == str(tmp_path / "voices" / AMY)
    assert (failed["voice"], failed["outcome"]) == ("nothing-like-it", "not pulled")


def test_a_directory_that_is_not_looked_in_is_said(run: Run, tmp_path: Path) -> None:
    code, _, err = run(f"pull {AMY} --into {tmp_path / 'other'}")
    assert code == 0
    assert (tmp_path / "other" / AMY).is_dir()
    assert f"no voices are looked for in {tmp_path / 'other'}" in err


def test_a_source_on_the_command_line_comes_before_the_configuration(
    run: Run, tmp_path: Path
) -> None:
    code, _, err = run(f"pull {AMY} --from {tmp_path}")
    assert code == 1
    assert "the index has no voice" in err
    assert "is no source of voices" in run("search --from ./nothing-here")[2]


def test_voices_are_searched_by_words(run: Run) -> None:
    run(f"pull {AMY}")
    code, out, _ = run("search")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["VOICE", "LANGUAGE", "COUNTRY", "QUALITY", "SPEAKERS", "SIZE", "HERE"]
    english = [AMY, "English", "United", "States", "low", "1", "0.3", "MB", "yes"]
    assert lines[1] == english
    assert len(lines) == 4
    assert run("search german medium")[1].splitlines()[1].startswith(THORSTEN)
    (found,) = json.loads(run("search --json portuguese")[1])
    assert (found["voice"], found["here"]) == (TUGAO, False)


def test_a_search_without_a_result_names_similar_voices(run: Run) -> None:
    code, out, err = run("search torsten")
    assert (code, out) == (1, "")
    assert f"did you mean {THORSTEN}" in err


def test_everything_about_a_voice_is_shown(run: Run, server: Server) -> None:
    code, out, _ = run("show en-amy-low")
    assert code == 0
    shown = dict(line.split(None, 1) for line in out.splitlines() if " names" not in line)
    assert shown["licence"] == f"CC0 (of {AMY})"
    assert shown["language"] == "en_US, English, English, United States"
    assert shown["here"].startswith("no; `greenroom pull")
    assert shown["from"] == f"{server.url}/voices.json"
    assert json.loads(run(f"show --json {AMY}")[1])["dataset"] == "there"


def test_a_card_that_cannot_be_read_does_not_hide_the_voice(run: Run, server: Server) -> None:
    del server.collection.files[path_of(AMY, "MODEL_CARD")]
    code, out, err = run(f"show {AMY}")
    assert code == 0
    assert "not stated" in out
    assert "its card cannot be read" in err


def test_a_voice_is_removed_by_any_of_its_names(run: Run, tmp_path: Path) -> None:
    run(f"pull {AMY} {TUGAO}")
    assert run(f"rm piper-en-us-amy-low {TUGAO}")[1].splitlines() == [
        "piper-en-us-amy-low: removed, 0.3 MB came free",
        f"{TUGAO}: removed, 0.3 MB came free",
    ]
    assert list((tmp_path / "voices").iterdir()) == []


def test_nothing_is_removed_unless_all_can_be(run: Run, tmp_path: Path) -> None:
    run(f"pull {AMY}")
    code, _, err = run(f"rm {AMY} nothing-like-it")
    assert code == 1
    assert "is not in the catalog" in err
    assert (tmp_path / "voices" / AMY / f"{AMY}.onnx").exists()


def test_what_is_no_file_of_a_directory_is_not_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "voices: {directories: [voices]}\n"
        "models: [{model_id: slow, variant_of: piper-en-us-joe-medium, options: {speed: 0.8}}]\n"
    )
    assert main(["rm", "slow", "--config", str(file)]) == 1
    assert "slow is an entry of the configuration; remove it there." in capsys.readouterr().err
    assert main(["rm", "en_US-joe-medium", "--config", str(file)]) == 1
    assert "comes with an installed package" in capsys.readouterr().err
