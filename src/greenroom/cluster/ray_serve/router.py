"""Ray Serve's router that sends a request where its voice is: `rank`, on what replicas report.

Of Ray's interface for routers, which is alpha, as it is in the pinned minor version.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from greenroom.cluster.route_memory import Request, RouteMemory

_PROBE_S = 2.0
"""How long a replica may take to say how many requests it has: by default 0.1 s, after which a busy
machine would have the request sent where the voice is not."""


class ResidencyRouter(RequestRouter):  # type: ignore[misc]
    """Sends a request to the replica in which its voice is expected to be heard first.

    The voice is the `multiplexed_model_id` of a call, the session its `session_id`; a call with
    neither goes where least is in flight.
    """

    queue_len_response_deadline_s = _PROBE_S
    max_queue_len_response_deadline_s = _PROBE_S

    def initialize_state(self, **settings: Any) -> None:
        """Begin with nothing known; `settings` are those of `RouteMemory`."""
        self._memory = RouteMemory(**settings)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take what replicas have reported, and forget those that have gone."""
        told = {_name(each.replica_id): each.routing_stats or {} for each in replicas}
        self._memory.hear(told, time.monotonic(), time.time())
        super().update_replicas(replicas)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Return ranks of replicas, the best first; one that takes no more is passed over."""
        if pending_request is None:
            return [candidate_replicas]
        # Ray asks again at once, without end, where this is not set.
        pending_request.routing_context.should_backoff = True
        candidates = {_name(each.replica_id): each for each in candidate_replicas}
        request = _request(pending_request)
        ranks = self._memory.order(request, list(candidates), time.monotonic())
        pending_request.future.add_done_callback(lambda future: self._decided(request, future))
        return [[candidates[name] for name in names] for names in ranks]

    def _decided(self, request: Request, future: asyncio.Future[Any]) -> None:
        """Count a request no longer whose caller has left before it was sent."""
        if future.cancelled():
            self._memory.forget(request.request_id)

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any
    ) -> None:
        """Note which replica has taken a request."""
        self._memory.sent(_request(pending_request), _name(replica_id), time.monotonic())

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Count it no longer."""
        self._memory.ended(internal_request_id, _name(replica_id), time.monotonic())

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Send nothing there any more."""
        self._memory.lost(_name(replica_id))
        super().on_replica_actor_died(replica_id)

    def on_replica_actor_unavailable(self, replica_id: ReplicaID) -> None:
        """Send nothing there until it reports again."""
        self._memory.lost(_name(replica_id))
        super().on_replica_actor_unavailable(replica_id)


def _request(pending: PendingRequest) -> Request:
    said = pending.metadata
    return Request(said.internal_request_id, said.multiplexed_model_id, said.session_id)


def _name(replica_id: ReplicaID) -> str:
    return str(replica_id.unique_id)
