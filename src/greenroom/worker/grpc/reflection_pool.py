"""What reflection tells: the descriptors of every service that is served, in one pool.

Some services keep theirs in pools of their own, apart from the one that reflection looks into
unless it is given another.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from greenroom.v1 import tts_pb2
from greenroom.worker.grpc import triton_messages
from greenroom.worker.grpc.riva_protos import riva_tts_pb2

_FILES: tuple[Any, ...] = (
    tts_pb2.DESCRIPTOR,
    riva_tts_pb2.DESCRIPTOR,
    triton_messages.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
)

SERVICE_NAMES: tuple[str, ...] = tuple(
    service.full_name for file in _FILES for service in file.services_by_name.values()
)
"""Every service of the worker."""


def reflection_pool() -> DescriptorPool:
    """Return a pool with all of their files, and those that these need."""
    pool = DescriptorPool()
    added: set[str] = set()

    def add(file: Any) -> None:
        if file.name not in added:
            added.add(file.name)
            for needed in file.dependencies:
                add(needed)
            pool.AddSerializedFile(file.serialized_pb)

    for file in _FILES:
        add(file)
    return pool
