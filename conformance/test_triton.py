"""Triton's own client, over HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

from conformance.started import Started

pytestmark = pytest.mark.client("tritonclient")


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, worker: Started) -> Iterator[Any]:
    if request.param == "http":
        made: Any = over_http.InferenceServerClient(worker.http.removeprefix("http://"))
    else:
        made = over_grpc.InferenceServerClient(worker.grpc)
    yield made
    made.close()


def states(client: Any) -> dict[str, str]:
    index = client.get_model_repository_index()
    if isinstance(index, list):
        return {model["name"]: model["state"] for model in index}
    return {model.name: model.state for model in index.models}


def test_live_and_ready_and_metadata_over_http_and_grpc(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()
    assert client.get_model_metadata("tone-220")


def test_models_are_loaded_and_unloaded_and_the_index_follows_over_http_and_grpc(
    client: Any,
) -> None:
    assert not client.is_model_ready("tone-247")
    assert states(client)["tone-247"] == "UNAVAILABLE"
    client.load_model("tone-247")
    assert client.is_model_ready("tone-247", "1")
    assert states(client)["tone-247"] == "READY"
    client.unload_model("tone-247")
    assert not client.is_model_ready("tone-247")


def test_refusals_say_what_to_do_over_http_and_grpc(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="tone-220"):
        client.load_model("tone-221")
    with pytest.raises(InferenceServerException, match="without parameters"):
        client.load_model("tone-220", config="{}")
