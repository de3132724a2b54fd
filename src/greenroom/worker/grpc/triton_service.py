"""`inference.GRPCInferenceService`, as far as it is about models: Triton's and KServe's clients."""

from __future__ import annotations

from typing import Any

import grpc

from greenroom.worker.auth import CALLER, owner_of
from greenroom.worker.grpc.errors import answered
from greenroom.worker.grpc.triton_messages import CALLS, SERVICE, message
from greenroom.worker.model_repository import READY, Repository
from greenroom.worker.synthesis import Synthesis

_Context = grpc.aio.ServicerContext[Any, Any]


class InferenceServicer:
    """Translates, and nothing else; the calls are named by the protocol."""

    def __init__(self, synthesis: Synthesis) -> None:
        self._synthesis = synthesis
        self._repository = Repository(synthesis)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the calls."""
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                getattr(self, name),
                request_deserializer=message(f"{name}Request").FromString,
                response_serializer=message(f"{name}Response").SerializeToString,
            )
            for name in CALLS
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    @answered
    async def ServerLive(self, request: Any, context: _Context) -> Any:  # noqa: N802
        """Say that the worker answers at all."""
        return message("ServerLiveResponse")(live=True)

    @answered
    async def ServerReady(self, request: Any, context: _Context) -> Any:  # noqa: N802
        """Say whether work should be sent here."""
        return message("ServerReadyResponse")(ready=self._synthesis.readiness.verdict().ready)

    @answered
    async def ModelReady(self, request: Any, context: _Context) -> Any:  # noqa: N802
        """Say whether a model is in memory, ready to speak."""
        state = self._repository.state_of(request.name, request.version)
        return message("ModelReadyResponse")(ready=state == READY)

    @answered
    async def ServerMetadata(self, request: Any, context: _Context) -> Any:  # noqa: N802
        """Say what this server is."""
        return message("ServerMetadataResponse")(**self._repository.server())

    @answered
    async def ModelMetadata(self, request: Any, context: _Context) -> Any:  # noqa: N802
        """Say what a model is."""
        return message("ModelMetadataResponse")(
            **self._repository.model(request.name, request.version)
        )

    @answered
    async def RepositoryIndex(self, request: Any, context: _Context) -> Any:  # noqa: N802
        """Return every model with its state and why."""
        models = await self._repository.index(only_ready=request.ready)
        return message("RepositoryIndexResponse")(models=models)

    @answered
    async def RepositoryModelLoad(self, request: Any, context: _Context) -> Any:  # noqa: N802
        """Bring a model into memory, keeping no reference."""
        owner = owner_of("RepositoryModelLoad", CALLER.get(), context.peer())
        changed = bool(request.parameters)
        await self._repository.load(request.model_name, owner=owner, changed=changed)
        return message("RepositoryModelLoadResponse")()

    @answered
    async def RepositoryModelUnload(self, request: Any, context: _Context) -> Any:  # noqa: N802
        """Let a model go once its holders are done."""
        await self._repository.unload(request.model_name)
        return message("RepositoryModelUnloadResponse")()
