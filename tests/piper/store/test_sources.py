"""A voice is found by the content of its file, wherever that lies and however it was touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from greenroom.adapters.piper.prepared.store import identity
from greenroom.adapters.piper.prepared.store.identity import SourceChangedError
from greenroom.adapters.piper.prepared.store.store import Store
from tests.piper.store.stored_voices import GRAPH, arrays, files_in, put, touch


def test_a_touched_source_is_still_found_and_read_only_once(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put(store, source)
    touch(source)
    assert store.find(source) == made
    monkeypatch.setattr(identity, "_learned", {})
    monkeypatch.setattr(identity, "digest_of", None)
    assert store.find(source) == made


def test_a_copied_source_is_still_found(store: Store, source: Path) -> None:
    made = put(store, source)
    copy = source.with_name("copy.onnx")
    shutil.copy(source, copy)
    source.unlink()
    assert store.find(copy) == made


def test_a_source_replaced_under_the_same_name_is_not_found(
    store: Store, source: Path, other: Path, warnings: list[str]
) -> None:
    put(store, source)
    other.replace(source)
    assert store.find(source) is None
    assert warnings == []
    made = put(store, source, seed=1)
    assert store.find(source) == made


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_source_that_changes_while_it_is_prepared_is_refused(
    store: Store, root: Path, source: Path, other: Path, when: str
) -> None:
    seen = store.snapshot(source)

    def weights() -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        yield from arrays().items()
        if when == "while":
            other.replace(source)

    if when == "before":
        touch(source)
    with pytest.raises(SourceChangedError, match="changed"):
        store.put(source, seen, GRAPH, weights(), {})
    assert files_in(root) == []


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize("content", ["", "[]", "{", '{"source": 1}', "\0"])
def test_a_record_of_a_source_that_cannot_be_read_is_as_good_as_none(
    store: Store, root: Path, source: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put(store, source)
    monkeypatch.setattr(identity, "_learned", {})
    (record,) = (root / "sources").iterdir()
    record.write_text(content)
    assert store.find(source) == made
    assert json.loads(record.read_text())["source"] == str(source)
