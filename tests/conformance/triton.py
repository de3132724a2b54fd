"""Triton's own client against a running worker: `python triton.py HTTP_ADDRESS GRPC_ADDRESS`.

It needs `tritonclient[grpc,http]`, which pins protobuf 6, so it runs in an environment of its own
and imports nothing of Greenroom. The worker has the tones, `tone-440` for its default.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException


def lives(client: Any, index: Any) -> None:
    """Go through everything that is about models."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tone-440")
    assert not client.is_model_ready("tone-220")
    states = index(client.get_model_repository_index())
    assert (states["tone-440"], states["tone-220"]) == ("READY", "UNAVAILABLE"), states
    client.load_model("tone-220")
    assert client.is_model_ready("tone-220", "1")
    assert client.get_model_metadata("tone-220")
    assert client.get_server_metadata()
    client.unload_model("tone-220")
    assert not client.is_model_ready("tone-220")
    told = refusal(lambda: client.load_model("tone-221"))
    assert "tone-220" in told, told
    told = refusal(lambda: client.load_model("tone-220", config="{}"))
    assert "without parameters" in told, told


def refusal(call: Callable[[], object]) -> str:
    """Return what a call that must be refused is told."""
    try:
        call()
    except InferenceServerException as error:
        return str(error)
    raise AssertionError("nothing was refused")


def main(http: str, grpc: str) -> None:
    """Talk to one worker over both protocols."""
    lives(over_http.InferenceServerClient(http), lambda all: {m["name"]: m["state"] for m in all})
    lives(over_grpc.InferenceServerClient(grpc), lambda all: {m.name: m.state for m in all.models})
    sys.stdout.write("tritonclient works over HTTP and gRPC\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
