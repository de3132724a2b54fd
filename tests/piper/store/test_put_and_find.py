"""What is put into the store is found again, whole and unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from greenroom.adapters.piper.prepared.store import identity, verify
from greenroom.adapters.piper.prepared.store.paths import default_root
from greenroom.adapters.piper.prepared.store.store import Store
from tests.piper.store.stored_voices import GRAPH, arrays, files_in, put, read


def test_what_was_put_is_found_with_equal_aligned_arrays(store: Store, source: Path) -> None:
    made = put(store, source, gain=1.5)
    found = store.find(source)
    assert found == made
    assert [tensor.name for tensor in found.tensors] == list(arrays())
    assert all(tensor.offset % 64 == 0 for tensor in found.tensors)
    for name, array in read(found).items():
        assert array.shape == arrays()[name].shape
        np.testing.assert_array_equal(array, arrays()[name])
    assert {path.name: path.read_bytes() for path in found.graph.iterdir()} == GRAPH
    assert found.facts == {"gain": 1.5}


def test_arrays_that_are_not_contiguous_are_put_as_they_read(store: Store, source: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    files = store.put(source, store.snapshot(source), GRAPH, [("w", array)], {})
    np.testing.assert_array_equal(read(files)["w"], array)


def test_a_voice_never_put_is_not_found_in_silence(
    store: Store, root: Path, source: Path, other: Path, warnings: list[str]
) -> None:
    assert store.find(source) is None
    assert not root.exists()
    put(store, source)
    assert store.find(other) is None
    assert store.find(other.with_name("none.onnx")) is None
    assert store.find(other / "below a file") is None
    assert warnings == []


def test_without_any_voice_a_source_is_not_read(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "digest_of", None)
    assert store.find(source) is None


@pytest.mark.usefixtures("forget")
def test_a_hit_reads_no_large_file(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put(store, source)
    monkeypatch.setattr(identity, "_learned", {})
    monkeypatch.setattr(identity, "digest_of", None)
    monkeypatch.setattr(verify, "digest_of", None)
    assert store.find(source) == made


def test_a_graph_is_verified_once_a_process(
    store: Store, root: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, source)
    assert store.find(source)
    monkeypatch.setattr(verify, "graph_id_of", None)
    assert Store(root, "runtime").find(source)


def test_a_path_through_a_link_is_the_same_source(store: Store, source: Path) -> None:
    made = put(store, source)
    link = source.with_name("link.onnx")
    link.symlink_to(source)
    assert store.find(link) == made


def test_facts_are_merged_into_those_there(store: Store, root: Path, source: Path) -> None:
    put(store, source, gain=1.0, rate=22050)
    store.remember(source, gain=2.0, loudness=[0.5, None])
    found = Store(root, "runtime").find(source)
    assert found
    assert found.facts == {"gain": 2.0, "rate": 22050, "loudness": [0.5, None]}


def test_facts_of_a_voice_that_is_not_there_are_dropped(
    store: Store, root: Path, source: Path
) -> None:
    store.remember(source, gain=2.0)
    store.remember(source.with_name("none.onnx"), gain=2.0)
    assert not root.exists()


def test_the_store_is_where_the_users_cache_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENROOM_CACHE_DIR", str(tmp_path))
    assert default_root() == tmp_path / "prepared"
    monkeypatch.delenv("GREENROOM_CACHE_DIR")
    assert default_root().parts[-2:] == ("greenroom", "prepared")


@pytest.mark.parametrize(
    ("graph", "weights", "facts"),
    [
        ({"../text.ort": b""}, [("w", np.zeros(1, np.float32))], {}),
        (GRAPH, [("w", np.zeros(1, np.float32)), ("w", np.zeros(1, np.float32))], {}),
        (GRAPH, [("w", np.zeros(1, np.float64))], {}),
        (GRAPH, [("w", np.zeros(1, np.float32))], {"gain": object()}),
    ],
)
def test_what_cannot_be_kept_is_refused_and_leaves_nothing(
    store: Store, root: Path, source: Path, graph: Any, weights: Any, facts: Any
) -> None:
    with pytest.raises((ValueError, TypeError)):
        store.put(source, store.snapshot(source), graph, weights, facts)
    assert store.find(source) is None
    assert [name for name in files_in(root) if not name.startswith("sources/")] == []


def test_a_caller_that_fails_while_it_gives_the_weights_leaves_nothing(
    store: Store, root: Path, source: Path
) -> None:
    def failing() -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        yield "w", np.zeros(1000, np.float32)
        raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="own"):
        store.put(source, store.snapshot(source), GRAPH, failing(), {})
    assert files_in(root) == []
