"""A model in a process of its own: it speaks like one in this process, and its end is only its."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from greenroom.adapter import Isolation, ModelSpec, TTSAdapter
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.audio.frames import WordTime
from greenroom.concurrency.cores import CORES
from greenroom.effects.loader import LoadAttempt
from greenroom.errors import ConfigError, EngineCrashedError, ModelLoadError, SynthesisError
from greenroom.hosts import engine_process
from greenroom.hosts.engine_process import EngineProcess, LineLog
from greenroom.hosts.hosted_adapter import EngineRaisedError, HostedAdapter
from greenroom.hosts.processes import EngineProcesses
from tests.hosts.hostile_engines import RATE, HostileAdapter
from tests.speech.telling_engine import TellingAdapter
from tests.waiting import eventually

SOON_S = 30.0


class Place:
    """Processes for models, and what has become of them."""

    def __init__(self) -> None:
        self.processes = EngineProcesses("engine")
        self.crashes: list[str] = []
        self.processes.crashed = lambda process: self.crashes.append(process.ending)

    def loaded(
        self,
        model_id: str = "one",
        adapter: type[TTSAdapter] = HostileAdapter,
        isolation: Isolation = "engine",
        **options: Any,
    ) -> HostedAdapter:
        spec = ModelSpec(model_id, adapter, options=options, isolation=isolation)
        made: HostedAdapter = self.processes.adapter_for(spec, adapter)
        made.start()
        made.load()
        return made


@pytest.fixture(scope="module")
def shared() -> Iterator[Place]:
    place = Place()
    yield place
    place.processes.close()


@pytest.fixture
def place(shared: Place) -> Iterator[Place]:
    yield shared
    for process in shared.processes.all:
        process.kill("the test is over")
    eventually(lambda: not shared.processes.all)
    shared.crashes.clear()


def process_of(model: HostedAdapter) -> EngineProcess:
    assert model.process is not None
    return model.process


def said(model: TTSAdapter, text: str = "Hello.", **options: Any) -> Any:
    return np.concatenate([chunk.samples for chunk in model.synthesize(text, options)])


def is_there(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_every_sample_is_that_of_the_engine_in_this_process(place: Place) -> None:
    model = place.loaded(adapter=ToneTTSAdapter, frequency=330)
    here = ToneTTSAdapter(ModelSpec("one", ToneTTSAdapter, options={"frequency": 330}))
    here.load()
    assert np.array_equal(said(model, "Hello there."), said(here, "Hello there."))
    assert (model.sample_rate, model.concurrency) == (here.sample_rate, here.concurrency)


def test_models_of_one_engine_share_a_process_and_others_do_not(place: Place) -> None:
    one, two = place.loaded("one"), place.loaded("two")
    tone = place.loaded("tone", ToneTTSAdapter)
    own = place.loaded("own", isolation="model")
    pids = [process_of(model).pid for model in (one, two, tone, own)]
    assert pids[0] == pids[1]
    assert len(set(pids)) == 3
    assert os.getpid() not in pids


def test_the_process_ends_with_its_last_model(place: Place) -> None:
    one, two = place.loaded("one"), place.loaded("two")
    pid = process_of(one).pid
    one.unload()
    assert is_there(pid)
    assert len(said(two))
    two.unload()
    assert not is_there(pid)
    assert place.crashes == []


@pytest.mark.parametrize(
    ("deed", "how"),
    [
        ("segmentation fault", "it was killed by SIGSEGV: Fatal Python error: Segmentation fault"),
        ("abort", "it was killed by SIGABRT: Fatal Python error: Aborted"),
        ("exit", "it ended with 3"),
        ("kill", "it was killed by SIGKILL"),
        ("close descriptors", "it closed its connections"),
        ("scribble", "its reply is no reply, as if it had been overwritten"),
        (
            "answer wrongly",
            "its reply has a 'processor_s' that is out of range, as if it had been overwritten",
        ),
    ],
)
def test_a_crash_ends_what_speaks_there_and_is_told(place: Place, deed: str, how: str) -> None:
    bad, good = place.loaded("bad"), place.loaded("good", ToneTTSAdapter)
    chunks = bad.synthesize(deed, {})
    next(chunks)
    with pytest.raises(EngineCrashedError) as caught:
        list(chunks)
    assert str(caught.value) == f"model 'bad' broke off: its process ended: {how}. Try again."
    assert place.crashes == [how], "the manager knows before the caller, who may ask again"
    assert len(said(good))
    assert len(said(place.loaded("bad"))), "a process of its own again"


@pytest.mark.parametrize("at", ["load", "warm_up"])
def test_a_crash_of_a_load_is_a_load_that_failed(place: Place, at: str) -> None:
    with pytest.raises(ModelLoadError, match=r"its process ended: it was killed by SIGSEGV"):
        list(place.loaded(at=at, deed="segmentation fault").warm_up("Ready."))


@pytest.mark.parametrize("at", ["load", "warm_up"])
def test_a_load_that_another_models_crash_broke_off_is_tried_once_more(
    place: Place, at: str
) -> None:
    other = place.loaded("other")
    options = {"at": at, "deed": "pause"}
    spec = ModelSpec("one", HostileAdapter, options=options, isolation="engine")
    attempt = LoadAttempt(spec, "Ready.", place.processes)
    outcome: list[Any] = []

    def load() -> None:
        outcome.append(attempt.load())
        outcome.append(attempt.warm_up())

    loading = threading.Thread(target=load)
    loading.start()
    eventually(lambda: len(process_of(other).models) == 2)
    eventually(lambda: at == "load" or outcome)
    process_of(other).kill("the test says so")
    loading.join(SOON_S)
    assert len(outcome) == 2
    assert attempt.adapter is not None
    assert len(said(attempt.adapter))
    attempt.undo()


def test_a_crash_while_unloading_gives_the_memory_back_all_the_same(place: Place) -> None:
    model = place.loaded(at="unload", deed="abort")
    pid = process_of(model).pid
    model.unload()
    assert not is_there(pid)


@pytest.mark.parametrize("deed", ["hang", "hold the lock", "stop"])
def test_an_unload_that_takes_too_long_ends_with_the_process(place: Place, deed: str) -> None:
    model = place.loaded(at="unload", deed=deed)
    model._unload_limit = 0.3
    pid = process_of(model).pid
    model.unload()
    assert not is_there(pid)


@pytest.mark.parametrize("deed", ["hang", "hold the lock", "stop", "half a reply"])
def test_what_takes_too_long_is_killed(place: Place, deed: str) -> None:
    model = place.loaded()
    model._speech_limit = 0.3
    pid = process_of(model).pid
    with pytest.raises(EngineCrashedError, match=r"it did not answer within 0\.3 s"):
        said(model, deed)
    assert not is_there(pid)


def test_what_an_engine_raises_is_told_and_ends_nothing_else(place: Place) -> None:
    model = place.loaded()
    with pytest.raises(EngineRaisedError, match="NotPicklableError: cannot be pickled"):
        said(model, "not picklable")
    with pytest.raises(EngineRaisedError, match="SystemExit: 4"):
        said(model, "leave")
    with pytest.raises(SynthesisError, match="samples of type int16"):
        said(model, "integers")
    with pytest.raises(EngineRaisedError, match="LongError: \U0001f600"):
        said(model, "long error")
    with pytest.raises(SynthesisError, match="at 32000 Hz, but the model speaks at 16000 Hz"):
        said(model, "another rate")
    assert len(said(model)) == 10 * RATE // 10
    assert place.crashes == []


def test_what_an_engine_marks_may_be_numpys_truth(place: Place) -> None:
    model = place.loaded()
    assert len(said(model, "mark as numpy does")) == 10 * RATE // 10


def test_a_reply_that_cannot_be_written_is_not_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = place.loaded()
    monkeypatch.setattr(engine_process, "_END_LIMIT_S", 0.1)
    with pytest.raises(EngineCrashedError, match="it closed its connections"):
        said(model, "break the encoder")


def test_a_chunk_of_100_mb_comes_whole(place: Place) -> None:
    chunk = next(iter(place.loaded().synthesize("100 MB", {})))
    assert (len(chunk.samples), chunk.samples[-1]) == (25_000_000, np.float32(0.1))


@pytest.mark.parametrize("deed", ["flood", "fork", "fork and go on", "program", "send signals"])
def test_what_an_engine_does_beside_speaking_harms_nobody(place: Place, deed: str) -> None:
    model = place.loaded()
    assert len(said(model, deed)) == 10 * RATE // 10
    pid = process_of(model).pid
    model.unload()
    eventually(lambda: not is_there(pid))
    eventually(lambda: not group_of(pid))


def test_of_a_flood_of_lines_no_more_are_looked_at_than_could_be_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at: list[bytes] = []
    monkeypatch.setattr(LineLog, "_log", lambda _, line: looked_at.append(line))
    log = LineLog("one", 1)
    log.feed(b"\n" * 65_536)
    assert len(looked_at) <= 10
    looked_at.clear()
    for said in (b"a", b"b\nc", b"\nd", b"e"):
        log.feed(said)
    log.flush()
    assert looked_at == [b"ab", b"c", b"de"]


def test_cores_that_a_process_has_borrowed_are_back_when_it_has_ended(place: Place) -> None:
    idle = CORES.idle
    model = place.loaded()
    assert len(said(model, "borrow"))
    assert (idle, CORES.idle) == (CORES.count, 0)
    process_of(model).kill("it holds them")
    eventually(lambda: CORES.idle == idle)


def test_a_core_goes_along_with_the_call_to_an_engine_that_has_asked_for_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = place.loaded()
    process = process_of(model)
    lenders: list[str] = []
    lend = process.lend_core

    def lend_core() -> bool:
        lenders.append(threading.current_thread().name)
        return lend()

    monkeypatch.setattr(process, "lend_core", lend_core)
    asked, with_the_call = f"greenroom-watch-{process.name}", threading.current_thread().name
    assert len(said(model))
    assert lenders == []
    assert len(said(model, "helped"))
    assert lenders == [asked, with_the_call, with_the_call]
    assert len(said(model, "helped"))
    assert lenders[3:] == [with_the_call, with_the_call, with_the_call]
    assert len(said(model, "helped, and more is to be said"))
    assert lenders[6:] == [with_the_call, with_the_call]  # once left to the next sentence
    assert CORES.idle == CORES.count


def test_cores_are_given_back_once_however_often_that_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CORES, "_count", lambda: 3)
    process = process_of(place.loaded())
    assert [process.lend_core() for _ in range(4)] == [True, True, True, False]
    for given_back, idle in ((1, 1), (1, 1), (0, 1), (2, 2), (9, 3), (9, 3)):
        process.settle_cores(given_back)
        assert CORES.idle == idle


def test_a_process_that_has_ended_is_lent_no_core(place: Place) -> None:
    process = process_of(place.loaded())
    process.kill("the test wants it")
    eventually(lambda: not process.lend_core())
    eventually(lambda: CORES.idle == CORES.count)


def test_what_hides_from_its_group_ends_with_the_last_process(place: Place) -> None:
    model = place.loaded()
    said(model, "fork and hide")
    launcher = place.processes._launcher
    assert launcher is not None
    server = psutil.Process(launcher.pid)
    eventually(lambda: len(server.children()) == 2)
    model.unload()
    eventually(lambda: not server.children())


def group_of(pid: int) -> list[int]:
    """Return what a process has started and is there still."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.getpgid(int(name)) == pid and is_there(int(name)):
                found.append(int(name))
    return found


SECRETS = (
    *("GREENROOM_WORKER__API_KEYS", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL"),
    *("HF_HUB_TOKEN", "PIPER_PASSWORD", "PYTHON_KEYRING_KEY"),
)
"""The last ones begin as what an engine may need does."""


def test_neither_keys_nor_listening_sockets_reach_an_engine_which_dies_before_the_manager(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "not to be told")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        inode = os.readlink(f"/proc/self/fd/{listening.fileno()}")
        place = Place()
        try:
            pid = process_of(place.loaded()).pid
            assert place.processes._launcher is not None
            for each in (pid, place.processes._launcher.pid):
                with open(f"/proc/{each}/environ", "rb") as file:
                    environment = file.read()
                assert b"PATH=" in environment
                assert b"not to be told" not in environment
                folder = f"/proc/{each}/fd"
                assert inode not in {os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}
                with open(f"/proc/{each}/oom_score_adj") as score, open(OWN_SCORE) as own:
                    assert int(score.read()) > int(own.read())
                assert resource.prlimit(each or 0, resource.RLIMIT_CORE) == (0, 0)
        finally:
            place.processes.close()


OWN_SCORE = "/proc/self/oom_score_adj"


def test_an_engine_has_neither_descriptors_nor_the_network(place: Place) -> None:
    model = place.loaded()
    pid = process_of(model).pid
    ends = [os.readlink(f"/proc/{pid}/fd/{each}") for each in os.listdir(f"/proc/{pid}/fd")]
    assert {end.split(":")[0] for end in ends} <= {"/dev/null", "socket", "pipe"}
    with pytest.raises(EngineRaisedError, match="PermissionError"):
        said(model, "connect")
    assert len(said(model, "connect somehow"))


def test_a_sentence_that_is_given_up_ends_in_the_engine_too(place: Place) -> None:
    model = place.loaded()
    for _ in range(100):
        chunks = model.synthesize("Hello.", {})
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
    assert len(process_of(model)._open) == 1, "one connection serves one sentence after another"


def test_sentences_are_spoken_side_by_side(place: Place) -> None:
    model = place.loaded()
    whole = said(model)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(said(model))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON_S)
    assert len(results) == 16
    assert all(np.array_equal(each, whole) for each in results)


def test_the_fork_server_is_started_anew_and_what_runs_goes_on(place: Place) -> None:
    model = place.loaded("one")
    launcher = place.processes._launcher
    assert launcher is not None
    before = launcher.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    eventually(lambda: not is_there(before))
    assert len(said(model))
    assert len(said(place.loaded("two", isolation="model")))
    assert launcher.pid != before
    with pytest.raises(EngineCrashedError, match="it ended, nobody knows how"):
        said(model, "kill")


def test_an_adapter_that_cannot_be_imported_is_refused_with_the_fix(place: Place) -> None:
    class Local(HostileAdapter):
        pass

    with pytest.raises(ConfigError, match="set isolation to none"):
        place.loaded(adapter=Local)
    with pytest.raises(ConfigError, match="options that no other process can be given"):
        place.loaded(lock=threading.Lock())


def test_word_times_cross_the_border_of_the_process(place: Place) -> None:
    hosted = place.loaded(adapter=TellingAdapter)
    assert hosted.has_word_times
    asked = list(hosted.synthesize("Über ☃ alles.", {"word_times": True}))
    words = [WordTime(w, n / 10, n / 10 + 0.08) for n, w in enumerate(["Über", "☃", "alles."])]
    assert [chunk.words for chunk in asked] == [tuple(words), (), (), ()]
    unasked = list(hosted.synthesize("Über ☃ alles.", {}))
    assert {chunk.words for chunk in unasked} == {None}
    assert not place.loaded("tone", ToneTTSAdapter).has_word_times
