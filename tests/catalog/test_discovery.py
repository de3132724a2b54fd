"""One odd pack, file or package is named and left out; the others are served."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from greenroom import ConfigError
from greenroom.adapter import LeftOut, ModelSpec
from greenroom.adapters import voice_files
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.catalog import catalog as catalog_module
from greenroom.catalog import discovery, registry
from greenroom.catalog.catalog import Catalog
from greenroom.cli import main
from greenroom.config.schema import load_config
from greenroom.config.sources import read_mapping


def put_pack(root: Path, name: str | bytes, metadata: str | bytes | None = None) -> Path:
    pack = Path(os.fsdecode(os.path.join(os.fsencode(root / "piper"), os.fsencode(name))))
    pack.mkdir(parents=True)
    (pack / "model.onnx").write_bytes(b"")
    (pack / "model.onnx.json").write_text("{}")
    if metadata is not None:
        content = metadata if isinstance(metadata, bytes) else metadata.encode()
        (pack / "metadata.yaml").write_bytes(content)
    return pack


def put_loose(root: Path, name: str) -> Path:
    (root / f"{name}.onnx").write_bytes(b"")
    (root / f"{name}.onnx.json").write_text("{}")
    return root / f"{name}.onnx"


def found(root: Path) -> tuple[list[str], tuple[str, ...]]:
    """Return the ids that are served and what is left out."""
    catalog = Catalog.discover(root, adapters=[PiperTTSAdapter])
    return [spec.model_id for spec in catalog], catalog.problems


def only_problem(root: Path) -> str:
    put_pack(root, "good")
    ids, problems = found(root)
    assert ids == ["piper-good"]
    (problem,) = problems
    assert problem.isprintable()
    assert len(problem) < 1_000
    return problem


BOMB = "a: &a [x]\n" + "".join(
    f"b{n}: &b{n} [{', '.join([f'*b{n - 1}' if n else '*a'] * 9)}]\n" for n in range(12)
)


@pytest.mark.parametrize(
    ("metadata", "line", "words"),
    [
        ("languages: [en]\n\nreleased: 2024-01-01\n", 3, "released: is not a key"),
        ("footprint_mb: 2024-01-01\n", 1, "must be a valid number"),
        ("2024-01-01: x\n", 1, "is not a key"),
        ("tags:\n- " + "[" * 5_000, 2, "inside each other"),
        ("tags: " + "[" * 5_000 + "]" * 5_000, 1, "inside each other"),
        (BOMB, 5, "more than 5,000 values"),
        ("footprint_mb: " + "9" * 5_000, 1, "too large"),
        ("ttl_ms: 1\nfootprint_mb: 1.0e+300\n", 2, "less than or equal"),
        ("footprint_mb: .inf", 1, "finite"),
        ("footprint_mb: .nan", 1, "finite"),
        ("ttl_ms: 9000000000000000000", 1, "less than or equal"),
        ("ttl_ms: -9000000000000000000", 1, "greater than or equal"),
        ("options:\n  speed: .nan\n", 1, "finite"),
        ("options: {speed: 1}\ntags: [a]\ntags: [b]", 3, "twice"),
        ("- a\n- b", None, "must be a mapping"),
        ("just text", None, "must be a mapping"),
        (b"\xff\xfe\x00", None, "UTF-8"),
        (b"\x7fELF\x02\x01\x01\x00", 1, "is not YAML"),
        (b"tags: [a]\nx: \x00", 2, "is not YAML"),
        ("tags: ['\x1b[2J']", 1, "is not YAML"),
        ('tags:\n- warm\n- "\\e[2J"\n', 3, "must be printable"),
        ('languages: ["en\\u202Enp"]', 1, "must be printable"),
        ('aliases: [fine, "a\\nb"]', 1, "printable and without spaces"),
        ('aliases: ["\\u200Bjoe"]', 1, "printable and without spaces"),
        ('tags: ["' + "x" * 300 + '"]', 1, "at most 200 characters"),
        ("tags: [" + ", ".join("x" * 101) + "]", 1, "at most 100 items"),
        ("? [a]\n: b", 1, "a key must be text"),
        ("!!python/object/apply:os.system ['true']", 1, "the tag !!python"),
        ("tags: !!binary aGk=", 1, "the tag !!binary"),
    ],
)
def test_bad_metadata_is_named_with_file_line_and_reason(
    tmp_path: Path, metadata: str | bytes, line: int | None, words: str
) -> None:
    pack = put_pack(tmp_path, "bad", metadata)
    problem = only_problem(tmp_path)
    where = "" if line is None else f"line {line}: "
    assert problem.startswith(f"{pack}/metadata.yaml is left out: {where}")
    assert words in problem


def test_a_date_where_text_may_be_is_text(tmp_path: Path) -> None:
    put_pack(tmp_path, "dated", "tags: [2024-01-01, 2024-13-45]\naliases: [2024-01-01]\n")
    spec = Catalog.discover(tmp_path, adapters=[PiperTTSAdapter]).get("2024-01-01")
    assert spec.tags == ("2024-01-01", "2024-13-45")


def test_metadata_of_100_mb_is_not_read(tmp_path: Path) -> None:
    pack = put_pack(tmp_path, "large")
    with (pack / "metadata.yaml").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    assert "is larger than 64 KiB" in only_problem(tmp_path)


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def a_broken_link(path: Path) -> None:
    path.symlink_to(path.with_name("nothing here"))


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        place = os.open(path.parent, os.O_RDONLY)
        try:
            made.bind(f"/proc/self/fd/{place}/{path.name}")
        finally:
            os.close(place)


Maker = Callable[[Path], None]


@pytest.mark.parametrize("make", [a_fifo, a_folder, a_device, a_loop, a_broken_link, a_socket])
@pytest.mark.parametrize("name", ["metadata.yaml", "model.onnx", "model.onnx.json"])
def test_what_is_no_regular_file_is_named_and_never_opened(
    tmp_path: Path, make: Maker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = put_pack(tmp_path, "odd")
    (pack / name).unlink(missing_ok=True)
    make(pack / name)
    opened: list[Any] = []
    monkeypatch.setattr(os, "open", lambda *given: opened.append(given))
    if (make, name) == (a_folder, "model.onnx"):
        assert found(tmp_path) == ([], ()), "a folder is looked into, whatever its name"
        return
    problem = only_problem(tmp_path)
    assert f"{name} is left out: " in problem
    assert opened == []


@pytest.mark.parametrize("make", [a_fifo, a_device, a_loop, a_broken_link])
@pytest.mark.parametrize("end", [".onnx", ".onnx.json"])
def test_a_loose_voice_that_is_no_regular_file_is_named(
    tmp_path: Path, make: Maker, end: str
) -> None:
    model = put_loose(tmp_path, "en_US-odd-low")
    path = model.with_name(f"en_US-odd-low{end}")
    path.unlink()
    make(path)
    assert f"en_US-odd-low{end} is left out: " in only_problem(tmp_path)


def test_a_file_that_became_a_pipe_while_it_was_opened_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("a: 1")
    regular = os.stat(file)
    file.unlink()
    os.mkfifo(file)
    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", lambda path: regular)
        with pytest.raises(ConfigError, match="is no regular file"):
            read_mapping(file, voice_files._LIMITS)


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_pack(tmp_path, "closed")
    scandir = os.scandir

    def refusing(path: Path) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert "closed is left out: cannot be read: Permission denied" in only_problem(tmp_path)


def test_a_voice_directory_that_no_system_can_have_is_named(tmp_path: Path) -> None:
    put_pack(tmp_path, "good")
    catalog = Catalog.discover(tmp_path, Path("a\0b"), adapters=[PiperTTSAdapter])
    assert "piper-good" in catalog
    assert "null byte" in catalog.problems[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"caf\xe9", "its id is no UTF-8 (piper-caf\\udce9)"),
        ("a\x1b[2Jb", "characters that cannot be shown (piper-a\\x1b[2jb)"),
        ("a\nb", "characters that cannot be shown (piper-a\\nb)"),
        ("a\u202eb", "characters that cannot be shown (piper-a\\u202eb)"),
        ("a\x9bb", "characters that cannot be shown (piper-a\\x9bb)"),
        ("x" * 220, "its id is longer than 200 characters"),
    ],
)
def test_a_name_that_cannot_be_shown_is_left_out(
    tmp_path: Path, name: str | bytes, words: str
) -> None:
    put_pack(tmp_path, name)
    assert words in only_problem(tmp_path)


def test_a_file_whose_name_is_no_utf_8_is_left_out(tmp_path: Path) -> None:
    put_loose(tmp_path, os.fsdecode(b"en_US-caf\xe9-low"))
    assert "is no UTF-8" in only_problem(tmp_path)


def test_a_folder_above_that_is_no_utf_8_is_left_out(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"\xff")
    place.mkdir()
    put_loose(place, "en_US-joe-low")
    assert "its path is no UTF-8; rename" in only_problem(tmp_path)


def test_the_metadata_of_a_pack_is_read_once_for_all_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = put_pack(tmp_path, "many", "tags: [a]")
    for number in range(5):
        (pack / f"more-{number}.onnx").write_bytes(b"")
    read: list[Path] = []

    def counted(path: Path, limits: Any) -> Any:
        read.append(path)
        return read_mapping(path, limits)

    monkeypatch.setattr(voice_files, "read_mapping", counted)
    assert found(tmp_path) == (["piper-many"], ())
    assert read == [pack / "metadata.yaml"]


def test_no_file_of_a_loose_voice_is_opened_or_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        put_loose(tmp_path, f"en_US-v{number}-low")

    def looked(path: Any, *_: Any, **__: Any) -> Any:
        raise AssertionError(f"looked at {path}")

    with monkeypatch.context() as patched:
        for name in ("stat", "lstat", "open"):
            patched.setattr(os, name, looked)
        assert len(found(tmp_path)[0]) == 20


# Adapters that others wrote


class Odd(ToneTTSAdapter):
    """Finds whatever `finds` returns."""

    finds: Callable[[], Any] = staticmethod(list)

    @classmethod
    def discover(cls, directories: Any) -> Iterable[Any]:
        return cls.finds()  # type: ignore[no-any-return]


@pytest.fixture
def beside_tone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], Catalog]]:
    """Return the catalog of `Odd` and of tones, with a registered door for both."""
    points = [
        EntryPoint("odd", f"{__name__}:Odd", registry.GROUP),
        EntryPoint("tone", "greenroom.adapters.tone:ToneTTSAdapter", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints(points))
    registry.refresh()
    registry._classes["odd"] = Odd

    def catalog(finds: Any) -> Catalog:
        monkeypatch.setattr(Odd, "finds", staticmethod(finds))
        return Catalog.discover()

    yield catalog
    registry.refresh()


def raising(error: BaseException) -> Callable[[], Any]:
    def finds() -> Any:
        raise error

    return finds


def raising_later(error: BaseException) -> Callable[[], Any]:
    def finds() -> Any:
        yield ModelSpec("odd-one", "odd")
        raise error

    return finds


class UnsayableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


ERRORS = [
    OSError("no GPU"),
    SystemExit(1),
    RecursionError(),
    UnsayableError(),
    MemoryError(),
    StopIteration(),
    GeneratorExit(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_discovery_that_raises_hides_no_other_adapter(
    beside_tone: Callable[[Any], Catalog], error: BaseException
) -> None:
    catalog = beside_tone(raising(error))
    assert "tone-440" in catalog
    assert [each for each in catalog.problems if type(error).__name__ in each]


def test_what_was_found_before_a_discovery_failed_is_served(
    beside_tone: Callable[[Any], Catalog],
) -> None:
    catalog = beside_tone(raising_later(OSError("gone")))
    assert {"odd-one", "tone-440"} <= {spec.model_id for spec in catalog}
    assert catalog.problems == ("what adapter Odd finds is left out: OSError: gone.",)


def test_a_discovery_without_end_is_cut_off(
    beside_tone: Callable[[Any], Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "MOST_MODELS", 50)
    catalog = beside_tone(lambda: (ModelSpec(f"odd-{n}", "odd") for n in iter(int, 1)))
    assert "odd-0" in catalog
    assert "tone-440" in catalog


def spec(**given: Any) -> ModelSpec:
    return ModelSpec(**({"model_id": "odd-one", "adapter": "odd"} | given))


@pytest.mark.parametrize(
    "rubbish",
    [
        None,
        7,
        "tone-1",
        {"model_id": "x"},
        ModelSpec,
        spec(model_id=7),
        spec(model_id=""),
        spec(model_id="a\x1b]0;title\x07"),
        spec(model_id="\udc80"),
        spec(model_id="x" * 201),
        spec(model_id=["unhashable"]),
        spec(adapter="nobody"),
        spec(adapter=7),
        spec(path=7),
        spec(path=b"/a"),
        spec(path="a\0b"),
        spec(path="\udc80"),
        spec(device=None),
        spec(device="cuda\x1b"),
        spec(languages="en"),
        spec(languages=(1,)),
        spec(languages=("en\x07",)),
        spec(tags=None),
        spec(tags=("\u202e",)),
        spec(aliases=({},)),
        spec(aliases=("",)),
        spec(options=[("a", 1)]),
        spec(options={1: 2}),
        spec(options={"nonsense": 2}),
        spec(footprint_mb=float("nan")),
        spec(footprint_mb=float("inf")),
        spec(footprint_mb=-1),
        spec(footprint_mb="much"),
        spec(footprint_mb=10**400),
        spec(footprint_mb=True),
        spec(ttl_ms=float("nan")),
        spec(ttl_ms="soon"),
        spec(ttl_ms=10**400),
    ],
    ids=lambda each: str(each)[:60].encode("ascii", "backslashreplace").decode(),
)
def test_what_is_no_model_is_left_out_and_the_others_are_served(
    beside_tone: Callable[[Any], Catalog], rubbish: Any
) -> None:
    catalog = beside_tone(lambda: [rubbish, ModelSpec("odd-good", "odd")])
    assert "odd-good" in catalog
    assert "tone-440" in catalog
    assert len(catalog) == 9
    (problem,) = catalog.problems
    assert problem.isprintable()
    assert "is left out: " in problem


@pytest.mark.parametrize("rubbish", [7, None, object()], ids=["number", "none", "object"])
def test_a_discovery_that_returns_no_list_hides_no_other_adapter(
    beside_tone: Callable[[Any], Catalog], rubbish: Any
) -> None:
    catalog = beside_tone(lambda: rubbish)
    assert "tone-440" in catalog
    assert "TypeError" in catalog.problems[0]


def test_of_two_models_of_one_id_from_one_adapter_the_first_counts(
    beside_tone: Callable[[Any], Catalog],
) -> None:
    catalog = beside_tone(lambda: [spec(tags=("first",)), spec(tags=("second",)), spec()])
    assert catalog.get("odd-one").tags == ("first",)
    assert catalog.problems == ()


def test_lists_in_a_model_become_tuples(beside_tone: Callable[[Any], Catalog]) -> None:
    made = beside_tone(lambda: [spec(tags=["a"], aliases=["b"])]).get("b")
    assert (made.tags, made.aliases) == (("a",), ("b",))


def test_options_that_an_adapter_fails_to_check_end_only_that_model(
    beside_tone: Callable[[Any], Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(options: Any) -> None:
        if options:
            raise ZeroDivisionError

    monkeypatch.setattr(Odd, "check_options", check)
    catalog = beside_tone(lambda: [spec(options={"speed": 1}), spec(model_id="odd-two")])
    assert "odd-two" in catalog
    assert catalog.problems == (
        "odd-one is left out: its options cannot be checked: ZeroDivisionError.",
    )


def test_an_adapter_may_say_itself_what_it_leaves_out(
    beside_tone: Callable[[Any], Catalog],
) -> None:
    catalog = beside_tone(lambda: [LeftOut("/a/b", "line 3: is odd; mend it")])
    assert catalog.problems == ("/a/b is left out: line 3: is odd; mend it.",)


# Who is told


def test_each_thing_that_is_left_out_is_one_line_and_the_lines_are_bounded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(30):
        put_pack(tmp_path, f"bad-{number}", "a: [")
    assert len(found(tmp_path)[1]) == 30
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == catalog_module._MAX_LOG_LINES + 1
    assert told[-1] == "10 more are left out; `greenroom config check` names them."


@pytest.fixture
def odd_place(tmp_path: Path) -> Path:
    """A configuration whose voices are one that is good, and odd ones of every kind."""
    voices = tmp_path / "voices"
    put_pack(voices, "good")
    put_pack(voices, "dated", "footprint_mb: 2024-01-01")
    put_pack(voices, "deep", "tags: " + "[" * 5_000)
    put_pack(voices, "bomb", BOMB)
    put_pack(voices, b"caf\xe9")
    put_pack(voices, "esc\x1b[2J\x9b31m")
    os.mkfifo(put_pack(voices, "pipe") / "metadata.yaml")
    (voices / "fifo").mkdir()
    os.mkfifo(voices / "fifo" / "en_US-fifo-low.onnx")
    (voices / "fifo" / "en_US-fifo-low.onnx.json").write_text("{}")
    file = tmp_path / "worker.yaml"
    file.write_text(
        "voices: {directories: [voices], packages: []}\n"
        "model_manager: {default_model_id: tone-440}\n"
    )
    return file


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_ls_lists_the_others(
    odd_place: Path, capfd: pytest.CaptureFixture[str], more: list[str]
) -> None:
    assert main(["ls", "--config", str(odd_place), *more]) == 0
    out, err = capfd.readouterr()
    assert "piper-good" in out
    for text in (out, err):
        assert all(line.isprintable() for line in text.splitlines())
    assert len(err.splitlines()) == 7
    assert "fault of greenroom" not in err


def test_config_check_reports_each_as_a_problem(
    odd_place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "check", str(odd_place), "--json"]) == 1
    problems = json.loads(capfd.readouterr().out)["problems"]
    left_out = [each for each in problems if "is left out: " in each]
    assert len(left_out) == 7
    assert all(each.startswith(f"{odd_place}: ") for each in left_out)


def test_a_variant_costs_no_new_index_of_the_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [{"model_id": f"v{n}", "variant_of": f"tone-{440}"} for n in range(50)]
    config = load_config(overrides={"models": models, "voices": {"packages": []}})
    made: list[object] = []
    build = Catalog.__init__

    def counted(self: Catalog, *given: Any, **named: Any) -> None:
        made.append(self)
        build(self, *given, **named)

    monkeypatch.setattr(Catalog, "__init__", counted)
    assert "v49" in Catalog.from_config(config)
    assert len(made) == 1


@pytest.mark.parametrize("raised", [SystemExit, GeneratorExit])
def test_a_check_of_options_that_would_end_the_process_ends_its_model_only(
    beside_tone: Callable[[Any], Catalog],
    monkeypatch: pytest.MonkeyPatch,
    raised: type[BaseException],
) -> None:
    def check(options: object) -> None:
        raise raised

    monkeypatch.setattr(Odd, "check_options", check)
    catalog = beside_tone(lambda: [ModelSpec("odd-one", "odd")])
    assert "odd-one" not in catalog
    assert "tone-440" in catalog
