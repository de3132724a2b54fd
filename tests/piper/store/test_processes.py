"""Several processes use one store, and may be killed at any moment."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from greenroom.adapters.piper.prepared.store import atomic_files, verify
from greenroom.adapters.piper.prepared.store.store import Store
from tests.piper.store.stored_voices import GRAPH, PUT, files_in, put, read, touch, writer


def test_two_processes_that_put_one_voice_at_once_end_with_one_good_copy(
    store: Store, root: Path, source: Path
) -> None:
    runs = [writer(root, source) for _ in range(2)]
    for run in runs:
        assert run.stdout
        assert run.stdout.readline() == "writing\n"
    results = [run.communicate("\n") for run in runs]
    assert [run.returncode for run in runs] == [0, 0], results
    found = store.find(source)
    assert found
    assert {out.strip() for out, _ in results} == {str(found.weights)}
    for number, array in enumerate(read(found).values()):
        np.testing.assert_array_equal(array, np.full((1000, number + 1), number, np.float32))
    assert len(files_in(root)) == 1 + 1 + len(GRAPH) + 1


def test_who_puts_second_shares_the_file_that_the_first_has_mapped(
    store: Store, source: Path
) -> None:
    before = put(store, source).weights.stat().st_ino
    assert put(store, source, gain=2.0).weights.stat().st_ino == before
    found = store.find(source)
    assert found
    assert found.facts == {"gain": 2.0}


def test_a_process_killed_while_writing_leaves_nothing_that_is_found_and_is_swept(
    store: Store, root: Path, source: Path, other: Path, warnings: list[str]
) -> None:
    with writer(root, source) as run:
        assert run.stdout
        assert run.stdout.readline() == "writing\n"
        run.send_signal(signal.SIGKILL)
    assert [name for name in files_in(root) if name.endswith(".tmp")]
    assert store.find(source) is None
    put(store, other)
    assert not [name for name in files_in(root) if name.endswith(".tmp")]
    assert warnings == []


@pytest.mark.parametrize("step", ["place", "write_folder", "write_index"])
def test_a_process_killed_while_it_names_its_files_leaves_nothing_that_is_found(
    store: Store, root: Path, source: Path, other: Path, warnings: list[str], step: str
) -> None:
    dies = f"""
import os, signal
from greenroom.adapters.piper.prepared.store import index, store as stores
target = index.WeightsDraft if {step!r} == "place" else stores
whole = getattr(target, {step!r})
def die(*arguments):
    if {step!r} != "write_index":
        whole(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(target, {step!r}, die)
"""
    run = writer(root, source, dies + PUT)
    run.communicate("\n")
    assert run.returncode == -signal.SIGKILL
    assert store.find(source) is None
    put(store, other)
    assert len(files_in(root)) == 1 + 1 + len(GRAPH) + len(list((root / "sources").iterdir()))
    assert warnings == []


def test_what_a_living_process_writes_is_not_swept(
    store: Store, root: Path, source: Path, other: Path
) -> None:
    with writer(root, source) as run:
        assert run.stdout
        assert run.stdout.readline() == "writing\n"
        store.prune(everything=True)
        put(store, other)
        _, err = run.communicate("\n")
        assert run.returncode == 0, err
    assert store.find(source)
    assert store.find(other)


def test_a_voice_pruned_as_it_is_looked_for_is_not_found_in_silence(
    store: Store, source: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, source)

    def pruned(*_: object) -> None:
        store.prune(everything=True)
        raise FileNotFoundError

    monkeypatch.setattr(verify, "check_graph", pruned)
    assert store.find(source) is None
    assert warnings == []


def test_finding_does_not_wait_for_who_holds_the_lock(
    store: Store, root: Path, source: Path
) -> None:
    made = put(store, source)
    touch(source)
    touch(made.weights)
    with atomic_files.locked(root):
        assert store.find(source) == made
