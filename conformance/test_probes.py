"""What `grpc_health_probe` and `grpcurl` ask, by the stubs of `grpcio`'s own packages."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from conformance.started import Started

pytestmark = pytest.mark.client("grpcio-health-checking", "grpcio-reflection")

SERVING = HealthCheckResponse.SERVING


@pytest.fixture
def channel(worker: Started) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(worker.grpc) as made:
        yield made


def test_the_server_and_the_default_model_are_serving(channel: grpc.Channel) -> None:
    check = HealthStub(channel).Check
    assert check(HealthCheckRequest(), timeout=5).status == SERVING
    name = "piper-en-us-joe-medium"
    assert check(HealthCheckRequest(service=name), timeout=5).status == SERVING
    with pytest.raises(grpc.RpcError) as unknown:
        check(HealthCheckRequest(service="nobody"), timeout=5)
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_watcher_is_told_at_once(channel: grpc.Channel) -> None:
    watched = HealthStub(channel).Watch(HealthCheckRequest(), timeout=5)
    assert next(iter(watched)).status == SERVING
    watched.cancel()


def test_services_are_found_by_reflection(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    names = set(database.get_services())
    pool = DescriptorPool(database)
    methods = {name: set(pool.FindServiceByName(name).methods_by_name) for name in names}
    assert "Check" in methods["grpc.health.v1.Health"]
    assert "Synthesize" in methods["greenroom.v1.TTSService"]
    assert "SynthesizeOnline" in methods["nvidia.riva.tts.RivaSpeechSynthesis"]
    assert "RepositoryModelLoad" in methods["inference.GRPCInferenceService"]
