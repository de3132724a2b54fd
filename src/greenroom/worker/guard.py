"""Keys over gRPC: every call needs a role, and one that nobody thought of needs `admin`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.rpc import status_pb2
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from greenroom.config import WorkerSettings
from greenroom.errors import ModelManagerError
from greenroom.worker.access import CALLER, Keys, Role
from greenroom.worker.errors import status_of
from greenroom.worker.grpc_api import SERVICE_NAME
from greenroom.worker.triton_messages import SERVICE

_Continue = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]

_SPEAKING = {
    SERVICE_NAME: ("StartSession", "Synthesize", "Control", "EndSession", "ListModels"),
    SERVICE: ("ModelReady", "ModelMetadata", "RepositoryIndex"),
    health.SERVICE_NAME: ("Watch",),  # without an end, so not for anybody
    reflection.SERVICE_NAME: ("ServerReflectionInfo",),
}
_FOR_ANYBODY: dict[str, tuple[str, ...]] = {
    SERVICE: ("ServerLive", "ServerReady"),
    health.SERVICE_NAME: ("Check", "List"),
}


class Guard(grpc.aio.ServerInterceptor):
    """Lets a call through to its servicer, or ends it with the status that says why not."""

    def __init__(self, keys: Keys, settings: WorkerSettings) -> None:
        self._keys = keys
        looking = Role.NOBODY if settings.public_discovery else Role.SPEAK
        self._roles = {
            **_roles(_SPEAKING, Role.SPEAK),
            **_roles(_FOR_ANYBODY, Role.NOBODY),
            f"/{SERVICE_NAME}/GetCapabilities": looking,
            f"/{SERVICE}/ServerMetadata": looking,
        }

    async def intercept_service(
        self, continuation: _Continue, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the handler of the call, or one that refuses it."""
        metadata = handler_call_details.invocation_metadata or ()
        said = [str(value) for key, value in metadata if key == "authorization"]
        role = self._roles.get(handler_call_details.method, Role.ADMIN)
        try:
            CALLER.set(self._keys.admit(said, role))
        except ModelManagerError as error:
            return _refusal(status_of(error))
        return await continuation(handler_call_details)


def _roles(services: dict[str, tuple[str, ...]], role: Role) -> dict[str, Role]:
    return {f"/{name}/{call}": role for name, calls in services.items() for call in calls}


def _refusal(status: status_pb2.Status) -> Any:
    """Return a handler that ends a call of any kind before reading anything of it."""

    async def refuse(requests: Any, context: Any) -> None:
        await context.abort_with_status(rpc_status.to_status(status))

    return grpc.stream_stream_rpc_method_handler(refuse)
