"""`greenroom prepare`, and what `greenroom ls` says of it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenroom import AudioChunk, Catalog, ConfigError, ModelSpec, TTSAdapter
from greenroom.adapter import Preparation
from greenroom.adapters.piper.piper_preparation import PiperPreparation
from greenroom.adapters.piper.prepared.store.lookup import is_prepared
from greenroom.adapters.piper.prepared.store.paths import default_root
from greenroom.adapters.piper.prepared.store.store import default_store
from greenroom.cli import main
from greenroom.cli import prepare as commands
from tests.piper.real_voice import MODEL, MODEL_ID, PATIENT, said_of_preparing
from tests.waiting import eventually

Run = Callable[[str], tuple[int, str, str]]


class ScriptPreparation(Preparation):
    """Prepared is what has a file `.done` beside it; a script of the file's content makes it."""

    def is_prepared(self, spec: ModelSpec) -> bool | None:
        if spec.device != "cpu":
            return None
        return Path(f"{spec.path}.done").exists()

    def command(self, spec: ModelSpec) -> Sequence[str]:
        return [sys.executable, str(spec.path)]


class ScriptAdapter(TTSAdapter):
    """Speaks never; its models are prepared by scripts."""

    preparation = ScriptPreparation()

    def load(self) -> None: ...

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        raise NotImplementedError

    def unload(self) -> None: ...

    @classmethod
    def check_spec(cls, spec: ModelSpec) -> None:
        if not Path(spec.path or "").exists():
            raise ConfigError(f"there is no file {Path(spec.path or '').name}.")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in [name for name in os.environ if name.startswith("GREENROOM_")]:
        if name != "GREENROOM_CACHE_DIR":
            monkeypatch.delenv(name)

    def run(line: str) -> tuple[int, str, str]:
        code = main(shlex.split(line))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the command find models whose preparation is a script, by their names."""

    def lay(**scripts: str | None) -> None:
        specs = [
            ModelSpec("tone", "tone"),
            ModelSpec("gpu", ScriptAdapter, tmp_path, device="cuda:0"),
        ]
        for name, script in scripts.items():
            path = tmp_path / name.partition("_")[0]
            if script is not None:
                path.write_text(f"done = open({f'{path}.done'!r}, 'a')\n{script}")
            specs.append(ModelSpec(name, ScriptAdapter, path))
        monkeypatch.setattr(Catalog, "from_config", lambda config: Catalog(specs))

    return lay


REFUSES = "import os, sys; os.remove(done.name); sys.exit('words before\\nit [b]hums[/b]')"


def test_a_voice_is_prepared_once_however_many_models_speak_with_it(
    run: Run, catalog: Callable[..., None], tmp_path: Path
) -> None:
    catalog(amy="done.write('x')", amy_slow="done.write('x')", joe="")
    assert run("prepare") == (
        0,
        "amy, amy_slow: prepared\njoe: prepared\n",
        "preparing amy, 1 of 2\npreparing joe, 2 of 2\n",
    )
    assert (tmp_path / "amy.done").read_text() == "x"


def test_a_voice_that_is_prepared_is_left_as_it_is(run: Run, catalog: Callable[..., None]) -> None:
    catalog(amy="", joe="")
    assert run("prepare amy")[1] == "amy: prepared\n"
    assert run("prepare amy joe amy") == (
        0,
        "amy: was prepared already\njoe: prepared\n",
        "preparing joe, 2 of 2\n",
    )


def test_a_voice_that_cannot_be_prepared_says_why_and_keeps_nobody_waiting(
    run: Run, catalog: Callable[..., None]
) -> None:
    catalog(amy=REFUSES, joe="", mute="import os; os.remove(done.name); os._exit(3)", gone=None)
    said = (
        "gone: cannot be prepared: there is no file gone.\n"
        "amy: cannot be prepared: it [b]hums[/b]; its own file serves.\n"
        "joe: prepared\n"
        "mute: cannot be prepared: it ended with 3; its own file serves.\n"
    )
    assert run("prepare")[:2] == (0, said), "nobody asked for these by name"


@pytest.mark.parametrize("name", ["amy", "gone", "tone", "gpu"])
def test_a_named_model_that_is_not_prepared_is_exit_code_1(
    run: Run, catalog: Callable[..., None], name: str
) -> None:
    catalog(amy=REFUSES, joe="", gone=None)
    code, out, _ = run(f"prepare joe {name}")
    assert code == 1
    assert "joe: prepared\n" in out
    assert f"{name}: cannot be prepared: " in out


def test_outcomes_as_json(run: Run, catalog: Callable[..., None]) -> None:
    catalog(amy=REFUSES, joe="", joe_slow="")
    code, out, _ = run("prepare --json")
    assert code == 0
    assert json.loads(out) == [
        {
            "models": ["amy"],
            "outcome": "not prepared",
            "problem": "it [b]hums[/b]; its own file serves.",
        },
        {"models": ["joe", "joe_slow"], "outcome": "prepared", "problem": None},
    ]


def test_a_preparation_that_hangs_is_ended(
    run: Run, catalog: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "LIMIT_S", 0.2)
    monkeypatch.setattr(commands, "_END_S", 0.2)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: 0)\n"
    catalog(amy=stubborn + "import os; os.remove(done.name)\nwhile True: time.sleep(1)")
    code, out, _ = run("prepare amy")
    assert (code, out) == (
        1,
        "amy: cannot be prepared: it took longer than 0.2 s; its own file serves.\n",
    )


def test_an_interruption_waits_until_the_preparation_has_cleaned_up(
    run: Run, catalog: Callable[..., None], tmp_path: Path
) -> None:
    """Ctrl-C reaches the command only, which ends the preparation once."""
    catalog(
        amy="import os, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit())\n"
        "try:\n"
        f"    os.mkfifo({str(tmp_path / 'begun')!r})\n"
        "    while True: time.sleep(0.01)\n"  # a signal just before a sleep does not end that
        "finally:\n"
        "    time.sleep(0.1); done.write('cleaned up')\n",
        joe="",
    )
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def interrupt() -> None:
        eventually((tmp_path / "begun").exists)
        signal.pthread_kill(main_thread, signal.SIGINT)

    presses = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        presses.start()
        code, out, _ = run("prepare")
        presses.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, out) == (130, "")
    assert (tmp_path / "amy.done").read_text() == "cleaned up"
    assert not (tmp_path / "joe.done").exists()


def test_preparing_is_refused_where_nothing_prepared_would_be_used(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENROOM_PREPARE", "off")
    code, out, err = run("prepare")
    assert (code, out) == (1, "")
    assert err == (
        "error: GREENROOM_PREPARE is off, so nothing prepared would be used; unset it.\n"
    )


@pytest.mark.parametrize(
    ("line", "words"), [("--all", "goes with --prune"), ("--prune amy", "name no models")]
)
def test_pruning_is_of_the_whole_store(run: Run, line: str, words: str) -> None:
    code, _, err = run(f"prepare {line}")
    assert code == 2
    assert words in err


def put(source: Path) -> None:
    """Make a file at `source`, and put a prepared form of 4 MB of it into the store."""
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(source.name.encode())
    store = default_store()
    weights = np.full(1024 * 1024, len(source.name), np.float32)
    store.put(source, store.snapshot(source), {"g": b"graph"}, [("w", weights)], {})


def test_pruning_removes_what_no_file_has_any_more_and_says_how_much(
    run: Run, tmp_path: Path
) -> None:
    for name in ("amy", "joseph"):
        put(tmp_path / name)
    (tmp_path / "amy").unlink()
    assert run("prepare --prune") == (0, "4.0 MB came free\n", "")
    assert run("prepare --prune") == (0, "0.0 MB came free\n", "")
    assert is_prepared(tmp_path / "joseph")
    code, out, _ = run("prepare --prune --all --json")
    assert code == 0
    assert json.loads(out)["freed_bytes"] > 4 * 1024 * 1024
    assert not is_prepared(tmp_path / "joseph")
    assert not any(path.is_file() for path in default_root().rglob("[!.]*"))


def test_a_store_that_cannot_be_pruned_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "amy")
    (default_root() / ".lock").unlink()
    (default_root() / ".lock").mkdir()
    code, out, err = run("prepare --prune")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "make the folder writable, or remove it." in err


def test_the_catalog_says_which_voices_are_prepared(run: Run, tmp_path: Path) -> None:
    voices = tmp_path / "voices"
    put(voices / "en_US-amy-low.onnx")
    (voices / "en_US-joe-low.onnx").write_bytes(b"joe")
    for name in ("amy", "joe"):
        (voices / f"en_US-{name}-low.onnx.json").write_text("{}")
    file = tmp_path / "c.yaml"
    file.write_text(
        "voices: {directories: [voices], packages: []}\n"
        "models:\n"
        "- {model_id: own, variant_of: en_US-amy-low, options: {prepare: 0}}\n"
        "- {model_id: beep, adapter: tone}\n"
    )
    expected = {
        "piper-en-us-amy-low": ("yes", True),
        "piper-en-us-joe-low": ("no", False),
        "own": ("-", None),
        "beep": ("-", None),
    }
    lines = run(f"ls --config {file}")[1].splitlines()
    assert lines[0].endswith("PREPARED")
    shown = {line.split()[0]: line.split()[-1] for line in lines}
    told = {model["model_id"]: model for model in json.loads(run(f"ls --json --config {file}")[1])}
    for model_id, (word, value) in expected.items():
        assert shown[model_id] == word
        assert told[model_id]["prepared"] is value


def test_asking_whether_a_voice_is_prepared_is_no_use_of_it(tmp_path: Path) -> None:
    put(tmp_path / "amy")
    (index,) = (default_root() / "voices").iterdir()
    os.utime(index, (1e9, 1e9))
    assert is_prepared(tmp_path / "amy")
    assert index.stat().st_mtime == 1e9


def test_a_voice_whose_prepared_form_is_damaged_is_not_prepared(tmp_path: Path) -> None:
    put(tmp_path / "amy")
    (weights,) = (default_root() / "weights").iterdir()
    os.truncate(weights, 100)
    assert not is_prepared(tmp_path / "amy")
    assert not is_prepared(tmp_path / "nobody")


@pytest.mark.parametrize("change", ["touched", "copied"])
def test_a_list_reads_no_voice_and_a_changed_one_is_known_again_by_its_next_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    put(tmp_path / "amy")
    voice = tmp_path / "amy" if change == "touched" else tmp_path / "copy"
    voice.write_bytes(b"amy")
    os.utime(voice, (1e9, 1e9))
    with monkeypatch.context() as patch:
        patch.setattr(
            "greenroom.adapters.piper.prepared.store.identity.digest_of",
            lambda path: pytest.fail("read"),
        )
        assert not is_prepared(voice)
    assert default_store().find(voice) is not None
    assert is_prepared(voice)


def test_links_to_one_file_are_one_voice(tmp_path: Path) -> None:
    file, link = tmp_path / "amy.onnx", tmp_path / "link.onnx"
    file.write_bytes(b"amy")
    link.symlink_to(file)
    first, second = (
        PiperPreparation().command(ModelSpec("x", "piper", path, options={"speed": speed}))
        for path, speed in ((file, 1.0), (link, 2.0))
    )
    assert first == second


@PATIENT
def test_the_real_voice_is_prepared_ahead(
    run: Run, prepared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (0, f"{MODEL_ID}: prepared\n", f"preparing {MODEL_ID}, 1 of 1\n")
    assert said_of_preparing(prepared_cache) == said
    monkeypatch.setenv("GREENROOM_CACHE_DIR", str(prepared_cache))
    assert default_store().find(MODEL) is not None
    assert run("prepare")[1] == f"{MODEL_ID}: was prepared already\n"
