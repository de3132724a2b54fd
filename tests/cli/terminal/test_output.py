"""Where speech goes: files that appear whole or not at all, pipes, players; and what it took."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import sys
import threading
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest

from greenroom.audio.frames import AudioFrame
from greenroom.cli.terminal import stopwatch as stopwatch_module
from greenroom.cli.terminal.console import CommandError
from greenroom.cli.terminal.output import ClosedPipeError, Sink, opened, sink_for
from greenroom.cli.terminal.stdin import pieces
from greenroom.cli.terminal.stopwatch import Stopwatch
from greenroom.errors import InvalidInputError
from tests.audio_files import heard

RATE = 16_000
PCM = bytes(range(256)) * 10


async def sink(target: str | None) -> Sink:
    return await asyncio.to_thread(sink_for, target, RATE)


async def put(target: str | None, *parts: bytes) -> None:
    async with opened(await sink(target)) as output:
        for part in parts:
            await output.write(part)
        await output.finish()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the whole PATH, so that nothing here can play sound."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.setitem(__import__("sys").modules, "sounddevice", None)
    return place


def install(programs: Path, name: str, script: str) -> Path:
    heard = programs.parent / "heard"
    program = programs / name
    program.write_text(f"#!/bin/sh\n{script}\n".replace("HEARD", str(heard)))
    program.chmod(0o755)
    return heard


# Files


async def test_a_file_has_everything_that_was_written(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    await put(str(file), PCM, PCM)
    with wave.open(str(file)) as found:
        assert found.getparams()[:4] == (1, 2, RATE, len(PCM))
        assert found.readframes(len(PCM)) == PCM + PCM
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


async def test_a_file_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(b"before")
    async with opened(await sink(str(file))) as output:
        await output.write(PCM)
        assert file.read_bytes() == b"before"
        await output.finish()
    assert file.read_bytes().startswith(b"RIFF")


async def test_a_failure_leaves_what_was_there_and_no_trace(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(b"before")

    async def fail() -> None:
        async with opened(await sink(str(file))) as output:
            await output.write(PCM)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


async def test_a_link_stays_and_the_file_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "a.wav"
    link.symlink_to(tmp_path / "real" / "b.wav")
    await put(str(link), PCM)
    assert link.is_symlink()
    assert (tmp_path / "real" / "b.wav").read_bytes().startswith(b"RIFF")


async def test_a_file_has_the_permissions_a_new_file_has(tmp_path: Path) -> None:
    await put(str(tmp_path / "a.wav"), PCM)
    (tmp_path / "other").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.wav", "other")}
    assert len(modes) == 1


async def test_a_device_is_written_and_not_replaced() -> None:
    await put("/dev/null", PCM)
    assert Path("/dev/null").is_char_device()


async def test_a_full_disk_is_one_sentence() -> None:
    with pytest.raises(CommandError, match="/dev/full cannot be written: No space left"):
        await put("/dev/full", PCM)


@pytest.mark.parametrize("suffix", ["mp3", "opus", "flac", "aac", "pcm", "MP3"])
async def test_the_suffix_says_in_which_format_a_file_is(tmp_path: Path, suffix: str) -> None:
    at = np.arange(2 * RATE)
    tone = (np.sin(2 * np.pi * 440 * at / RATE) * 9_000).astype("<i2").tobytes()
    file = tmp_path / f"a.{suffix}"
    await put(str(file), tone[:RATE], tone[RATE:])
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    if suffix == "pcm":
        assert file.read_bytes() == tone
        return
    sound = heard(file.read_bytes(), suffix.lower())
    assert sound.frequency == pytest.approx(440, abs=2)
    assert sound.seconds == pytest.approx(2.0, abs=0.2)
    if suffix != "aac":  # which has no head
        with av.open(str(file)) as container:
            assert container.duration is not None
            assert container.duration / 1e6 == pytest.approx(2.0, abs=0.1)
    if suffix == "mp3":  # by its head, and not guessed from its size
        assert re.search(rb"Xing|Info", file.read_bytes()[:1_000])


async def test_without_a_suffix_it_is_a_wav_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    await put(str(tmp_path / "a"), PCM)
    assert (tmp_path / "a").read_bytes().startswith(b"RIFF")
    with pytest.raises(CommandError, match=r"no format has the suffix \.mp4; there are \.wav, "):
        await sink(str(tmp_path / "a.mp4"))
    with pytest.raises(InvalidInputError, match="mp3 cannot have 44050 Hz"):
        await asyncio.to_thread(sink_for, str(tmp_path / "a.mp3"), 44_050)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("suffix", ["wav", "mp3", "opus", "flac", "aac", "pcm"])
def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, suffix: str
) -> None:
    script = f"""
import asyncio, resource, signal
from greenroom.cli.terminal.console import CommandError
from greenroom.cli.terminal.output import opened, sink_for
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
async def put():
    async with opened(sink_for({str(tmp_path / "a")!r} + ".{suffix}", 16_000)) as output:
        for _ in range(100):
            await output.write(bytes(range(256)) * 100)
        await output.finish()
try:
    asyncio.run(put())
except CommandError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == f"{tmp_path}/a.{suffix} cannot be written: File too large.\n", done.stderr
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


# Pipes


async def test_a_pipe_gets_a_header_of_unknown_length_and_then_the_samples(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(fifo.read_bytes()))
    reader.start()
    async with opened(await sink(str(fifo))) as output:
        await output.write(PCM)
        await output.write(PCM)
        await output.finish()
    await asyncio.to_thread(reader.join)
    assert heard[0][:4] == b"RIFF"
    assert heard[0][4:8] == heard[0][40:44] == b"\xff\xff\xff\xff"
    assert heard[0][44:] == PCM + PCM


async def test_a_reader_who_leaves_is_told_apart_from_an_error(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    pipe = await sink(str(fifo))
    os.close(reader)
    async with opened(pipe) as output:
        with pytest.raises(ClosedPipeError):
            await output.write(PCM)


# Players


async def test_the_first_player_that_is_there_hears_everything(programs: Path) -> None:
    heard = install(programs, "aplay", 'echo "$@" > HEARD; exec /bin/cat >> HEARD')
    install(programs, "ffplay", "echo not me > HEARD")
    await put(None, PCM, PCM)
    arguments, audio = heard.read_bytes().split(b"\n", 1)
    assert arguments == b"-q -t wav -"
    assert audio.startswith(b"RIFF")
    assert audio[44:] == PCM + PCM


async def test_a_player_without_headers_is_told_the_rate(programs: Path) -> None:
    heard = install(programs, "paplay", 'echo "$@" > HEARD; exec /bin/cat >> HEARD')
    await put(None, PCM)
    arguments, audio = heard.read_bytes().split(b"\n", 1)
    assert arguments == b"--raw --format=s16le --channels=1 --rate=16000"
    assert audio == PCM


async def test_a_player_of_files_gets_a_file(programs: Path) -> None:
    heard = install(programs, "afplay", 'exec /bin/cat "$1" > HEARD')
    await put(None, PCM)
    assert heard.read_bytes()[44:] == PCM


async def test_what_a_player_complains_about_is_passed_on(programs: Path) -> None:
    install(programs, "aplay", "echo first >&2; echo no sound card >&2; exit 1")
    with pytest.raises(CommandError, match="aplay cannot play: no sound card; use -o FILE"):
        await put(None, *[PCM] * 100)


async def test_a_player_is_ended_when_the_speech_is_given_up(programs: Path) -> None:
    install(programs, "aplay", "exec /bin/sleep 600")

    async def give_up() -> None:
        async with opened(await sink(None)) as output:
            await output.write(PCM)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await give_up()


@pytest.mark.usefixtures("programs")
def test_where_nothing_can_play_the_fix_is_named() -> None:
    with pytest.raises(CommandError, match=r"use -o FILE\.wav"):
        sink_for(None, RATE)


# Text that comes in pieces


async def read(*parts: bytes) -> str:
    """Write, one after the other, what `pieces` reads from the other end of a pipe."""
    source, target = os.pipe()
    found = ""
    try:
        os.write(target, parts[0])
        rest = list(parts[1:])
        async for piece in pieces(source):
            found += piece
            if rest:
                os.write(target, rest.pop(0))
            elif target >= 0:
                os.close(target)
                target = -1
    finally:
        os.close(source)
        if target >= 0:
            os.close(target)
    return found


async def test_text_is_passed_on_before_the_rest_of_it_is_there() -> None:
    assert await read(b"Hello. ", b"Still ", b"there?\n") == "Hello. Still there?\n"


async def test_a_character_may_come_in_two_pieces() -> None:
    assert await read("é".encode()[:1], "é".encode()[1:]) == "é"


async def test_a_byte_order_mark_is_not_spoken() -> None:
    assert await read("\ufeffHello".encode()) == "Hello"


@pytest.mark.parametrize("content", ["grün".encode("latin-1"), "é".encode()[:1]])
async def test_text_that_is_not_utf_8_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInputError, match="not UTF-8"):
        await read(content)


async def test_a_closed_input_is_one_sentence() -> None:
    with pytest.raises(InvalidInputError, match="cannot be read: Bad file descriptor"):
        await anext(pieces(9_999))


# What it took


class Watch:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(stopwatch_module, "time", watch)
    return watch


FRAME = AudioFrame(b"\0\0" * 960, 48_000)


def test_a_stopwatch_tells_duration_first_audio_and_real_time_factor(watch: Watch) -> None:
    stopwatch = Stopwatch()
    watch.now += 5
    stopwatch.start()
    watch.now += 0.25
    for _ in range(50):
        stopwatch.count(FRAME)
    watch.now += 0.25
    stopwatch.count(FRAME)
    assert str(stopwatch) == "1.02 s of audio, first audio after 0.25 s, real-time factor 0.49"


def test_a_real_time_factor_is_not_told_when_others_were_slow(watch: Watch) -> None:
    stopwatch = Stopwatch()
    watch.now += 1
    stopwatch.count(FRAME)
    with stopwatch.outside():
        watch.now += 1
    stopwatch.count(FRAME)
    assert str(stopwatch) == "0.04 s of audio, first audio after 1.00 s"


def test_a_stopwatch_without_audio_tells_no_more_than_that() -> None:
    assert str(Stopwatch()) == "0.00 s of audio"


async def test_time_runs_from_the_first_piece_of_text(watch: Watch) -> None:
    async def text() -> AsyncIterator[str]:
        watch.now += 10
        yield "Hello"

    stopwatch = Stopwatch()
    assert [piece async for piece in stopwatch.timed(text())] == ["Hello"]
    watch.now += 0.5
    stopwatch.count(FRAME)
    assert "first audio after 0.50 s" in str(stopwatch)
