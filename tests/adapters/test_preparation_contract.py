"""An engine of its own, which is not Piper, has its models prepared by the command and the manager.

It uses nothing but `TTSAdapter.preparation`, as the engine of any package does.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from greenroom import AudioChunk, Catalog, ModelManager, ModelSpec, TTSAdapter
from greenroom.adapter import Preparation
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.catalog import registry
from greenroom.cli import main

LONG = 30.0
"""Seconds that nothing here takes, and after which a test fails anyway."""

Run = Callable[[str], tuple[int, str, str]]


class BrassPreparation(Preparation):
    """The prepared form is a file `.fast` beside the model's own, which a process copies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reason = ""

    def is_prepared(self, spec: ModelSpec) -> bool | None:
        return None if spec.path is None else fast(spec).exists()

    def command(self, spec: ModelSpec) -> Sequence[str]:
        copy = "import shutil, sys; shutil.copyfile(*sys.argv[1:])"
        return [sys.executable, "-c", copy, str(spec.path), str(fast(spec))]

    def next_form(self, spec: ModelSpec) -> str:
        return "fast" if self.is_prepared(spec) else "slow"

    def prune(self, *, everything: bool) -> int:
        freed = 0
        for path in self.folder.glob("*.fast"):
            if everything or not path.with_suffix("").exists():
                freed += path.stat().st_size
                path.unlink()
        return freed

    def switched_off(self) -> str:
        return self.reason


class BrassAdapter(TTSAdapter):
    """Speaks half a second of the same, from whichever file is there."""

    concurrency: ClassVar[int | None] = None
    sample_rate = 16_000
    _form = ""

    @property
    def form(self) -> str:
        return self._form

    def load(self) -> None:
        self._form = "fast" if fast(self.spec).exists() else "slow"

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        yield AudioChunk(np.full(8_000, 0.5, np.float32), 16_000)

    def upgrade(self) -> bool:
        before, self._form = self._form, "fast"
        return before != "fast"

    def footprint_bytes(self) -> int:
        return 1 << 20

    def mapped_bytes(self) -> int:
        return 0

    def unload(self) -> None: ...


def fast(spec: ModelSpec) -> Path:
    return Path(f"{spec.path}.fast")


@pytest.fixture
def brass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BrassPreparation:
    """Register the engine as `brass`, alone beside the tones; its models are `horn` and `tuba`."""
    preparation = BrassPreparation(tmp_path)
    monkeypatch.setattr(BrassAdapter, "preparation", preparation)
    known = {"brass": BrassAdapter, "tone": ToneTTSAdapter}
    monkeypatch.setattr(registry, "_classes", known)
    monkeypatch.setattr(registry, "names", lambda: tuple(known))
    monkeypatch.setattr(Catalog, "from_config", lambda config, **_: catalog(tmp_path))
    return preparation


def catalog(folder: Path) -> Catalog:
    specs = [ModelSpec(name, "brass", folder / name) for name in ("horn", "tuba")]
    for spec in specs:
        Path(spec.path or "").write_bytes(b"0123456789")
    return Catalog([*specs, ModelSpec("bare", "brass"), ModelSpec("tone", "tone")])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(line: str) -> tuple[int, str, str]:
        code = main(shlex.split(line))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
async def manager(brass: BrassPreparation, tmp_path: Path) -> AsyncIterator[ModelManager]:
    settings: dict[str, Any] = {"min_residency_ms": 0, "memory_budget_mb": 100}
    models = catalog(tmp_path)
    async with ModelManager(catalog=models, default_model_id="horn", **settings) as manager:
        yield manager


def prepared(run: Run) -> dict[str, bool | None]:
    return {model["model_id"]: model["prepared"] for model in json.loads(run("ls --json")[1])}


def test_the_command_prepares_its_models_and_the_list_says_so(
    run: Run, brass: BrassPreparation
) -> None:
    assert prepared(run) == {"horn": False, "tuba": False, "bare": None, "tone": None}
    assert run("prepare horn")[:2] == (0, "horn: prepared\n")
    assert prepared(run)["horn"] is True
    assert run("prepare")[:2] == (0, "horn: was prepared already\ntuba: prepared\n")
    nothing = "cannot be prepared: its adapter, device and options leave nothing to prepare."
    assert run("prepare bare")[:2] == (1, f"bare: {nothing}\n")


def test_the_command_prunes_what_it_keeps_though_no_model_is_left(
    run: Run, brass: BrassPreparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("prepare")
    (brass.folder / "tuba").unlink()
    monkeypatch.setattr(Catalog, "from_config", lambda config: pytest.fail("not needed"))
    assert json.loads(run("prepare --prune --json")[1]) == {"freed_bytes": 10}
    assert [path.name for path in brass.folder.glob("*.fast")] == ["horn.fast"]
    assert json.loads(run("prepare --prune --all --json")[1]) == {"freed_bytes": 10}
    assert not list(brass.folder.glob("*.fast"))


def test_an_engine_that_cannot_be_imported_leaves_the_others_prunable(
    run: Run, brass: BrassPreparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("prepare")
    monkeypatch.setattr(registry, "names", lambda: ("lost", "brass"))
    assert json.loads(run("prepare --prune --all --json")[1]) == {"freed_bytes": 20}


def test_forms_that_cannot_be_removed_are_one_line(
    run: Run, brass: BrassPreparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*, everything: bool) -> int:
        raise PermissionError("the folder is read-only")

    monkeypatch.setattr(brass, "prune", refuse)
    assert run("prepare --prune")[::2] == (
        1,
        "error: the folder is read-only; make the folder writable, or remove it.\n",
    )


def test_an_engine_that_is_switched_off_prepares_nothing_and_says_why(
    run: Run, brass: BrassPreparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    brass.reason = "BRASS is off; unset it."
    assert run("prepare") == (1, "", "error: BRASS is off; unset it.\n")
    monkeypatch.setattr(ToneTTSAdapter, "preparation", BrassPreparation(brass.folder))
    code, out, _ = run("prepare horn")
    assert (code, out) == (1, "horn: cannot be prepared: BRASS is off; unset it.\n")
    assert not list(brass.folder.glob("*.fast"))


async def test_the_manager_prepares_a_model_behind_its_load_and_moves_it_over(
    manager: ModelManager, brass: BrassPreparation
) -> None:
    async with asyncio.timeout(LONG):
        async with manager.lease("horn") as lease:
            assert isinstance(lease.adapter, BrassAdapter)
            while lease.adapter.form != "fast":  # noqa: ASYNC110 - of a process there are no events
                await asyncio.sleep(0.005)
            assert [frame async for frame in lease.synthesize_stream("Hello.")]
    assert (brass.folder / "horn.fast").exists()


def test_preparing_without_piper_voices_imports_nothing_of_an_engine() -> None:
    """What the contract needs of Piper itself is asked of it without `piper` and `onnxruntime`."""
    asks = (
        "import sys\n"
        "from greenroom.catalog import registry\n"
        "from greenroom import ModelSpec\n"
        "preparation = registry.resolve('piper').preparation\n"
        "spec = ModelSpec('a', 'piper', __file__ if '__file__' in globals() else '/no/such')\n"
        "preparation.is_prepared(spec), preparation.command(spec), preparation.next_form(spec)\n"
        "preparation.switched_off(), preparation.prune(everything=False)\n"
        "print([name for name in ('piper', 'onnxruntime', 'onnx') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
