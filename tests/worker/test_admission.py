"""How much callers use at once: counted with the check, by key and by address, given back once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom.config.schema import WorkerSettings
from greenroom.errors import InvalidInputError, StalledError, WorkerBusyError
from greenroom.testing import VirtualTimeLoop
from greenroom.worker.admission import Admission, Shares, Slot, Slots, host_of, peer_of
from greenroom.worker.auth import Keys
from greenroom.worker.grpc.calls import SilentCalls

SPEAK, ADMIN = "Bearer speak-secret-1", "Bearer admin-secret-1"
KEYS = ({"key": SPEAK[7:], "name": "kitchen"}, {"key": ADMIN[7:], "name": "boss", "role": "admin"})


def slots(total: int = 10, key: int = 10, peer: int = 10) -> tuple[Slots, list[str]]:
    refused: list[str] = []
    made = Slots("calls", Shares(total, key, peer), lambda: refused.append("calls"))
    return made, refused


def all_of(found: Slots, key: str, peer: str) -> list[Slot]:
    """Take slots until there is none for this holder."""
    taken: list[Slot] = []
    while True:
        try:
            taken.append(found.take(key, peer))
        except WorkerBusyError:
            return taken


@pytest.mark.parametrize(
    ("shares", "count", "words"),
    [
        ((4, 9, 9), 4, "4 calls are open already"),
        ((9, 4, 9), 4, "of this key"),
        ((9, 9, 4), 4, "of this address"),
    ],
)
def test_one_use_more_than_there_are_slots_is_refused_and_says_whose_they_are(
    shares: tuple[int, int, int], count: int, words: str
) -> None:
    found, refused = slots(*shares)
    for _ in range(count):
        found.take("kitchen", "10.0.0.1")
    with pytest.raises(WorkerBusyError, match=words):
        found.take("kitchen", "10.0.0.1")
    assert (len(found), refused) == (count, ["calls"])


def test_what_one_key_takes_leaves_slots_for_another_wherever_both_are() -> None:
    found, _ = slots(total=10, key=6)
    assert len(all_of(found, "kitchen", "10.0.0.1")) == 6
    assert len(all_of(found, "hall", "10.0.0.1")) == 4


def test_what_one_address_takes_leaves_slots_for_another_with_the_same_key() -> None:
    found, _ = slots(total=20, key=10, peer=6)
    assert len(all_of(found, "kitchen", "10.0.0.1")) == 6
    assert len(all_of(found, "kitchen", "10.0.0.2")) == 4


def test_a_place_is_given_back_once_however_often_it_is_said() -> None:
    found, _ = slots(total=2)
    first, _second = found.take("a", "x"), found.take("a", "x")
    first.give_back()
    first.give_back()
    with first:
        pass
    assert len(found) == 1
    found.take("a", "x")
    with pytest.raises(WorkerBusyError):
        found.take("a", "x")


def test_who_has_given_everything_back_is_forgotten() -> None:
    found, _ = slots(total=1)
    for number in range(1_000):
        with found.take(f"key {number}", f"10.0.{number % 256}.1"):
            pass
    assert (len(found), len(found._keys), len(found._peers)) == (0, 0, 0)


def test_administrators_have_slots_of_their_own() -> None:
    settings = WorkerSettings.model_validate({"api_keys": KEYS})
    refused: list[str] = []
    keys = Keys(settings, lambda _: None)
    admission = Admission(settings, refused.append)
    speaker, boss = keys.recognise([SPEAK]), keys.recognise([ADMIN])
    for kind in (admission.calls, admission.watches, admission.followers):
        for number in range(kind.others.shares.key):
            kind.take(speaker, f"10.0.0.{number}")
        with pytest.raises(WorkerBusyError, match="of this key"):
            kind.take(speaker, "10.0.1.1")
        kind.take(boss, "10.0.0.1")
        kind.take(keys.recognise([]), "10.0.0.1")  # and one key's are not those without a key
    assert refused == ["requests", "watches", "followers"]


def test_without_keys_all_addresses_together_may_use_everything() -> None:
    settings = WorkerSettings()
    caller = Keys(settings, lambda _: None).recognise([])
    watches = Admission(settings, lambda _: None).watches
    shares = watches.others.shares
    for number in range(shares.total):
        watches.take(caller, f"10.0.0.{number // shares.peer}")
    with pytest.raises(WorkerBusyError, match=f"{shares.total} watches of callers"):
        watches.take(caller, "10.0.1.1")


def test_one_alone_may_use_all_that_can_speak() -> None:
    settings = WorkerSettings(max_sessions=3_000, max_streams=2_000)
    caller = Keys(settings, lambda _: None).recognise([])
    calls = Admission(settings, lambda _: None).calls
    for _ in range(5_000):
        calls.take(caller, "10.0.0.1")


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:127.0.0.1:4040", "127.0.0.1"),
        ("ipv6:%5B::1%5D:4040", "::1"),
        ("ipv6:[2001:db8:1:2:aaaa:bbbb:cccc:dddd]:4040", "2001:db8:1:2::"),
        ("ipv6:[::ffff:10.0.0.7]:4040", "10.0.0.7"),
        ("ipv6:[fe80::1%25eth0]:4040", "fe80::"),
        ("unix:", "this machine"),
        ("unix:/run/greenroom.sock", "this machine"),
        ("", "this machine"),
    ],
)
def test_an_address_is_what_one_subscriber_has_without_its_port(peer: str, host: str) -> None:
    assert host_of(peer) == host


def test_addresses_are_the_same_over_both_protocols() -> None:
    assert peer_of("10.0.0.7") == host_of("ipv4:10.0.0.7:1")
    assert peer_of("2001:db8:1:2:3::") == host_of("ipv6:[2001:db8:1:2:4::]:1")
    assert peer_of(None) == host_of("unix:")
    assert peer_of("testclient") == "testclient"


# Calls without their message, in virtual time


class Silence:
    """The messages of a call that come when a test says so."""

    def __init__(self) -> None:
        self._sent: asyncio.Queue[bytes] = asyncio.Queue()
        self.send = self._sent.put_nowait

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await self._sent.get()


def waiting(calls: SilentCalls, peer: str) -> tuple[Silence, asyncio.Task[bytes]]:
    silence: Any = Silence()
    return silence, asyncio.create_task(calls.message(silence, peer))


@pytest.mark.virtual_time
async def test_a_call_without_a_message_ends_in_time_and_one_with_its_message_does_not(
    clock: VirtualTimeLoop,
) -> None:
    calls = SilentCalls(limit=10, patience=10)
    (_, silent), (late, speaking) = waiting(calls, "a"), waiting(calls, "a")
    await clock.advance(9)
    late.send(b"x")
    assert await speaking == b"x"
    await clock.advance(2)
    with pytest.raises(StalledError, match="no message came for 10 s"):
        await silent
    assert len(calls) == 0


@pytest.mark.virtual_time
async def test_who_says_nothing_makes_room_and_never_another_address(
    clock: VirtualTimeLoop,
) -> None:
    calls = SilentCalls(limit=4)
    quiet, patient = waiting(calls, "good")
    crowd = [waiting(calls, "bad")[1] for _ in range(20)]
    await clock.settle()
    assert len(calls) == 4
    ended = [task for task in crowd if task.done()]
    assert ended == crowd[:17]
    for task in ended:
        with pytest.raises(WorkerBusyError, match="without a message"):
            await task
    quiet.send(b"hello")
    assert await patient == b"hello"
    for task in crowd[17:]:
        task.cancel()
    await clock.settle()
    assert (len(calls), calls._waits) == (0, {})


@pytest.mark.virtual_time
async def test_a_call_that_ends_without_a_message_is_told_to_send_one() -> None:
    async def nothing() -> AsyncIterator[bytes]:
        return
        yield

    calls = SilentCalls()
    with pytest.raises(InvalidInputError, match="no message"):
        await calls.message(nothing(), "a")
    assert len(calls) == 0
