"""The store's directory may be missing, read-only, full or foreign."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from greenroom.adapters.piper.prepared.store.identity import StoreError
from greenroom.adapters.piper.prepared.store.store import Store
from tests.piper.store.stored_voices import (
    GRAPH,
    PUT,
    arrays,
    files_in,
    put,
    read,
    touch,
    writer,
)


def unprivileged(root: Path, source: Path, call: str) -> str:
    """Run a call as a process that may only read `root`, also where the tests run as root."""
    script = "import os; os.geteuid() or os.setuid(65534)\n" + call
    run = writer(root, source, "\n" + script)
    out, err = run.communicate("\n")
    assert run.returncode == 0, err
    return out


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may read; pytest's own are its user's only."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_read_only_store_is_found_in_and_not_written(public: Path) -> None:
    root, source = public / "prepared", public / "voice.onnx"
    source.write_bytes(b"voice" * 1000)
    put(Store(root, "runtime"), source)
    touch(source)
    before = files_in(root)
    for path in (root, *root.rglob("*")):
        path.chmod(path.stat().st_mode & 0o555)
    try:
        assert "PreparedFiles" in unprivileged(root, source, "print(store.find(source))")
        refusal = "try:\n    " + PUT + "\nexcept OSError as error:\n    print(repr(error))"
        said = unprivileged(root, source, refusal)
        assert "StoreError" in said
        assert "cannot be kept in" in said
        assert "Permission denied" in said
        unprivileged(root, source, "store.remember(source, gain=1)")
        assert files_in(root) == before
    finally:
        for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
            folder.chmod(0o755)


def test_a_file_in_place_of_the_directory_is_a_plain_refusal(
    root: Path, store: Store, source: Path, warnings: list[str]
) -> None:
    root.parent.mkdir()
    root.write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot be kept in .*: "):
        put(store, source)
    assert store.find(source) is None
    assert store.prune() == 0
    assert root.read_text() == "in the way"


def test_a_disk_that_fills_up_while_the_weights_are_written_leaves_nothing(
    root: Path, source: Path
) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
    refusal = "try:\n    " + PUT + "\nexcept OSError as error:\n    print(repr(error))"
    run = writer(root, source, "\n" + limited + refusal)
    out, err = run.communicate("\n")
    assert "StoreError" in out, err
    assert files_in(root) == []


@pytest.mark.parametrize("name", ["text.ort", ".json"])
def test_a_disk_that_is_full_for_the_last_files_leaves_nothing(
    store: Store, root: Path, source: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Path.write_bytes
    replaced = Path.replace

    def full(path: Path, content: bytes) -> int:
        if path.name == name:
            written(path, content[:1])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(path, content)

    def no_entry(path: Path, target: Path) -> Path:
        if target.parent.name == "voices" and target.name.endswith(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replaced(path, target)

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(Path, "replace", no_entry)
    with pytest.raises(StoreError, match=r"cannot be kept in .*: No space left on device"):
        put(store, source)
    assert store.find(source) is None
    assert [name for name in files_in(root) if not name.startswith("sources/")] == []
    monkeypatch.undo()
    assert put(store, source) == store.find(source)


def test_a_directory_deleted_in_use_is_made_anew_by_the_next_put(
    store: Store, root: Path, source: Path, warnings: list[str]
) -> None:
    made = put(store, source)
    mapped = read(made)
    shutil.rmtree(root)
    assert store.find(source) is None
    assert store.entries() == []
    assert store.prune() == 0
    store.remember(source, gain=1)
    assert warnings == []
    np.testing.assert_array_equal(mapped["w0"], arrays()["w0"])
    assert put(store, source) == made
    assert store.find(source) == made


def test_a_directory_deleted_while_a_voice_is_written_refuses_that_voice_only(
    store: Store, root: Path, source: Path
) -> None:
    def weights() -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        yield from arrays().items()
        shutil.rmtree(root)

    with pytest.raises(StoreError):
        store.put(source, store.snapshot(source), GRAPH, weights(), {})
    assert files_in(root) == []
    assert put(store, source) == store.find(source)
