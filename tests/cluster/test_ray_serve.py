"""A cluster on this machine, as `greenroom cluster up` starts it, and its callers."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import psutil
import pytest
import yaml
from pydantic import ValidationError

from greenroom.cli import main
from greenroom.errors import WorkerError
from greenroom.v1 import tts_pb2
from greenroom.worker.client import Client
from tests.cli.served import GREENROOM
from tests.waiting import until

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(900),  # Ray starts ten processes, and a busy machine takes minutes
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed; see make cluster"
    ),
]

CONFIG = """
model_manager:
  {{default_model_id: tone-440, min_residency_ms: 0, resident_cap: 2, cap_policy: hard}}
voices: {{directories: [], packages: []}}
worker:
  listen: "127.0.0.1:{grpc}"
  http_listen: "127.0.0.1:{http}"
  max_streams: 5
  api_keys: [{{key: secret-key, name: all, role: admin}}]
  aliases: {{tts-1: null}}
"""

SAMPLE = Path(__file__).parents[2] / "configs" / "ray-serve.yaml"

LONG = "A long speech, which is not over when its worker is. " * 300
HEADERS = {"authorization": "Bearer secret-key"}


class Cluster:
    """Two workers behind one address, in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.grpc, self.http = _free_port(), _free_port()
        file = folder / "worker.yaml"
        file.write_text(CONFIG.format(grpc=self.grpc, http=self.http))
        self.url = f"http://127.0.0.1:{self.http}"
        self.log = (folder / "log").open("w+")
        arguments = ["cluster", "up", "--config", str(file), "--replicas", "2", "--grpc"]
        self.process = subprocess.Popen(
            [*GREENROOM, *arguments], stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()

    def replicas(self) -> list[psutil.Process]:
        """Return the processes of the replicas that speak."""
        found = []
        for each in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "ServeReplica:greenroom:speech" in " ".join(each.cmdline()):
                    found.append(each)
        return found

    def reports(self) -> list[dict[str, Any]]:
        """Return what each replica has."""
        answer = httpx.get(f"{self.url}/api/cluster", headers=HEADERS, timeout=60)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["replicas"])

    def homes(self, voice: str) -> list[str]:
        """Return the replicas that have a voice, by their lives' ids."""
        return [
            each["boot_id"]
            for each in self.reports()
            if voice in [model["model_id"] for model in each["residents"]]
        ]

    def quiet(self) -> None:
        """Wait until no speech runs or waits anywhere."""
        for _ in range(600):
            if not sum(each["in_flight"] for each in self.reports()):
                return
            time.sleep(0.05)
        pytest.fail("a speech goes on")

    def end(self) -> int:
        """End it as Ctrl-C does, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=120)
        return self.process.returncode


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    begun = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        begun.log.seek(0)
        assert begun.ready.startswith("ready: 2 workers"), begun.log.read()
        yield begun
    finally:
        begun.end()
        begun.log.close()


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    async with Client(f"127.0.0.1:{cluster.grpc}", "secret-key") as connected:
        yield connected


@pytest.fixture
async def http(cluster: Cluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=cluster.url, headers=HEADERS, timeout=60) as connected:
        yield connected


def speech(voice: str, text: str = "Hello.") -> dict[str, str]:
    return {"model": "tts-1", "voice": voice, "input": text, "response_format": "pcm"}


async def test_a_voice_is_spoken_with_where_it_is(
    cluster: Cluster, http: httpx.AsyncClient
) -> None:
    async def ask() -> None:
        answer = await http.post("/v1/audio/speech", json=speech("tone-220", LONG[:2_000]))
        assert answer.status_code == 200
        assert len(answer.content) > 10_000

    await ask()
    # At once, so that who knows nothing of voices would spread them.
    await asyncio.gather(*(ask() for _ in range(4)))
    assert len(await asyncio.to_thread(cluster.homes, "tone-220")) == 1


async def test_openai_s_client_is_answered_as_by_a_worker(cluster: Cluster) -> None:
    async with openai.AsyncOpenAI(base_url=f"{cluster.url}/v1", api_key="secret-key") as asked:
        answer = await asked.audio.speech.create(
            model="tts-1", voice="tone-220", input="Hello.", response_format="wav"
        )
        assert answer.content[:4] == b"RIFF"
        with pytest.raises(openai.BadRequestError, match="tone-221"):
            await asked.audio.speech.create(model="tts-1", voice="tone-221", input="Hello.")
    async with openai.AsyncOpenAI(base_url=f"{cluster.url}/v1", api_key="wrong-key") as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.audio.speech.create(model="tts-1", voice="tone-220", input="Hello.")


async def test_a_caller_who_leaves_ends_the_speech(
    cluster: Cluster, http: httpx.AsyncClient
) -> None:
    async with http.stream("POST", "/v1/audio/speech", json=speech("tone-220", LONG)) as answer:
        await anext(answer.aiter_raw())
    await asyncio.to_thread(cluster.quiet)


async def test_a_full_worker_is_passed_over_and_a_full_cluster_refuses_in_words(
    cluster: Cluster, http: httpx.AsyncClient
) -> None:
    asked = speech("tone-220", LONG)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(10):
            begun = http.stream("POST", "/v1/audio/speech", json=asked)
            answer = await stack.enter_async_context(begun)
            assert answer.status_code == 200
        refused = await http.post("/v1/audio/speech", json=speech("tone-330"))
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "too_many_requests"
        assert refused.headers["retry-after"] == "1"
    await asyncio.to_thread(cluster.quiet)


async def test_text_is_spoken_over_grpc_whole_and_in_pieces(client: Client) -> None:
    async def pieces() -> AsyncIterator[str]:
        for word in ("Hello, ", "this ", "comes ", "in ", "pieces. ", "All ", "of ", "them."):
            yield word

    whole = b"".join([f.pcm async for f in client.speak("Hello, this comes.", "tone-330")])
    parts = b"".join([f.pcm async for f in client.speak(pieces(), "tone-330")])
    assert len(parts) > len(whole) > 10_000


async def test_an_error_over_grpc_is_the_worker_s(client: Client) -> None:
    with pytest.raises(WorkerError, match="tone-221") as caught:
        async for _ in client.speak("Hello.", "tone-221"):
            pass
    assert caught.value.code == "NOT_FOUND"
    with pytest.raises(WorkerError, match="tone-221") as caught:
        await client.load("tone-221")
    assert caught.value.code == "NOT_FOUND"


async def test_a_session_stays_with_its_replica(cluster: Cluster, client: Client) -> None:
    metadata = (("authorization", "Bearer secret-key"),)
    stub = client._stub
    begun = [
        await stub.StartSession(
            tts_pb2.StartSessionRequest(session_id=name, model_id="tone-247"), metadata=metadata
        )
        for name in ("mine", "")
    ]
    for each in begun:
        for _ in range(3):
            chunk = tts_pb2.TextChunk(session_id=each.session_id, text="Hi.", is_final=True)

            async def only(chunk: Any = chunk) -> AsyncIterator[Any]:
                yield chunk

            frames = [f async for f in stub.Synthesize(only(), metadata=metadata)]
            assert frames[-1].is_final
        request = tts_pb2.EndSessionRequest(session_id=each.session_id)
        await stub.EndSession(request, metadata=metadata)


def test_ray_s_own_ports_are_out_of_reach_or_ask_for_a_token(cluster: Cluster) -> None:
    listening = {
        each.laddr
        for process in psutil.Process(cluster.process.pid).children(recursive=True)
        for each in process.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    }
    loopback = ("127.0.0.1", "::ffff:127.0.0.1", "::1")
    open_to_others = {each.port for each in listening if each.ip not in loopback} - {cluster.grpc}
    assert len(listening) > 5
    assert len(open_to_others) == 3, "two workers and the way in take calls from one another"
    for port in open_to_others:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=30)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_ps_shows_every_worker(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["ps", "--cluster", cluster.url, "--key", "secret-key", "--json"]
    assert await asyncio.to_thread(main, arguments) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown) == 2
    assert all(each["report"]["ready"] for each in shown)
    assert (
        await asyncio.to_thread(main, ["ps", "--cluster", cluster.url, "--key", "wrong-key"]) == 1
    )
    assert "key" in capsys.readouterr().err


async def test_a_killed_replica_is_noticed_by_those_who_heard_it_alone(
    cluster: Cluster, client: Client
) -> None:
    speeches = {v: client.speak(LONG[:6_000], v, timeout=400) for v in ("tone-220", "tone-330")}
    for frames in speeches.values():
        await anext(frames)
    victim = (await asyncio.to_thread(cluster.replicas))[0]
    victim.kill()

    async def outcome(frames: Any) -> WorkerError | None:
        try:
            async for _ in frames:
                pass
        except WorkerError as error:
            return error
        return None

    outcomes = await asyncio.gather(*map(outcome, speeches.values()))
    errors = [each for each in outcomes if each is not None]
    assert len(errors) < len(outcomes)
    assert all(each.code == "UNAVAILABLE" for each in errors), errors
    for voice in speeches:
        assert [1 async for _ in client.speak("Hello.", voice)]
    await until(lambda: len(cluster.replicas()) == 2)


def test_it_ends_at_ctrl_c_and_leaves_nothing_behind(cluster: Cluster) -> None:
    children = psutil.Process(cluster.process.pid).children(recursive=True)
    assert cluster.end() == 0
    _, alive = psutil.wait_procs(children, timeout=60)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []
    assert os.path.exists(cluster.log.name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, when it is imported
def test_the_sample_configuration_for_several_machines_builds_the_application(
    tmp_path: Path,
) -> None:
    from ray import serve
    from ray.serve.schema import ServeDeploySchema

    sample = yaml.safe_load(SAMPLE.read_text())
    (described,) = ServeDeploySchema.model_validate(sample).applications
    module, name = described.import_path.split(":")
    file = tmp_path / "worker.yaml"
    file.write_text(CONFIG.format(grpc=50051, http=8880))
    build = getattr(importlib.import_module(module), name)
    assert isinstance(build(described.args | {"config": str(file)}), serve.Application)
    with pytest.raises(ValidationError, match="replica_count"):
        build(described.args | {"replica_count": 2})
