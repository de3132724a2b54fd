"""The store of prepared voices: what is right is found, what is wrong is not."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from greenroom.adapters.piper.prepared.store import atomic_files, identity, verify
from greenroom.adapters.piper.prepared.store.identity import SourceChangedError, StoreError
from greenroom.adapters.piper.prepared.store.paths import PreparedFiles, default_root
from greenroom.adapters.piper.prepared.store.store import Store

GRAPH = {"text.ort": b"text" * 100, "flow.ort": b"flow" * 100, "recipe.json": b"{}"}

WRITER = """
import itertools, sys
from pathlib import Path
import numpy as np
from greenroom.adapters.piper.prepared.store.store import Store

store, source = Store(Path(sys.argv[1]), "runtime"), Path(sys.argv[2])
graph = {"text.ort": b"text" * 100, "flow.ort": b"flow" * 100, "recipe.json": b"{}"}

def weights():
    for number in range(8):
        yield f"w{number}", np.full((1000, number + 1), number, np.float32)
        if number == 4:
            print("writing", flush=True)
            sys.stdin.readline()
"""
PUT = "print(store.put(source, store.snapshot(source), graph, weights(), {'gain': 1.5}).weights)"


def arrays(seed: int = 0, rows: int = 50) -> dict[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    shapes: list[tuple[int, ...]] = [(rows, 3), (7,), (), (2, 3, 5), (1,)]
    return {f"w{n}": random.random(shape, np.float32) for n, shape in enumerate(shapes)}


def read(files: PreparedFiles) -> dict[str, npt.NDArray[np.float32]]:
    mapped = np.memmap(files.weights, np.uint8, "r")
    return {
        tensor.name: np.frombuffer(
            mapped, np.float32, int(np.prod(tensor.shape)), tensor.offset
        ).reshape(tensor.shape)
        for tensor in files.tensors
    }


def put(store: Store, source: Path, seed: int = 0, **facts: Any) -> PreparedFiles:
    return store.put(source, store.snapshot(source), GRAPH, arrays(seed).items(), facts)


def files_in(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.name != ".lock"
    )


def alter(path: Path, at: int = 0) -> None:
    """Change one byte in place, and make sure that the clock's tick does not hide it."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    touch(path)


def touch(path: Path) -> None:
    later = path.stat().st_mtime_ns + 5_000_000_000
    os.utime(path, ns=(later, later))


def age(root: Path, files: PreparedFiles, hours: float) -> None:
    """Make a voice look as if it was last used that long ago."""
    for path in (root / "voices").iterdir():
        if json.loads(path.read_text())["weights"] == files.weights.stem:
            then = time.time() - hours * 3600
            os.utime(path, (then, then))


def index_in(root: Path) -> Path:
    (path,) = (root / "voices").glob("*.json")
    return path


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def writer(root: Path, source: Path, then: str = PUT) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER + then, str(root), str(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "prepared"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root, "runtime")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "voice.onnx"
    path.write_bytes(b"voice" * 1000)
    return path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.onnx"
    path.write_bytes(b"other" * 1000)
    return path


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start as a new process does, which knows only what is on the disk."""
    monkeypatch.setattr(identity, "_learned", {})
    monkeypatch.setattr(verify, "_verified", {})


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What is warned of, in a list that the test may look at while it goes on."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                said.append(record.getMessage())

    listener = Listener()
    logging.getLogger("greenroom.adapters.piper.prepared").addHandler(listener)
    yield said
    logging.getLogger("greenroom.adapters.piper.prepared").removeHandler(listener)


# Put and found


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


# The source


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


# Files that are not what they should be


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


# The directory


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


# Several processes


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


# Bounded


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
