"""The tour of the code: what it names exists, and is called in the order in which it is named."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from greenroom import Catalog, ModelManager
from greenroom.testing import Stage, VirtualTimeLoop
from tests.project.call_recorder import PACKAGE, CallRecorder
from tests.waiting import until
from tests.worker.http.http_client import running_http_worker

TOUR = Path(__file__).parents[2] / "docs" / "tour.md"
STEP = re.compile(r"^\d+\. \[`[^`]+`\]\(\.\./src/greenroom/([^)]+)\) `([\w.]+)`", re.MULTILINE)

MENTION = re.compile(r"\]\(\.\./src/greenroom/([^)]+)\) `([\w.]+)`")
METHOD = re.compile(r"`(_?[A-Z]\w+\.\w+)`")

Step = tuple[str, str]


def walks() -> dict[str, list[Step]]:
    """Return the steps of each walk, by its heading: a file and the name of a function in it."""
    parts = re.split(r"^## (.+)$", TOUR.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {name: STEP.findall(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    return {name: steps for name, steps in found.items() if steps}


def names_in(file: Path) -> set[str]:
    """Return the qualified name of every class, function and constant of a file."""

    def below(node: ast.AST, prefix: str) -> set[str]:
        found: set[str] = set()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = prefix + child.name
                found |= {name} | below(child, f"{name}.")
            elif isinstance(child, ast.Assign | ast.AnnAssign):
                targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                found |= {prefix + each.id for each in targets if isinstance(each, ast.Name)}
            else:
                found |= below(child, prefix)
        return found

    return below(ast.parse(file.read_text(encoding="utf-8")), "")


def first_step_not_called(steps: list[Step], calls: list[Step]) -> Step | None:
    """Return the first step that was not called after the steps before it."""
    rest = iter(calls)
    return next((step for step in steps if step not in rest), None)


def test_there_are_three_walks_of_some_length() -> None:
    assert list(walks()) == ["A cold load", "A speech over HTTP", "An expiry"]
    assert all(len(steps) >= 8 for steps in walks().values())


@pytest.mark.parametrize("mention", sorted(set(MENTION.findall(TOUR.read_text("utf-8")))))
def test_what_the_tour_names_is_where_it_says(mention: Step) -> None:
    file, name = mention
    assert name in names_in(PACKAGE / file)


def test_what_the_tour_names_by_the_way_exists() -> None:
    there = {name for file in PACKAGE.rglob("*.py") for name in names_in(file)}
    assert set(METHOD.findall(TOUR.read_text(encoding="utf-8"))) <= there


def test_a_step_that_is_not_called_in_its_place_is_found() -> None:
    calls = [("a.py", "one"), ("a.py", "two"), ("b.py", "three")]
    assert first_step_not_called([calls[0], calls[2]], calls) is None
    assert first_step_not_called([calls[2], calls[0]], calls) == calls[0]
    assert first_step_not_called([("b.py", "two")], calls) == ("b.py", "two")


@pytest.fixture
def tones() -> Catalog:
    return Catalog.discover("", adapters=["tone"])


async def test_a_cold_load_goes_as_the_tour_says(tones: Catalog) -> None:
    with CallRecorder() as recorder:
        manager = ModelManager(catalog=tones, default_model_id="tone-440")
        async with manager:
            recorder.forget()
            await manager.load("tone-220")
            calls = list(recorder.calls)
            await manager.release("tone-220")
    assert first_step_not_called(walks()["A cold load"], calls) is None


async def test_a_speech_over_http_goes_as_the_tour_says(tones: Catalog) -> None:
    # So long that the engine rests until the first audio has been sent.
    text = "Good evening. " * 12
    body = {"model": "tone-220", "voice": "tone-220", "input": text, "speed": 1.0}
    steps = walks()["A speech over HTTP"]
    with CallRecorder() as recorder:
        manager = ModelManager(catalog=tones, default_model_id="tone-440")
        async with running_http_worker(manager) as web:
            recorder.forget()
            answer = await web.post("/v1/audio/speech", body)
            # The client has the whole answer before the worker has put everything back.
            await until(lambda: steps[-1] in recorder.calls)
            calls = list(recorder.calls)
    assert answer.status_code == 200
    assert answer.content
    assert first_step_not_called(steps, calls) is None


@pytest.mark.virtual_time
async def test_an_expiry_goes_as_the_tour_says(stage: Stage, clock: VirtualTimeLoop) -> None:
    stage.open_all()
    with CallRecorder() as recorder:
        manager = ModelManager(
            catalog=stage.catalog, default_model_id="a", ttl_ms=1_000, min_residency_ms=0
        )
        async with manager:
            await manager.load("b")
            await manager.release("b")
            recorder.forget()
            await clock.advance(1.5)
            calls = list(recorder.calls)
            assert [r.model_id for r in manager.list_resident()] == ["a"]
    assert first_step_not_called(walks()["An expiry"], calls) is None
