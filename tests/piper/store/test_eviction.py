"""The store is bounded: stale voices leave first, then the least recently used."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from greenroom.adapters.piper.prepared.store.identity import StoreError
from greenroom.adapters.piper.prepared.store.store import Store
from tests.piper.store.stored_voices import (
    GRAPH,
    age,
    alter,
    arrays,
    files_in,
    index_in,
    put,
    read,
    touch,
)


def sources(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"voice{number}.onnx" for number in range(count)]
    for path in paths:
        path.write_bytes(path.name.encode() * 100)
    return paths


def test_the_least_recently_used_voices_leave_when_the_limit_is_reached(
    root: Path, tmp_path: Path
) -> None:
    a, b, c, d = sources(tmp_path, 4)
    size = put(Store(root, "runtime"), a).weights.stat().st_size
    graph = sum(map(len, GRAPH.values()))
    store = Store(root, "runtime", limit_bytes=3 * size + graph)
    age(root, put(store, a), 9)
    age(root, put(store, b, seed=1), 8)
    age(root, put(store, c, seed=2), 7)
    assert store.find(a)  # and so used now
    put(store, d, seed=3)
    assert [bool(store.find(path)) for path in (a, b, c, d)] == [True, False, True, True]
    assert len(list((root / "weights").iterdir())) == 3


def test_a_use_is_noted_no_more_than_once_an_hour(store: Store, root: Path, source: Path) -> None:
    made = put(store, source)
    for hours, noted in (0.5, False), (1.5, True):
        age(root, made, hours)
        before = index_in(root).stat().st_mtime_ns
        assert store.find(source)
        assert (index_in(root).stat().st_mtime_ns != before) is noted


def test_another_runtimes_voices_leave_first_and_not_without_need(
    root: Path, tmp_path: Path
) -> None:
    a, b, c = sources(tmp_path, 3)
    older = Store(root, "older")
    size = put(older, a).weights.stat().st_size
    store = Store(root, "runtime", limit_bytes=2 * size + sum(map(len, GRAPH.values())))
    age(root, put(store, b, seed=1), 9)
    assert older.find(a)
    put(store, c, seed=2)
    assert older.find(a) is None
    assert store.find(b)
    assert store.find(c)


def test_a_voice_larger_than_the_limit_is_refused_and_nobody_leaves_for_it(
    root: Path, source: Path, other: Path
) -> None:
    put(Store(root, "runtime"), source)
    store = Store(root, "runtime", limit_bytes=5_000)
    big = {"w": np.zeros(100_000, np.float32)}
    with pytest.raises(StoreError, match="does not fit the limit of 5000 bytes"):
        store.put(other, store.snapshot(other), GRAPH, big.items(), {})
    assert store.find(source)
    assert len(list((root / "weights").iterdir())) == 1


def test_a_graph_of_two_voices_is_stored_once_and_goes_with_the_last(
    store: Store, root: Path, source: Path, other: Path
) -> None:
    first, second = put(store, source), put(store, other, seed=1)
    assert first.graph == second.graph
    assert len(list((root / "graphs").iterdir())) == 1
    source.unlink()
    size = first.weights.stat().st_size
    assert store.prune() > size
    assert second.graph.is_dir()
    assert not first.weights.exists()
    assert store.find(other) == second
    other.unlink()
    store.prune()
    assert files_in(root) == []


def test_a_voice_put_anew_with_other_weights_leaves_no_old_ones(
    store: Store, root: Path, source: Path
) -> None:
    first = put(store, source)
    second = store.put(source, store.snapshot(source), {"a": b"b"}, arrays(1).items(), {})
    assert not first.weights.exists()
    assert not first.graph.exists()
    assert store.find(source) == second


def test_pruning_everything_empties_the_store_and_says_how_much_that_was(
    store: Store, root: Path, source: Path, other: Path
) -> None:
    put(store, source)
    put(Store(root, "another runtime"), other, seed=1)
    size = sum((root / name).stat().st_size for name in files_in(root))
    assert store.prune(everything=True) == size
    assert files_in(root) == []
    assert list((root / "graphs").iterdir()) == []


def test_pruning_removes_what_is_stale_and_keeps_what_is_not(
    store: Store, root: Path, tmp_path: Path
) -> None:
    kept, touched, replaced, gone, foreign = sources(tmp_path, 5)
    for seed, path in enumerate((kept, touched, replaced, gone)):
        put(store, path, seed)
    put(Store(root, "another runtime"), foreign, seed=5)
    touch(touched)
    alter(replaced)
    gone.unlink()
    assert store.prune() > 0
    assert [entry.source for entry in store.entries()] == [kept, touched]
    assert store.find(kept)
    assert store.find(touched)
    assert len(list((root / "weights").iterdir())) == 2
    assert store.prune() == 0


def test_pruning_leaves_alone_what_the_store_did_not_write(
    store: Store, root: Path, source: Path
) -> None:
    put(store, source)
    (root / "voices" / "mine.json").write_text("{}")
    (root / "weights" / "mine").mkdir()
    (root / "notes.txt").write_text("")
    store.prune(everything=True)
    assert files_in(root) == ["notes.txt", "voices/mine.json"]
    assert (root / "weights" / "mine").is_dir()


def test_pruning_removes_an_index_that_is_none_with_its_files(
    store: Store, root: Path, source: Path
) -> None:
    put(store, source)
    index_in(root).write_text("{")
    assert store.entries() == []
    store.prune()
    assert [name for name in files_in(root) if not name.startswith("sources/")] == []


def test_a_pruned_voice_stays_readable_for_who_has_it_mapped(store: Store, source: Path) -> None:
    mapped = read(put(store, source))
    store.prune(everything=True)
    np.testing.assert_array_equal(mapped["w0"], arrays()["w0"])


def test_entries_tell_source_copies_size_use_and_whether_they_are_current(
    store: Store, root: Path, source: Path, other: Path
) -> None:
    first = put(store, source)
    put(Store(root, "another runtime"), other, seed=1)
    copy = source.with_name("copy.onnx")
    shutil.copy(source, copy)
    assert store.find(copy)
    age(root, first, 2)
    stale, current = store.entries()
    assert (current.source, current.copies) == (source, (copy,))
    assert current.size_bytes == first.weights.stat().st_size
    assert time.time() - current.last_used == pytest.approx(7200, abs=60)
    assert current.current
    assert (stale.source, stale.copies, stale.current) == (other, (), False)
