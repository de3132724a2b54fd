"""A worker that is killed in the midst of its work: who notices, and who does not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from greenroom.cluster.picker import Picker
from greenroom.errors import WorkerError
from greenroom.worker.client import Client
from tests.cli.served import CONFIG, Served

LONG = "A speech of a minute, which no buffer holds. " * 20


@pytest.fixture
def served(tmp_path: Path) -> Iterator[list[Served]]:
    """Two workers, each a process of its own."""
    file = tmp_path / "worker.yaml"
    file.write_text(CONFIG)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: Served(file), range(2)))
        for each in found:
            stack.callback(each.end)
        yield found


@pytest.mark.timeout(180)  # two processes start
async def test_only_those_who_heard_it_get_an_error_and_its_voice_is_elsewhere_at_once(
    served: list[Served],
) -> None:
    first, second = (each.address for each in served)
    for address, voice in ((first, "tone-220"), (second, "tone-330")):
        async with Client(address) as client:
            await client.load(voice)
    async with Picker([first, second]) as picker:
        heard, other = picker.speak(LONG, "tone-220"), picker.speak(LONG, "tone-330")
        await anext(heard)
        await anext(other)
        served[0].process.kill()
        with pytest.raises(WorkerError) as caught:
            async for _ in heard:
                pass
        assert caught.value.code == "UNAVAILABLE"
        assert sum([1 async for _ in other]) > 2_000
        assert [1 async for _ in picker.speak("Hello.", "tone-220")]
        async with Client(second) as client:
            found = {each.model_id for each in (await client.report()).residents}
        assert "tone-220" in found
