"""The speech of the last minute: what ended before is in no figure."""

from __future__ import annotations

import pytest

from greenroom.worker.speech import Timing
from greenroom.worker.speech_log import (
    EndedSpeech,
    SpeechFigures,
    SpeechLog,
    figures_by_model,
    speech_figures,
)


def ended(at: float = 0.0, model_id: str = "a", **given: object) -> EndedSpeech:
    values = {
        "failed": False,
        "first_audio_s": 0.1,
        "audio_s": 2.0,
        "engine_s": 0.5,
        "gaps": 0,
        "late_s": 0.0,
    }
    return EndedSpeech(at, model_id, **(values | given))  # type: ignore[arg-type]


def timing(first_audio_s: float = 0.1, *, over: bool = True) -> Timing:
    made = Timing()
    made.first_audio_s, made.audio_s, made.engine_s = first_audio_s, 2.0, 0.5
    made.gaps, made.late_s, made.over = 1, 0.25, over
    return made


def test_percentiles_are_values_that_were_seen() -> None:
    found = speech_figures([ended(first_audio_s=n / 100) for n in range(1, 101)])
    assert (found.first_audio_p50_s, found.first_audio_p95_s) == (0.50, 0.95)
    one = speech_figures([ended(first_audio_s=0.3)])
    assert (one.first_audio_p50_s, one.first_audio_p95_s) == (0.3, 0.3)


def test_where_nothing_was_heard_there_is_no_figure_of_it() -> None:
    assert speech_figures([]) == SpeechFigures()
    silent = speech_figures([ended(first_audio_s=None, engine_s=None, audio_s=0.0, failed=True)])
    assert silent == SpeechFigures(ended=1, failed=1)


def test_the_real_time_factor_is_of_what_was_heard_to_its_end() -> None:
    found = speech_figures(
        [
            ended(engine_s=1.0, audio_s=10.0),
            ended(engine_s=0.5, audio_s=5.0),
            ended(engine_s=None, audio_s=100.0),
        ]
    )
    assert found.real_time_factor == pytest.approx(0.1)
    assert found.audio_s == 115.0


def test_each_model_has_figures_of_its_own() -> None:
    found = figures_by_model([ended(gaps=1, late_s=0.2), ended(model_id="b"), ended()])
    assert {name: (each.ended, each.gaps) for name, each in found.items()} == {
        "a": (2, 1),
        "b": (1, 0),
    }


def test_what_ended_over_a_minute_ago_is_counted_and_forgotten() -> None:
    log = SpeechLog(0.0)
    log.end("a", "finished", timing(), 10.0)
    log.end("a", "stopped", timing(over=False), 60.0)
    window, latest = log.latest(65.0)
    assert (window, len(latest)) == (60.0, 2)
    window, latest = log.latest(70.1)
    assert [each.at for each in latest] == [60.0]
    assert latest[0].engine_s is None, "it was not heard to its end"
    assert log.ended == {"finished": 1, "stopped": 1}
    assert (log.gaps, log.late_s, log.audio_s) == (2, 0.5, 4.0)


def test_a_young_worker_says_how_young_it_is() -> None:
    log = SpeechLog(100.0)
    assert log.latest(104.0) == (4.0, ())


def test_where_there_was_too_much_speech_the_time_is_shorter() -> None:
    log = SpeechLog(0.0)
    for number in range(3_000):
        log.end("a", "finished", timing(), 100.0 + number / 100)
    window, latest = log.latest(130.0)
    assert len(latest) == 2_048
    assert window == pytest.approx(130.0 - latest[0].at)
    assert window < 25.0
