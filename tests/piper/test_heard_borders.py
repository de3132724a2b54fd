"""Where sound ends before a pause and begins after it, found in audio that comes in pieces."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from greenroom.adapters.piper.heard_borders import HeardBorders
from greenroom.adapters.piper.word_clock import WordClock

RATE = 16_000
MS = RATE // 1000
STEP = 5 * MS
"""The borders are found to 2.5 ms; more is the test's own."""


def audio(*parts: tuple[float, int]) -> NDArray[np.float32]:
    """Return a buzz of parts, each as loud as it says for so many milliseconds."""
    loud = np.concatenate([np.full(ms * MS, level, np.float32) for level, ms in parts])
    return loud * np.where(np.arange(loud.size) % 2, 1, -1).astype(np.float32)


def heard(*parts: tuple[float, int], begin: int = 0) -> HeardBorders:
    samples = audio(*parts)
    made = HeardBorders(RATE, begin, begin + samples.size)
    made.add(samples)
    return made


WORD, PAUSE = (0.5, 200), (0.001, 300)


def test_a_word_begins_where_it_is_first_heard_early_or_late() -> None:
    borders = heard((0.0, 40), WORD, begin=1_000)
    for told in (20, 70):
        within = (1_000, 1_000 + 150 * MS)
        assert borders.first(1_000 + told * MS, within) == pytest.approx(1_000 + 40 * MS, abs=STEP)
    assert heard(WORD).first(30 * MS, (0, 60 * MS)) == 0
    assert heard(PAUSE, WORD).first(40 * MS, (0, 60 * MS)) == 40 * MS  # all is quiet


def test_before_a_pause_a_word_ends_and_after_it_the_next_begins_with_the_sound() -> None:
    borders = heard(WORD, PAUSE, WORD)
    for told in (140, 260):
        stop = borders.stop(told * MS, (100 * MS, 550 * MS))
        assert stop == pytest.approx(200 * MS, abs=STEP)
    for told in (420, 560):
        assert borders.start(told * MS, (200 * MS, 600 * MS)) == pytest.approx(500 * MS, abs=STEP)


def test_a_stop_that_is_let_go_after_its_silence_is_the_words_own() -> None:
    borders = heard(WORD, (0.0, 150), (0.05, 15), PAUSE)
    assert borders.stop(360 * MS, (150 * MS, 665 * MS)) == pytest.approx(365 * MS, abs=STEP)
    unheard = heard(WORD, (0.0, 150), (0.002, 15), PAUSE)
    assert unheard.stop(360 * MS, (150 * MS, 665 * MS)) == pytest.approx(200 * MS, abs=STEP)


def test_where_it_does_not_fall_silent_the_phonemes_tell() -> None:
    borders = heard(WORD, (0.001, 20), WORD)
    assert borders.stop(210 * MS, (150 * MS, 300 * MS)) == 210 * MS
    assert borders.start(215 * MS, (210 * MS, 300 * MS)) == 215 * MS


def test_what_sounds_to_the_end_of_the_run_ends_with_it() -> None:
    assert heard(WORD).stop(150 * MS, (120 * MS, 200 * MS)) == 200 * MS


def test_nothing_is_known_before_the_audio_is_there() -> None:
    samples = audio(WORD, PAUSE, WORD)
    borders = HeardBorders(RATE, 0, samples.size)
    known = []
    for piece in np.split(samples, range(50 * MS, samples.size, 50 * MS)):
        borders.add(piece)
        known.append(
            (
                borders.first(0, (0, 120 * MS)),
                borders.stop(210 * MS, (150 * MS, 550 * MS)),
                borders.start(500 * MS, (200 * MS, 540 * MS)),
            )
        )
    told = [next(n for n, each in enumerate(known) if each[kind] is not None) for kind in range(3)]
    assert told == [2, 6, 10]  # up to 120, 310 and 540 ms
    final = known[-1]
    assert all(each in (None, now) for row in known for each, now in zip(row, final, strict=True))


def test_pieces_of_any_size_tell_what_the_whole_does() -> None:
    parts = ((0.5, 30), (0.0, 500), (0.004, 470))  # the click is too short to count as loud
    samples = audio(*parts)
    borders = HeardBorders(RATE, 0, samples.size)
    for piece in np.split(samples, range(77, samples.size, 777)):
        borders.add(piece)
    found = [each.start(700 * MS, (400 * MS, 800 * MS)) for each in (borders, heard(*parts))]
    assert found == [530 * MS, 530 * MS]


def test_audio_that_is_no_number_or_too_long_does_no_harm() -> None:
    borders = HeardBorders(RATE, 0, 100 * MS)
    borders.add(np.full(200 * MS, np.nan, np.float32))
    assert borders.first(10 * MS, (0, 50 * MS)) == 10 * MS
    assert borders.stop(90 * MS, (50 * MS, 100 * MS)) is not None
    assert HeardBorders(RATE, 7, 7).stop(7, (7, 7)) == 7


# Words, as their audio comes

ID_MAP = {sign: [number] for number, sign in enumerate("^_$ ,abnt")}


def clock(text: str) -> WordClock:
    """Return the clock of a voice that says letters."""
    config = SimpleNamespace(
        phoneme_id_map=ID_MAP, sample_rate=RATE, phoneme_type=SimpleNamespace(value="text")
    )

    def ids(letters: list[str]) -> list[int]:
        inner = [number for letter in letters for number in (*ID_MAP[letter], *ID_MAP["_"])]
        return [*ID_MAP["^"], *ID_MAP["_"], *inner, *ID_MAP["$"]]

    made = WordClock(text, [list(text)], config, lambda words: words.split("\n\n"), ids)
    lengths = np.zeros(len(ids(list(text))), np.int64)
    lengths[2:-1:2] = 100 * MS  # each letter, sign and space; nothing between them
    made.run(list(text))(lengths)
    return made


def told(made: WordClock, *pieces: NDArray[np.float32]) -> list[list[tuple[str, int, int]]]:
    """Return the words that came with each piece, in milliseconds of the text."""
    found, at = [], 0
    for piece in pieces:
        words = made.next(piece)
        found.append(
            [(w.text, round(at + w.start_s * 1e3), round(at + w.end_s * 1e3)) for w in words]
        )
        at += piece.size // MS
    return found


def test_a_word_before_a_pause_is_told_with_the_audio_that_shows_its_end() -> None:
    said = audio((0.5, 230), (0.0, 270), (0.5, 160), (0.0, 40))  # the last 70 ms of "t" are silent
    pieces = np.split(said, [150 * MS, 300 * MS, 450 * MS])
    assert told(clock("abt, ba"), *pieces) == [[], [], [("abt,", 0, 230)], [("ba", 500, 660)]]
    assert told(clock("abt, ba"), said) == [[("abt,", 0, 230), ("ba", 500, 660)]]


def test_a_stop_that_is_never_let_go_ends_with_the_sound_before_it() -> None:
    said = audio((0.5, 170), (0.0, 330), (0.5, 100), (0.0, 100))  # the last "a" of "ba" is silent
    assert told(clock("abt, ba"), said) == [[("abt,", 0, 170), ("ba", 500, 600)]]
    said = audio((0.5, 80), (0.0, 420), (0.5, 200))  # of three sounds two are silent, of one all
    assert told(clock("abt, ba"), said)[0][0] == ("abt,", 0, 100)
    assert told(clock("a, t"), audio((0.5, 100), (0.0, 300)))[0][1][0] == "t"


def test_one_that_takes_long_is_told_when_it_begins() -> None:
    said = audio((0.5, 1_170), (0.0, 330), (0.5, 200))
    pieces = np.split(said, [150 * MS])
    assert told(clock("abababababat, ba"), *pieces)[0] == [("abababababat,", 0, 1_200)]
    assert told(clock("abababababat, ba"), said)[0][0] == ("abababababat,", 0, 1_170)


def test_words_between_which_nobody_pauses_are_told_ahead_by_their_phonemes() -> None:
    said = audio((0.5, 200), (0.0, 100), (0.5, 200))
    assert told(clock("ab ba"), *np.split(said, [100 * MS, 450 * MS])) == [
        [("ab", 0, 200)],
        [],
        [("ba", 300, 500)],
    ]
