"""Every benchmark runs and gives figures; no time is asserted."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from statistics import median

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.audience import when_again
from benchmarks.crowd import Rules
from benchmarks.figures import SMOKE, Effort, Figure, shown
from benchmarks.listener import Heard
from benchmarks.registry import BENCHMARKS, measure
from greenroom import ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from tests.piper.real_voice import PATIENT

SLOW = (
    *("arrival", "callers", "capacity", "cluster", "decision", "growth", "held", "http"),
    *("isolation", "ready", "servers", "simulation", "speech", "stall"),
)
"""They start servers, load the real voice many times, or have many callers; `.ci/run` runs some."""


@pytest.fixture(scope="module")
def voices_of_all(tmp_path_factory: pytest.TempPathFactory, prepared_cache: Path) -> Path:
    """A cache for voices that several benchmarks prepare; the real one is there already."""
    cache = tmp_path_factory.mktemp("voices")
    shutil.copytree(prepared_cache / "prepared", cache / "prepared")
    return cache


@pytest.fixture
def _one_cache(voices_of_all: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_CACHE_DIR", str(voices_of_all))
    monkeypatch.setenv("GREENROOM_PREPARE", "on")


@PATIENT
@pytest.mark.bench
@pytest.mark.filterwarnings("ignore:'audioop' is deprecated")  # by wyoming
@pytest.mark.usefixtures("_one_cache")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow, pytest.mark.timeout(180)])
        if name in SLOW
        else name
        for name in BENCHMARKS
    ],
)
def test_every_benchmark_gives_finite_figures(name: str) -> None:
    figures = measure(name, SMOKE)
    assert figures
    for figure in figures:
        assert figure.ours, figure.name
        assert all(map(math.isfinite, (*figure.ours, *figure.theirs))), figure.name


def test_a_crowd_breaks_no_rule() -> None:
    held = {figure.name: figure.holds for figure in measure("crowd", Effort(1, 0.02))}
    assert False not in held.values()


def test_a_crowd_notices_every_broken_rule() -> None:
    rules = Rules(cap=1)
    first, again = (ToneTTSAdapter(ModelSpec("one", "tone")) for _ in range(2))
    other = ToneTTSAdapter(ModelSpec("two", "tone"))
    rules.enters(first)
    rules.taken("one", first)
    assert not +rules.broken
    rules.enters(other)
    rules.enters(again)
    rules.taken("one", first)
    rules.leaves(again)
    rules.left(again)
    rules.left(again)
    assert set(+rules.broken) == {
        "more residents than the cap",
        "two instances of one model",
        "handed out what is not loaded",
        "unloaded under a reference",
        "unloaded twice",
    }


def test_a_refusal_is_typed_only_if_it_says_what_is_wrong_and_when_to_come_back() -> None:
    body = b'{"error": {"message": "no room", "type": "server_error", "param": null, "code": "no"}}'

    def again(status: int, body: bytes, **headers: str) -> float | None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return when_again(Heard(status, named, (body,), (0.0,)))

    assert again(503, body, retry_after="2") == 2.0
    assert again(429, body, retry_after="2", retry_after_ms="1500") == 1.5
    assert again(503, body) is None
    assert again(500, body, retry_after="2") is None
    assert again(503, body.replace(b"no room", b""), retry_after="2") is None
    assert again(503, b'{"detail": "no room"}', retry_after="2") is None


def test_a_bound_is_about_the_median_or_about_the_median_ratio() -> None:
    ours, theirs = (1.0, 9.0, 2.0), (1.0, 3.0, 4.0)
    assert Figure("f", ours, at_most=2.0).holds
    assert Figure("f", ours, at_most=1.9).holds is False
    ratio = Figure("f", ours, "s", "peer", theirs, at_most=1.0, bounds="ratio")
    assert ratio.ratio == median([1.0, 3.0, 0.5])
    assert ratio.holds
    assert Figure("f", ours).holds is None
    assert Figure("f", (math.nan,), at_most=1.0).holds is False


def test_values_are_shown_with_their_unit_and_spread() -> None:
    assert shown((0.0012,), "s") == "1.2 ms"
    assert shown((620e-9,), "s") == "620 ns"
    assert shown((-1.25,), "MB") == "-1.2 MB"
    assert shown((3.0,), "") == "3"
    assert shown((1.0, 1.0, 1.0, 1.0), "s") == "1 s ±0%"


def test_a_missed_bound_fails_the_command_and_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = [Figure("slow", (2.0,), at_most=1.0), Figure("quick", (1.0,), at_most=1.0)]
    monkeypatch.setattr(command, "prepare_real_voice", lambda: None)
    monkeypatch.setattr(command, "measure_apart", lambda name, effort: figures)
    assert command.main(["hit"]) == 1
    printed = capsys.readouterr()
    assert "| slow |" in printed.out
    assert printed.err.strip().endswith("missed its bound: slow")
    monkeypatch.setattr(command, "measure_apart", lambda name, effort: figures[1:])
    assert command.main(["hit"]) == 0


def test_a_small_ratio_keeps_its_digits() -> None:
    ratios = [Figure("f", (ours,), "s", "peer", (1.0,)) for ours in (0.0085, 1.234)]
    page = report.markdown({"one thing": ratios}, [])
    assert "| 0.009 |" in page
    assert "| 1.23 |" in page


def test_both_reports_show_every_figure() -> None:
    sections = {"one thing": [Figure("a figure", (1.0,), at_most=2.0, note="a note")]}
    assert "| a figure (a note) |  |  | 1 s |  | 2 s | yes |" in report.markdown(sections, [])
    assert report.table(sections).row_count == 2


def test_a_page_is_updated_in_the_sections_that_are_fresh_and_nowhere_else() -> None:
    def figures(value: float) -> list[Figure]:
        return [Figure("a figure", (value,))]

    page = report.markdown({"one": figures(1.0), "two": figures(2.0)}, ["- yesterday"])
    fresh = report.markdown({"two": figures(3.0), "three": figures(4.0)}, ["- today"])
    updated = report.updated(page, fresh, ["- today"])
    one, two, three = updated.split("\n\n## ")[1:]
    assert updated.startswith(page.split("\n\n## ")[0])
    assert one == page.split("\n\n## ")[1]
    assert two.startswith("Two\n\n- today\n")
    assert "| 3 s |" in two
    assert "| 2 s |" not in updated
    assert "| 4 s |" in three
    assert report.updated(updated, fresh, ["- today"]) == updated


def test_a_heading_keeps_capitals() -> None:
    assert "## Speech over HTTP\n" in report.markdown({"speech over HTTP": []}, [])
