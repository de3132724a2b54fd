"""Files of the store that are not what they should be are never used."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from greenroom.adapters.piper.prepared.store import verify
from greenroom.adapters.piper.prepared.store.store import Store
from tests.piper.store.stored_voices import alter, index_in, put, rewrite, touch


def test_altered_weights_of_the_same_size_are_not_used(
    store: Store, source: Path, warnings: list[str]
) -> None:
    made = put(store, source)
    alter(made.weights, at=10)
    assert store.find(source) is None
    assert len(warnings) == 1
    assert str(made.weights) in warnings[0]
    assert "altered" in warnings[0]
    put(store, source)
    assert store.find(source) == made


def test_truncated_weights_are_not_used(store: Store, source: Path, warnings: list[str]) -> None:
    made = put(store, source)
    os.truncate(made.weights, 100)
    assert store.find(source) is None
    assert len(warnings) == 1
    assert "has 100 bytes instead of" in warnings[0]


def test_missing_weights_are_one_warning(store: Store, source: Path, warnings: list[str]) -> None:
    made = put(store, source)
    made.weights.unlink()
    assert store.find(source) is None
    assert len(warnings) == 1
    assert str(made.weights) in warnings[0]


def test_touched_weights_are_verified_once_and_then_believed(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put(store, source)
    touch(made.weights)
    assert store.find(source) == made
    monkeypatch.setattr(verify, "_verified", {})
    monkeypatch.setattr(verify, "digest_of", None)
    assert store.find(source) == made


def test_a_copied_cache_is_used(store: Store, root: Path, source: Path, tmp_path: Path) -> None:
    made = put(store, source)
    shutil.copytree(root, tmp_path / "copied")
    found = Store(tmp_path / "copied", "runtime").find(source)
    assert found
    assert found.tensors == made.tensors
    assert found.weights.is_relative_to(tmp_path / "copied")


@pytest.mark.parametrize("fault", ["altered", "missing", "empty", "extra", "truncated"])
def test_a_graph_that_is_not_what_it_should_be_is_not_used(
    store: Store, source: Path, warnings: list[str], fault: str
) -> None:
    made = put(store, source)
    assert store.find(source)
    blob = made.graph / "flow.ort"
    match fault:
        case "altered":
            alter(blob)
        case "missing":
            blob.unlink()
        case "empty":
            shutil.rmtree(made.graph)
        case "extra":
            (made.graph / "more.ort").write_bytes(b"more")
        case "truncated":
            os.truncate(blob, 3)
    assert store.find(source) is None
    assert len(warnings) == 1
    assert str(made.graph) in warnings[0]
    assert put(store, source) == made
    assert store.find(source) == made


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", "\0\1\2", "null", '{"tensors": []}', "[" * 100_000, "{}" + " " * 1_000_000],
    ids=["empty", "list", "cut", "binary", "null", "partial", "deep", "long"],
)
def test_an_index_that_is_none_is_one_warning(
    store: Store, root: Path, source: Path, warnings: list[str], content: str
) -> None:
    put(store, source)
    index_in(root).write_text(content)
    assert store.find(source) is None
    assert len(warnings) == 1
    assert str(index_in(root)) in warnings[0]


@pytest.mark.parametrize(
    "tensor",
    [
        {"name": "w", "offset": -64, "shape": [1]},
        {"name": "w", "offset": 4, "shape": [1]},
        {"name": "w", "offset": 64.0, "shape": [1]},
        {"name": "w", "offset": True, "shape": [1]},
        {"name": "w", "offset": 0, "shape": [-1]},
        {"name": "w", "offset": 0, "shape": [-1, -1]},
        {"name": "w", "offset": 0, "shape": [1 << 70]},
        {"name": "w", "offset": 1 << 70, "shape": [1]},
        {"name": "w", "offset": 0, "shape": [100_000]},
        {"name": "w", "offset": 1 << 20, "shape": []},
        {"name": 1, "offset": 0, "shape": [1]},
        {"name": "w", "offset": 0, "shape": "1"},
    ],
)
def test_a_tensor_outside_the_file_is_never_believed(
    store: Store, root: Path, source: Path, warnings: list[str], tensor: dict[str, object]
) -> None:
    put(store, source)
    rewrite(index_in(root), tensors=[tensor])
    assert store.find(source) is None
    assert len(warnings) == 1


@pytest.mark.parametrize("key", ["graph", "weights"])
def test_an_index_cannot_lead_out_of_the_store(
    store: Store, root: Path, source: Path, warnings: list[str], key: str
) -> None:
    put(store, source)
    rewrite(index_in(root), **{key: "../../../etc/passwd"})
    assert store.find(source) is None
    assert len(warnings) == 1


def test_the_index_of_another_voice_is_not_used(
    store: Store, root: Path, source: Path, other: Path, warnings: list[str]
) -> None:
    put(store, source)
    first = index_in(root)
    put(store, other, seed=1)
    (second,) = set((root / "voices").iterdir()) - {first}
    shutil.copy(first, second)
    assert store.find(other) is None
    assert len(warnings) == 1
    assert "another voice" in warnings[0]


def test_an_index_that_cannot_be_opened_is_one_warning(
    store: Store, root: Path, source: Path, warnings: list[str]
) -> None:
    put(store, source)
    path = index_in(root)
    path.unlink()
    path.mkdir()
    assert store.find(source) is None
    assert len(warnings) == 1


def test_another_runtimes_voice_is_not_found(
    store: Store, root: Path, source: Path, warnings: list[str]
) -> None:
    put(store, source)
    assert Store(root, "another runtime").find(source) is None
    assert warnings == []
