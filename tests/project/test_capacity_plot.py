"""The plot of the benchmark `capacity`, and how plots come beside the figures."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import capacity_plot, plots
from benchmarks.figures import Figure
from benchmarks.ladder import Ladder, Step
from benchmarks.playback import Piece

from .test_capacity import run_of

SVG = "{http://www.w3.org/2000/svg}"


def ladder_of(name: str, *firsts: float) -> Ladder:
    """Return a ladder with these times to the first audio."""
    runs = [run_of([Piece(first, 1.0)], callers=2**number) for number, first in enumerate(firsts)]
    return Ladder(name, tuple(map(Step.of, runs)))


def test_the_plot_has_every_ladder_inside_its_frame() -> None:
    ours = [ladder_of(f"ours & {number}", 0.05, 0.1, 0.2) for number in range(4)]
    names = ("piper-tts behind FastAPI", "streaming-vits behind FastAPI", "wyoming-piper")
    peers = [ladder_of(name, 9.0) for name in names]
    root = ET.fromstring(capacity_plot.draw(ours, peers, 0.5))
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    texts = root.findall(f"{SVG}text")
    assert {each.name for each in (*ours, *peers)} <= {text.text for text in texts}
    for text in texts:
        length = 7.0 * len(text.text or "")
        shift = {"start": 0.0, "middle": 0.5, "end": 1.0}[text.attrib["text-anchor"]]
        left = float(text.attrib["x"]) - shift * length
        assert 0 <= left <= left + length <= width, text.text
        assert 13 <= float(text.attrib["y"]) <= height, text.text
    for circle in root.findall(f"{SVG}circle"):
        assert 0 < float(circle.attrib["cx"]) < width
        assert 0 < float(circle.attrib["cy"]) < height
    assert len(root.findall(f"{SVG}circle")) == 2 * (4 * 3 + 3)


def test_a_plot_is_written_beside_the_page_that_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(name: str, effort: object) -> list[Figure]:
        plots.keep(name, "<svg/>")
        return [Figure("a figure", (1.0,))]

    page = tmp_path / "RESULTS.md"
    monkeypatch.setattr(command, "RESULTS", page)
    monkeypatch.setattr(command, "prepare_real_voice", lambda: None)
    monkeypatch.setattr(command, "measure_apart", measure)
    assert command.main(["hit", "--write"]) == 0
    assert (tmp_path / "hit.svg").read_text() == "<svg/>"
    assert "(hit.svg)" in page.read_text()
