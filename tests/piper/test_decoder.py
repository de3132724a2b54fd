"""Prepared voices sound as their own files do, alone and together, on one graph."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenroom.adapters.piper.prepared.build.pipeline import prepare
from greenroom.adapters.piper.prepared.run import decoder, prepared_voice, shared_graphs
from greenroom.adapters.piper.prepared.run.prepared_voice import PreparedVoice
from greenroom.adapters.piper.prepared.run.shared_graphs import GRAPHS, Graph
from greenroom.adapters.piper.prepared.run.stage import BoundStage, Stage
from greenroom.adapters.piper.prepared.run.stage_cost import Costs, StageCost
from greenroom.adapters.piper.prepared.run.thread_pool import DecodePool
from greenroom.adapters.piper.prepared.store.paths import PreparedFiles
from greenroom.adapters.piper.prepared.store.store import Store
from greenroom.adapters.piper.prepared.windows import FIRST, LARGEST, LARGEST_FIRST
from greenroom.concurrency.cores import Cores
from greenroom.speech.pace import Pace, paced
from tests.piper import synthetic_voice
from tests.piper.real_voice import MODEL, PATIENT, prepared_files
from tests.piper.synthetic_voice import sentence, spoken_by_itself
from tests.waiting import eventually

CLOSE = 1e-4
LENGTHS = (1, 2, 7, 40, 150, 400)

Prepare = Callable[..., tuple[Path, PreparedFiles]]


@pytest.fixture(autouse=True)
def _no_graph_is_left() -> Iterator[None]:
    yield
    assert len(GRAPHS) == 0


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    """Prepare the voice of a kind, once for all tests."""
    root = tmp_path_factory.mktemp("voices")
    made: dict[str, tuple[Path, PreparedFiles]] = {}

    def prepared(**says: Any) -> tuple[Path, PreparedFiles]:
        name = str(sorted(says.items()))
        if name not in made:
            model = synthetic_voice.write_voice(root, f"voice{len(made)}", **says)
            made[name] = model, prepare(model, Store(root / "store", "runtime"))
        return made[name]

    return prepared


@pytest.fixture
def voice(prepared: Prepare) -> Iterator[Callable[..., PreparedVoice]]:
    """Load the voice of a kind, to be closed after the test."""
    opened: list[PreparedVoice] = []

    def voice(**says: Any) -> PreparedVoice:
        opened.append(PreparedVoice(prepared(**says)[1], threads=1))
        return opened[-1]

    yield voice
    for one in opened:
        one.close()


def spoken(voice: PreparedVoice, feeds: dict[str, Any]) -> np.ndarray:
    return np.concatenate(list(voice.speak(feeds)))


def assert_equal(one: np.ndarray, other: np.ndarray) -> None:
    assert one.shape == other.shape
    assert np.abs(one - other).max() < CLOSE


def cores_of(count: int, monkeypatch: pytest.MonkeyPatch) -> Cores:
    cores = Cores(lambda: count)
    monkeypatch.setattr(decoder, "DECODE_POOL", DecodePool(cores))
    return cores


def sizes_at(pace: Pace, voice: PreparedVoice, length: int = 300) -> list[int]:
    """Return how many frames the pieces of a sentence have, of a listener who has this pace."""
    with paced(pace, lambda: 0.0):
        return [len(piece) // synthetic_voice.HOP for piece in voice.speak(sentence(length))]


def make_cost(voice: PreparedVoice, monkeypatch: pytest.MonkeyPatch, frame_s: float) -> None:
    """Have a frame be expected to take so long, whatever is measured."""
    assert voice._graph is not None
    for cost in (voice._graph.costs.flow, voice._graph.costs.decoder):
        monkeypatch.setattr(cost, "_frame_s", frame_s)
    monkeypatch.setattr(StageCost, "add", lambda *_: None)


@pytest.mark.parametrize(
    "says",
    [
        {},
        {"speakers": 3, "rate": 16_000},
        {"normalised": True},
        {"durations": True},
        {"raw": True, "speakers": 2},
    ],
    ids=str,
)
def test_sentences_of_any_length_are_what_the_file_itself_makes_of_them(
    prepared: Prepare, voice: Callable[..., PreparedVoice], says: dict[str, Any]
) -> None:
    model, _ = prepared(**says)
    ours = voice(**says)
    for length in LENGTHS:
        for speaker in range(says.get("speakers", 1)):
            feeds = sentence(length, speaker=speaker)
            expected = spoken_by_itself(model, feeds)
            assert np.abs(expected).max() > 0.01
            assert_equal(spoken(ours, feeds), expected)


@PATIENT
def test_the_real_voice_is_what_the_engine_makes_of_it(prepared_cache: Path) -> None:
    voice = PreparedVoice(prepared_files(prepared_cache), threads=1)
    for length in (3, 60, 300):
        feeds = sentence(length)
        pieces = list(voice.speak(feeds))
        assert len(pieces) > 1 or length == 3
        assert_equal(np.concatenate(pieces), spoken_by_itself(MODEL, feeds))
    voice.close()


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_a_lone_listener_first_hears_a_small_piece_and_later_ones_are_larger(
    voice: Callable[..., PreparedVoice], monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    cores_of(cores, monkeypatch)
    ours = voice()
    make_cost(ours, monkeypatch, 1e-6)
    first, *others = sizes_at(Pace(), ours)
    assert first == FIRST
    assert others[0] > first
    assert max(others) >= LARGEST


def test_in_a_crowd_the_first_piece_is_larger_up_to_a_limit(
    voice: Callable[..., PreparedVoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    cores_of(2, monkeypatch)
    ours = voice()
    make_cost(ours, monkeypatch, 1e-9)
    firsts = [sizes_at(Pace(None, sharers), ours)[0] for sharers in (1, 2, 3, 4, 40)]
    assert firsts == [FIRST, 2 * FIRST, 3 * FIRST, LARGEST_FIRST, LARGEST_FIRST]


def test_a_listener_far_ahead_gets_the_largest_pieces_and_one_who_waits_the_smallest(
    voice: Callable[..., PreparedVoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = cores_of(1, monkeypatch)
    busy.take()
    ours = voice()
    make_cost(ours, monkeypatch, 1e-4)
    assert set(sizes_at(Pace(5.0), ours)[:-1]) == {LARGEST}
    assert set(sizes_at(Pace(0.0), ours)[:-1]) == {FIRST}
    hurried = sizes_at(Pace(0.02), ours)[:-1]
    assert FIRST < hurried[0] < LARGEST
    assert sizes_at(Pace(0.02, spare_s=0.005), ours)[0] < hurried[0]
    assert sizes_at(Pace(0.0, sharers=1_000), ours)[0] == LARGEST


def test_another_core_is_said_to_be_of_use_until_the_last_piece_is_begun(
    voice: Callable[..., PreparedVoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = cores_of(1, monkeypatch)
    busy.take()
    ours = voice()
    make_cost(ours, monkeypatch, 1e-4)
    helpable = []
    pieces = ours.speak(sentence(300))
    while True:
        with paced(Pace(0.0)) as asking:
            if next(pieces, None) is None:
                break
        helpable.append(asking.is_helpable)
    assert helpable == [True] * (len(helpable) - 1) + [False]
    assert len(helpable) > 2


class Lender:
    """Another process's cores: one comes with each call."""

    def __init__(self) -> None:
        self.idle = 1
        self.done: list[str] = []

    def borrow(self) -> bool:
        self.done.append("borrow")
        self.idle -= 1
        return self.idle >= 0

    def give_back(self) -> None:
        self.idle += 1

    def give_back_unused(self) -> None:
        self.done.append("give back unused")


def noted(stage: Stage, done: list[str]) -> Callable[..., Any]:
    """Return what runs the stage and writes down its name first."""
    run = stage.run

    def run_noted(*args: Any, **kwargs: Any) -> Any:
        done.append(stage.manifest.name)
        return run(*args, **kwargs)

    return run_noted


def test_a_core_that_came_with_the_call_is_given_back_before_a_piece_that_needs_none(
    voice: Callable[..., PreparedVoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    lender = Lender()
    cores_of(1, monkeypatch).defer_to(lender)
    ours = voice()
    for stage in ours._stages.values():
        monkeypatch.setattr(stage, "run", noted(stage, lender.done))
    assert len(list(ours.speak(sentence(3)))) == 1
    assert lender.done[-3:] == ["give back unused", "decoder", "waveform"]


@pytest.mark.parametrize("frame_s", [1e-9, 1e-5, 1e-4, 1e-3, 1.0])
@pytest.mark.parametrize("ahead_s", [None, 0.0, 0.02, 0.1, 60.0])
@pytest.mark.parametrize("cores", [0, 1, 3])
def test_whatever_sizes_are_chosen_it_sounds_the_same(
    prepared: Prepare,
    voice: Callable[..., PreparedVoice],
    monkeypatch: pytest.MonkeyPatch,
    frame_s: float,
    ahead_s: float | None,
    cores: int,
) -> None:
    """With no core to borrow, with one and with several."""
    ours = voice()
    make_cost(ours, monkeypatch, frame_s)
    lent = cores_of(max(1, cores), monkeypatch)
    if not cores:
        lent.take()
    for sharers in (1.0, 2.7):
        feeds = sentence(400, seed=3)
        with paced(Pace(ahead_s, sharers)):
            heard = spoken(ours, feeds)
        assert_equal(heard, spoken_by_itself(prepared()[0], feeds))
    assert lent.idle == cores


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("says", [{}, {"speakers": 2}, {"normalised": True}], ids=str)
def test_however_many_cores_share_a_sentence_it_sounds_the_same(
    prepared: Prepare,
    voice: Callable[..., PreparedVoice],
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    says: dict[str, Any],
) -> None:
    cores_of(cores, monkeypatch)
    for length in (1, 17, 60, 700):
        feeds = sentence(length, seed=cores)
        assert_equal(spoken(voice(**says), feeds), spoken_by_itself(prepared(**says)[0], feeds))


def test_voices_that_differ_in_weights_alone_share_one_graph(
    voice: Callable[..., PreparedVoice], prepared: Prepare
) -> None:
    voices = [voice(seed=seed) for seed in range(3)]
    assert len({prepared(seed=seed)[1].graph_id for seed in range(3)}) == 1
    assert len({prepared(seed=seed)[1].weights for seed in range(3)}) == 3
    assert len(GRAPHS) == 1
    audio = [spoken(one, sentence(50)) for one in voices]
    assert audio[0].shape != audio[1].shape or np.abs(audio[0] - audio[1]).max() > 0.01


def test_how_the_exporter_wrote_constants_down_makes_no_graph_of_its_own(
    prepared: Prepare,
) -> None:
    assert prepared(raw=True)[1].graph_id == prepared()[1].graph_id


@pytest.mark.parametrize("says", [{"dilation": 5}, {"keep": 4}, {"speakers": 2}], ids=str)
def test_a_voice_of_another_structure_attribute_or_constant_has_its_own_graph(
    prepared: Prepare, voice: Callable[..., PreparedVoice], says: dict[str, Any]
) -> None:
    assert prepared(**says)[1].graph_id != prepared()[1].graph_id
    voices = voice(), voice(**says)
    assert len(GRAPHS) == 2
    for one, kind in zip(voices, ({}, says), strict=True):
        assert_equal(spoken(one, sentence(30)), spoken_by_itself(prepared(**kind)[0], sentence(30)))


def test_many_callers_on_one_graph_never_hear_each_others_weights(
    voice: Callable[..., PreparedVoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    cores_of(4, monkeypatch)
    voices = [voice(seed=seed, speakers=2) for seed in range(4)]
    said = [sentence(length, speaker=length % 2) for length in (5, 30, 90, 31, 120)]
    jobs = [(one, feeds) for feeds in said for one in voices]
    alone = [spoken(one, feeds) for one, feeds in jobs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: spoken(*job), jobs * 2))
    for one, other in zip(alone * 2, together, strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_a_sentence_that_is_stopped_leaves_nobody_inside_and_the_next_one_right(
    voice: Callable[..., PreparedVoice], monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    lent = cores_of(cores, monkeypatch)
    inside, true_decode = [], decoder.SentenceDecoder._decode

    def decode(self: decoder.SentenceDecoder, *piece: Any) -> Any:
        inside.append(1)
        try:
            if threading.current_thread() is not threading.main_thread():
                time.sleep(0.02)  # so that it would be seen inside
            return true_decode(self, *piece)
        finally:
            inside.pop()

    monkeypatch.setattr(decoder.SentenceDecoder, "_decode", decode)
    ours, feeds = voice(), sentence(400)
    expected = spoken(ours, feeds)
    for heard in (0, 1, 2, 5):
        pieces = ours.speak(feeds)
        for _ in range(heard):
            next(pieces)
        pieces.close()
        assert not inside
        assert lent.idle == cores
    assert_equal(spoken(ours, feeds), expected)


def test_a_piece_that_fails_ends_the_sentence_and_harms_no_later_one(
    voice: Callable[..., PreparedVoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = cores_of(2, monkeypatch)
    ours, feeds = voice(), sentence(400)
    expected = spoken(ours, feeds)
    with monkeypatch.context() as patch:
        true_decode, count = decoder.SentenceDecoder._decode, iter(range(100))

        def decode(self: decoder.SentenceDecoder, *piece: Any) -> Any:
            if next(count) == 3:
                raise MemoryError("no room")
            return true_decode(self, *piece)

        patch.setattr(decoder.SentenceDecoder, "_decode", decode)
        with pytest.raises(MemoryError):
            spoken(ours, feeds)
    assert lent.idle == 2
    assert_equal(spoken(ours, feeds), expected)


def test_a_sentence_of_no_frames_has_no_pieces(voice: Callable[..., PreparedVoice]) -> None:
    _, flow, *decoders = voice()._stages.values()
    nothing = np.empty((1, synthetic_voice.CHANNELS, 0), np.float32)
    edges = dict.fromkeys((*flow.manifest.timed, *decoders[0].manifest.timed), nothing)
    for first in (None, flow):
        spoken = decoder.SentenceDecoder(first, decoders, edges, costs=Costs(), sample_rate=22_050)
        assert not list(spoken.pieces())


def test_a_graph_leaves_with_its_last_voice(prepared: Prepare) -> None:
    _, files = prepared()
    first, second = (PreparedVoice(files, threads=1) for _ in range(2))
    expected = spoken(second, sentence(20))
    first.close()
    assert files.graph_id in GRAPHS
    assert_equal(spoken(second, sentence(20)), expected)
    second.close()
    assert files.graph_id not in GRAPHS


def test_a_graph_lingers_when_asked_and_is_found_again(prepared: Prepare) -> None:
    _, files = prepared()
    PreparedVoice(files, threads=1, linger=0.05).close()
    again = PreparedVoice(files, threads=1)
    (slot,) = GRAPHS._slots.values()
    graph = slot.graph
    assert again._graph is graph
    eventually(lambda: slot.users == 1)
    assert_equal(spoken(again, sentence(9)), spoken_by_itself(prepared()[0], sentence(9)))
    again.close()
    PreparedVoice(files, threads=1, linger=0.05).close()
    assert files.graph_id in GRAPHS
    eventually(lambda: files.graph_id not in GRAPHS)


def test_concurrent_first_voices_read_the_graph_once(
    prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, files = prepared()
    true_read, all_here = Graph.read, threading.Event()
    reads = []

    def read(*arguments: Any) -> Graph:
        reads.append(arguments)
        assert all_here.wait(30)
        return true_read(*arguments)

    monkeypatch.setattr(Graph, "read", read)
    with ThreadPoolExecutor(6) as pool:
        loads = [pool.submit(PreparedVoice, files, threads=1) for _ in range(6)]
        eventually(lambda: any(slot.users == 6 for slot in GRAPHS._slots.values()))
        all_here.set()
        voices = [load.result() for load in loads]
    assert len(reads) == 1
    assert len({id(one._graph) for one in voices}) == 1
    for one in voices:
        one.close()


def test_a_graph_that_cannot_be_read_leaves_no_trace_and_the_next_try_works(
    prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, files = prepared()
    with monkeypatch.context() as patch:
        patch.setattr(
            shared_graphs, "cpu_session", lambda *_: (_ for _ in ()).throw(OSError("gone"))
        )
        with ThreadPoolExecutor(3) as pool:
            loads = [pool.submit(PreparedVoice, files, threads=1) for _ in range(3)]
        assert [str(load.exception()) for load in loads] == ["gone"] * 3
    assert len(GRAPHS) == 0
    PreparedVoice(files, threads=1).close()


def test_weights_that_cannot_be_mapped_give_the_graph_back(
    prepared: Prepare, tmp_path: Path
) -> None:
    _, files = prepared()
    gone = PreparedFiles(files.graph_id, files.graph, tmp_path / "gone", files.tensors, {})
    with pytest.raises(FileNotFoundError):
        PreparedVoice(gone, threads=1)
    assert len(GRAPHS) == 0


def test_a_voice_that_leaves_while_others_speak_on_its_graph_harms_nobody(
    voice: Callable[..., PreparedVoice], prepared: Prepare
) -> None:
    stays, feeds = voice(seed=1), sentence(200)
    expected = spoken(stays, feeds)
    done = threading.Event()

    def come_and_go() -> int:
        count = 0
        while not done.is_set() or not count:
            brief = PreparedVoice(prepared(seed=2)[1], threads=1)
            next(brief.speak(feeds))
            brief.close()
            gc.collect()
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        others = pool.submit(come_and_go)
        heard = list(pool.map(lambda _: spoken(stays, feeds), range(12)))
        done.set()
        assert others.result()
    for one in heard:
        assert_equal(one, expected)


def test_giving_back_is_a_sentence_that_changes_nothing(
    voice: Callable[..., PreparedVoice],
) -> None:
    for says in ({}, {"speakers": 2}, {"normalised": True}):
        ours = voice(**says)
        expected = spoken(ours, sentence(60))
        ours._shrink_arena()
        assert_equal(spoken(ours, sentence(60)), expected)


def test_a_voice_looks_ahead_while_a_core_is_idle(
    voice: Callable[..., PreparedVoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    lent, ours = Cores(lambda: 2), voice()
    monkeypatch.setattr(prepared_voice, "CORES", lent)
    assert ours.looks_ahead
    lent.take()
    assert ours.looks_ahead
    lent.take()
    assert not ours.looks_ahead


def test_pieces_are_decoded_ahead_on_every_core_that_nobody_waits_for(
    voice: Callable[..., PreparedVoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    lent, ours = cores_of(3, monkeypatch), voice()
    make_cost(ours, monkeypatch, 1.0)  # the smallest pieces, so that there are many
    held, may_end = threading.Semaphore(0), threading.Event()
    true_decode = decoder.SentenceDecoder._decode

    def decode(self: decoder.SentenceDecoder, *piece: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            held.release()
            assert may_end.wait(30)
        return true_decode(self, *piece)

    monkeypatch.setattr(decoder.SentenceDecoder, "_decode", decode)
    lent.take()  # the stream's own, as a manager has it
    pieces = ours.speak(sentence(300))
    next(pieces)
    assert held.acquire(timeout=30)
    assert held.acquire(timeout=30)
    assert lent.idle == 0
    monkeypatch.setattr(lent, "borrow", lambda: False)  # as while another stream waits
    may_end.set()
    next(pieces)
    next(pieces)
    eventually(lambda: lent.idle == 2)
    count = len(list(pieces))
    assert count > 3
    assert not held.acquire(blocking=False)


def test_what_a_listener_waits_for_first_is_made_with_two_threads_while_a_core_is_idle(
    voice: Callable[..., PreparedVoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_graphs, "cores", lambda: 2)
    cores = cores_of(2, monkeypatch)
    monkeypatch.setattr(prepared_voice, "DECODE_POOL", DecodePool(cores))
    runs: list[tuple[str, bool]] = []
    run = BoundStage.run

    def seen(stage: BoundStage, feeds: Any, *, wide: bool = False, shrink: bool = False) -> Any:
        runs.append((stage.manifest.name, wide))
        return run(stage, feeds, wide=wide, shrink=shrink)

    monkeypatch.setattr(BoundStage, "run", seen)
    ours, helped = voice(), list[float]()
    cores.take()
    with paced(Pace(count_help=helped.append)):
        first = spoken(ours, sentence(300))
    assert [name for name, wide in runs if wide] == ["text", "flow"]
    assert helped
    assert cores.idle == 1
    runs.clear()
    cores.take()
    assert_equal(spoken(ours, sentence(300)), first)
    assert not any(wide for _, wide in runs)


def test_one_core_has_no_sessions_of_two_threads(
    voice: Callable[..., PreparedVoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_graphs, "cores", lambda: 1)
    graph = voice()._graph
    assert graph is not None
    assert not graph.wide_sessions


def test_outside_a_manager_a_listener_is_taken_to_hear_since_the_first_piece(
    voice: Callable[..., PreparedVoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = cores_of(1, monkeypatch)
    busy.take()
    ours = voice()
    make_cost(ours, monkeypatch, 1e-4)
    now = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    pieces = ours.speak(sentence(300))
    sizes = [len(next(pieces)) // synthetic_voice.HOP for _ in range(6)]
    assert sizes[0] == FIRST
    assert sizes[1] < sizes[5] == LARGEST  # made at once, so more and more is ahead
    now += 60  # the listener has heard it all long ago
    assert len(next(pieces)) // synthetic_voice.HOP < LARGEST
    pieces.close()
