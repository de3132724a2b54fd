"""Long text is said in pieces, so that what a voice takes is bounded, however much is said."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenroom import ModelSpec
from greenroom.adapters.piper import PiperTTSAdapter
from greenroom.adapters.piper.phoneme_runs import LONGEST_IDS, split_into_runs
from greenroom.adapters.piper.prepared.run import arena
from greenroom.adapters.piper.prepared.run.fifo_lock import FifoLock
from tests.piper import synthetic_voice

STILL = {"noise_scale": 0.0, "noise_w_scale": 0.0}


def cut(text: str, *, ids: int | None = None, length: float = 1.0) -> list[str]:
    found = split_into_runs(list(text), 2 * len(text) + 3 if ids is None else ids, length)
    return ["".join(piece) for piece in found]


@pytest.fixture
def adapter(tmp_path: Path) -> Iterator[PiperTTSAdapter]:
    model = synthetic_voice.write_voice(tmp_path)
    adapter = PiperTTSAdapter(ModelSpec("voice", PiperTTSAdapter, model))
    adapter.load()
    yield adapter
    adapter.unload()


def runs_of(adapter: PiperTTSAdapter, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what the engine will be fed with, for each run."""
    runs: list[Any] = []
    engine = adapter._session
    assert engine is not None
    speak = engine.speak

    def noted(feeds: Any, *more: Any) -> Any:
        runs.append(feeds)
        return speak(feeds, *more)

    monkeypatch.setattr(engine, "speak", noted)
    return runs


def test_a_sentence_of_usual_length_is_one_piece_and_the_very_same_object() -> None:
    usual = list("a" * 190)
    (only,) = split_into_runs(usual, LONGEST_IDS, 1.0)
    assert only is usual


@pytest.mark.parametrize("text", ["word " * 400, "word, " * 300, "x" * 5_000, "a b" * 999])
@pytest.mark.parametrize("length", [0.1, 1.0, 2.0, 40.0])
def test_pieces_are_the_text_none_is_empty_and_none_exceeds_the_bound(
    text: str, length: float
) -> None:
    found = cut(text, length=length)
    assert "".join(found) == text
    assert all(found)
    most = max(17, LONGEST_IDS / max(1.0, length) / 2)
    assert max(map(len, found)) <= most


def test_a_cut_is_after_a_clause_rather_than_after_a_word_rather_than_within_one() -> None:
    clause = "one two three four five six seven, " * 20
    assert all(piece.rstrip().endswith(",") for piece in cut(clause))
    assert all(piece.endswith(" ") for piece in cut("one two three " * 40))
    assert len(cut("x" * 500)) == 3


def test_pieces_of_one_sentence_are_of_similar_length() -> None:
    lengths = [len(piece) for piece in cut("and so on " * 45)]
    assert max(lengths) - min(lengths) < 20


def test_text_without_end_is_said_whole_in_runs_that_are_bounded(
    adapter: PiperTTSAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_of(adapter, monkeypatch)
    chunks = list(adapter.synthesize("the quick brown fox " * 60, STILL))
    assert max(feeds["input"].shape[1] for feeds in runs) <= LONGEST_IDS
    assert len(chunks) == len(runs) > 4
    spoken = np.concatenate([feeds["input"][0] for feeds in runs])
    whole = adapter._speech.phonemes_to_ids(list("the quick brown fox " * 60))
    letters = [number for number in spoken if number > 2]
    assert letters == [number for number in whole if number > 2]


def test_slow_speech_is_said_in_shorter_runs(
    adapter: PiperTTSAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_of(adapter, monkeypatch)
    list(adapter.synthesize("the quick brown fox " * 9, {**STILL, "speed": 0.25}))
    assert max(feeds["input"].shape[1] for feeds in runs) <= LONGEST_IDS / 4 + 1


def test_what_is_stated_for_a_voice_on_its_own_file_covers_the_longest_run(
    adapter: PiperTTSAdapter,
) -> None:
    stated = adapter.footprint_bytes()
    assert stated is not None
    assert stated > LONGEST_IDS * 0.5 * 2**20
    assert adapter.mapped_bytes() == 0


def test_callers_of_voices_on_their_own_files_take_turns(
    adapter: PiperTTSAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[int] = []
    most: list[int] = []
    engine: Any = adapter._session
    session = engine._session

    class Counted:
        def run(self, *given: Any) -> Any:
            inside.append(1)
            most.append(len(inside))
            try:
                return session.run(*given)
            finally:
                inside.pop()

    monkeypatch.setattr(adapter._session, "_session", Counted())
    threads = [
        threading.Thread(target=lambda: list(adapter.synthesize("a few words", STILL)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 6
    assert set(most) == {1}


def test_turns_are_taken_in_the_order_of_asking() -> None:
    lock, order = FifoLock(), []

    def ask(number: int) -> None:
        with lock.hold():
            order.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(5)]
    with lock.hold():
        for number, thread in enumerate(threads, 1):
            thread.start()
            while len(lock._waiters) < number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_a_run_that_hangs_holds_up_nobody_for_ever() -> None:
    lock = FifoLock(limit=0.01)
    with lock.hold() as first:
        assert first
        with lock.hold() as second:
            assert not second
    with lock.hold() as third:
        assert third
    assert not lock._waiters


def test_a_turn_that_ends_with_an_error_is_passed_on() -> None:
    lock = FifoLock()
    with pytest.raises(RuntimeError), lock.hold():
        raise RuntimeError("no such run")
    with lock.hold() as mine:
        assert mine


def test_a_voice_on_its_own_file_gives_the_memory_of_its_runs_back_when_it_rests(
    adapter: PiperTTSAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arena, "SHRINK_AFTER_S", 0.01)
    given_back = threading.Event()
    engine: Any = adapter._session
    session = engine._session

    class Watched:
        get_inputs = session.get_inputs

        def run(self, names: Any, feeds: Any, options: Any = None) -> Any:
            made = session.run(names, feeds, options)
            if options is not None:
                given_back.set()
            return made

    monkeypatch.setattr(adapter._session, "_session", Watched())
    list(adapter.synthesize("a few words", STILL))
    assert given_back.wait(30)
