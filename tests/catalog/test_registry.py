"""Adapters are found by name: metadata is read once, and what others wrote may be broken."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from greenroom.adapter import ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.catalog import registry
from greenroom.catalog.discovery import discover_models
from greenroom.concurrency.time_limit import within
from greenroom.effects.loader import LoadAttempt
from greenroom.errors import ConfigError
from greenroom.testing import Stage

TONE = "greenroom.adapters.tone:ToneTTSAdapter"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    registry.refresh()
    yield
    registry.refresh()


Install = Callable[..., list[str]]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Register these adapters and no others; returns a list that grows with each reading."""

    def install(**values: str) -> list[str]:
        points = [EntryPoint(name, value, registry.GROUP) for name, value in values.items()]
        readings: list[str] = []

        def read(group: str) -> EntryPoints:
            readings.append(group)
            return EntryPoints(points)

        monkeypatch.setattr(registry, "entry_points", read)
        return readings

    return install


def test_metadata_of_packages_is_read_once_for_any_number_of_models(install: Install) -> None:
    readings = install(tone=TONE)
    for _ in range(100):
        assert registry.resolve("tone") is ToneTTSAdapter
        assert registry.names() == ("tone",)
    assert readings == [registry.GROUP]


def test_a_load_reads_no_metadata_of_packages(install: Install) -> None:
    readings = install(tone=TONE)
    registry.resolve("tone")
    readings.clear()
    for number in range(3):
        LoadAttempt(ModelSpec(f"tone-{number}", "tone"), "").load()
    assert readings == []


def test_what_was_installed_meanwhile_is_found_after_a_refresh(install: Install) -> None:
    install(tone=TONE)
    assert registry.names() == ("tone",)
    install(tone=TONE, other=TONE)
    assert registry.names() == ("tone",)
    registry.refresh()
    assert registry.names() == ("other", "tone")


@pytest.mark.parametrize(
    "code",
    [
        "raise OSError('libcudart.so.12: cannot open shared object file')",
        "raise SystemExit(3)",
        "import no_such_module_here",
        "1 / 0",
        "def (",
        "raise RecursionError",
        "class Odd(Exception):\n    def __str__(self):\n        1 / 0\nraise Odd",
        "raise BaseExceptionGroup('', [SystemExit()])",
        "raise GeneratorExit",
    ],
)
def test_an_adapter_whose_import_raises_anything_is_a_configuration_error(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    (tmp_path / "odd_adapter.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "odd_adapter", raising=False)
    install(odd="odd_adapter:Adapter", tone=TONE)
    with pytest.raises(ConfigError, match=r"adapter 'odd' cannot be imported: .*; install it"):
        registry.resolve("odd")
    assert registry.resolve("tone") is ToneTTSAdapter


def test_an_import_that_failed_is_tried_again(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "late_adapter.py"
    module.write_text("raise OSError('too many open files')")
    monkeypatch.syspath_prepend(tmp_path)
    install(late="late_adapter:ToneTTSAdapter")
    with pytest.raises(ConfigError, match="too many open files"):
        registry.resolve("late")
    module.write_text("from greenroom.adapters.tone import ToneTTSAdapter  # installed by now")
    assert registry.resolve("late") is ToneTTSAdapter
    sys.modules.pop("late_adapter")


@pytest.mark.parametrize("value", ["json:loads", "json:JSONDecoder", "json", "::", "", "json:no"])
def test_what_is_no_adapter_class_is_a_configuration_error(install: Install, value: str) -> None:
    install(odd=value)
    with pytest.raises(ConfigError, match="adapter 'odd'"):
        registry.resolve("odd")


def test_ctrl_c_during_an_import_is_not_an_import_that_failed(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_adapter.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(tmp_path)
    install(slow="slow_adapter:Adapter")
    with pytest.raises(KeyboardInterrupt):
        registry.resolve("slow")


def test_an_adapter_whose_import_never_ends_is_a_configuration_error_and_hides_no_other(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()
    monkeypatch.setattr(sys, "endless_import", end, raising=False)
    (tmp_path / "endless_adapter.py").write_text("import sys\nsys.endless_import.wait(30)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "LIMIT_S", 1.0)
    install(endless="endless_adapter:Adapter", tone=TONE)
    found = discover_models([], named=["tone-440"])
    end.set()
    assert [name for name in found.models if name.startswith("tone-")]
    (problem,) = found.problems
    assert "'endless' cannot be imported: " in problem
    assert "did not end within 1 s" in problem


def test_an_adapter_that_looks_for_models_without_an_end_is_left_out_with_what_it_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end = threading.Event()

    class Endless(ToneTTSAdapter):
        @classmethod
        def discover(cls, directories: Sequence[Path]) -> Iterator[ModelSpec]:
            yield ModelSpec("first", cls)
            end.wait(30)

    monkeypatch.setattr(registry, "LIMIT_S", 1.0)
    found = discover_models([], [Endless, ToneTTSAdapter])
    end.set()
    assert {"first", "tone-440"} <= set(found.models)
    (problem,) = found.problems
    assert "Endless finds is left out: " in problem
    assert "did not end within 1 s" in problem


def test_an_adapters_own_time_out_is_told_as_its_own() -> None:
    def call() -> None:
        raise TimeoutError("the licence server does not answer")

    with pytest.raises(TimeoutError, match="licence server"):
        within(30, call)


def test_a_package_whose_metadata_cannot_be_read_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "latin-1.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("Name: latin\nVersion: 1.0\n")
    (place / "entry_points.txt").write_bytes(b"[a]\nb=\xff\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert {"piper", "tone"} <= set(registry.names())
    (record,) = caplog.records
    assert "the metadata of latin cannot be read" in record.getMessage()


def test_an_unknown_name_is_shown_on_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        registry.resolve("\x1b[2J\n" + "x" * 10_000)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


class Unfit(Stage("a").adapter):  # type: ignore[misc]
    """Says how its models are prepared as a method, which the field's name invites."""

    @classmethod
    def preparation(cls, spec: object) -> list[str]:
        return ["true"]


def test_a_preparation_that_is_no_object_of_its_class_is_a_configuration_error(
    install: Install,
) -> None:
    install(unfit=f"{__name__}:Unfit")
    with pytest.raises(ConfigError, match="the `preparation` of adapter 'unfit' must be an object"):
        registry.resolve("unfit")


class Unlike(Stage("a").adapter):  # type: ignore[misc]
    """Names one module, not a tuple of them."""

    libraries = "numpy"


def test_libraries_that_are_no_tuple_are_a_configuration_error(install: Install) -> None:
    install(unlike=f"{__name__}:Unlike")
    with pytest.raises(ConfigError, match=r"must be a tuple .*, not 'numpy'\.$"):
        registry.resolve("unlike")
