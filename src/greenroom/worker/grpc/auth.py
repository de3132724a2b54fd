"""Keys over gRPC: every call needs a role (`admin` unless it is listed here) and a slot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.rpc import status_pb2
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from greenroom.config.schema import WorkerSettings
from greenroom.errors import ModelManagerError
from greenroom.worker.admission import Admission
from greenroom.worker.auth import CALLER, Keys, Role
from greenroom.worker.grpc.calls import AdmittedCalls
from greenroom.worker.grpc.errors import status_of
from greenroom.worker.grpc.riva_service import SERVICE as RIVA
from greenroom.worker.grpc.triton_messages import SERVICE
from greenroom.worker.grpc.tts_service import SERVICE_NAME

_Continue = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]

_SPEAKING = {
    SERVICE_NAME: (
        *("StartSession", "Synthesize", "Control", "EndSession"),
        *("ListModels", "Prefetch", "GetReport", "GetFigures"),
    ),
    SERVICE: ("ModelReady", "ModelMetadata", "RepositoryIndex"),
    RIVA: ("Synthesize", "SynthesizeOnline"),
}
_WATCHING: dict[str, tuple[str, ...]] = {  # they have no end, so a key is needed
    health.SERVICE_NAME: ("Watch",),
    reflection.SERVICE_NAME: ("ServerReflectionInfo",),
}
_PROBES: dict[str, tuple[str, ...]] = {
    SERVICE: ("ServerLive", "ServerReady"),
    health.SERVICE_NAME: ("Check", "List"),
}


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Pass a call on to its servicer, or end it with the status that says why not."""

    def __init__(self, keys: Keys, settings: WorkerSettings, admission: Admission) -> None:
        self._keys = keys
        self._calls = AdmittedCalls()
        self.silent = self._calls.silent
        """Calls whose message has not come."""
        self._slots = {
            **dict.fromkeys(_roles(_WATCHING, Role.SPEAK), admission.watches),
            **dict.fromkeys(_roles(_PROBES, Role.NOBODY)),
        }
        self._others = admission.calls
        looking = Role.NOBODY if settings.public_discovery else Role.SPEAK
        self._roles = {
            **_roles(_SPEAKING, Role.SPEAK),
            **_roles(_WATCHING, Role.SPEAK),
            **_roles(_PROBES, Role.NOBODY),
            f"/{SERVICE_NAME}/GetCapabilities": looking,
            f"/{SERVICE}/ServerMetadata": looking,
            f"/{RIVA}/GetRivaSynthesisConfig": looking,
        }

    async def intercept_service(
        self, continuation: _Continue, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the handler of the call, or one that refuses it."""
        metadata = handler_call_details.invocation_metadata or ()
        said = [str(value) for key, value in metadata if key == "authorization"]
        method = handler_call_details.method
        role = self._roles.get(method, Role.ADMIN)
        try:
            caller = self._keys.admit(said, role)
        except ModelManagerError as error:
            return _refusal(status_of(error))
        CALLER.set(caller)
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return self._calls.handler(handler, caller, self._slots.get(method, self._others))


def _roles(services: dict[str, tuple[str, ...]], role: Role) -> dict[str, Role]:
    return {f"/{name}/{call}": role for name, calls in services.items() for call in calls}


def _refusal(status: status_pb2.Status) -> Any:
    """Return a handler that ends a call of any kind before reading anything of it."""

    async def refuse(requests: Any, context: Any) -> None:
        await context.abort_with_status(rpc_status.to_status(status))

    return grpc.stream_stream_rpc_method_handler(refuse)
