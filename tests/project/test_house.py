"""The plan of the house: what a stranger who looks for something may rely on."""

from __future__ import annotations

import io
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "greenroom"

MOST_ENTRIES = 26
MOST_LAYERS = 16
MOST_GERUNDS = 5
FEWEST_COMMENTS = 0.08

SHARED_NAMES = {"__init__", "app", "auth", "errors", "health"}
"""File names of several rooms, each of which is what its name says."""

NO_GERUNDS = {"string", "ring"}


def modules() -> list[Path]:
    """Return every file of the package that a person wrote."""
    return [path for path in PACKAGE.rglob("*.py") if path.parent.name != "v1"]


def circle(graph: Mapping[str, Set[str]]) -> list[str]:
    """Return modules that import each other in a circle, if there are any."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def comment_share(paths: Iterable[Path]) -> float:
    """Return the share of the lines that have a comment, `0.1` for a tenth."""
    comments = lines = 0
    for path in paths:
        text = path.read_text(encoding="utf-8")
        lines += len(text.splitlines())
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        said = [t.string for t in tokens if t.type == tokenize.COMMENT]
        comments += sum("noqa" not in each and "type:" not in each for each in said)
    return comments / lines


def test_the_package_has_few_entries() -> None:
    entries = {p.name for p in PACKAGE.iterdir()} - {"__pycache__", "py.typed"}
    assert len(entries) <= MOST_ENTRIES, sorted(entries)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("greenroom", exclude_type_checking_imports=False, cache_dir=None)
    imports = {each: graph.find_modules_directly_imported_by(each) for each in graph.modules}
    assert sum(map(len, imports.values())) > 500
    assert circle(imports) == []


def test_a_circle_is_found() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


def test_the_layers_are_few_and_name_every_entry() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    checker = project["tool"]["importlinter"]
    layers = next(c for c in checker["contracts"] if c["type"] == "layers")["layers"]
    assert len(layers) <= MOST_LAYERS
    assert not checker.get("exclude_type_checking_imports", False)
    named = {part.strip() for layer in layers for part in layer.split("|")}
    there = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert named == there - {"__init__"}


def test_a_file_name_is_in_one_place() -> None:
    names = Counter(path.stem for path in modules())
    assert {name for name, count in names.items() if count > 1} <= SHARED_NAMES


def test_files_are_named_for_things() -> None:
    gerunds = {path.stem for path in modules() if path.stem.endswith("ing")} - NO_GERUNDS
    assert len(gerunds) <= MOST_GERUNDS, sorted(gerunds)


@pytest.mark.parametrize("place", ["ledger", "effects/effects.py"])
def test_what_decides_and_what_acts_give_their_reasons(place: str) -> None:
    path = PACKAGE / place
    share = comment_share(path.rglob("*.py") if path.is_dir() else [path])
    assert share >= FEWEST_COMMENTS, f"{share:.1%}"


def test_each_room_of_the_package_has_its_tests() -> None:
    rooms = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()} - {"v1"}
    tested = {p.name for p in (ROOT / "tests").iterdir()}
    if "manager" in tested:  # what acts is tested through the manager that it acts for
        tested.add("effects")
    assert rooms <= tested, sorted(rooms - tested)
