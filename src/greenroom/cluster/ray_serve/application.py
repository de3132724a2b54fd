"""The application that Ray Serve runs: replicas of the worker, and the way in.

`build` is what a Serve config file names as its `import_path`; `greenroom cluster up` runs the same
on one machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from greenroom.cluster.ray_serve.ingress import Ingress
from greenroom.cluster.ray_serve.replica import SpeechReplica
from greenroom.config.schema import Config, load_config

APPLICATION = "greenroom"
"""The name of the application."""

SPEECH = "speech"
"""The name of the deployment whose replicas have the voices."""

GRPC_SERVICES = ["greenroom.v1.tts_pb2_grpc.add_TTSServiceServicer_to_server"]
"""What Ray's gRPC proxies are told to pass on."""

REPORT_EVERY_S = 0.5
"""How often Ray's controller asks a replica for its report."""

_ROUTER = "greenroom.cluster.ray_serve.router:ResidencyRouter"
_POLICY = "greenroom.cluster.replica_count:replica_count"

_SPARE_CALLS = 64
"""Calls at once beside what a worker's streams need: it refuses in words, Ray by waiting."""

_INGRESS_CALLS = 8_192
"""Calls at once through one replica of the way in."""

_STOP_S = 15.0
"""What stopping takes beyond the speech that runs to its end."""

_LOOK_BACK_S = 15.0
"""Over how long is averaged what replicas say of themselves: longer than the 10 s between two times
that Ray has them say it, as Ray asks for."""

_LOOK_S = 0.25
"""How often a replica that is about to leave looks whether its calls have ended."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many replicas there are: a number, or bounds between which they come and go."""

    least: int
    most: int

    @property
    def is_fixed(self) -> bool:
        """Whether it is a number."""
        return self.least == self.most


def application(
    config: Config, size: Size, *, cpus: float = 0.0, ingresses: int = 1, **router: Any
) -> Any:
    """Return the application, for `serve.run`.

    Each replica reserves so many of Ray's `cpus`; settings of the `router` are `RouteMemory`'s.
    """
    options = speech_options(config, cpus=cpus, **router) | _count(size)
    speech = serve.deployment(SpeechReplica, **options).bind(config)
    return behind_ingress(speech, config, ingresses)


def speech_options(config: Config, *, cpus: float = 0.0, **router: Any) -> dict[str, Any]:
    """Return the options of the deployment that speaks, except how many replicas it has."""
    settings = config.worker
    return {
        "name": SPEECH,
        "max_ongoing_requests": settings.max_streams + settings.max_sessions + _SPARE_CALLS,
        "graceful_shutdown_timeout_s": settings.drain_timeout_ms / 1000 + _STOP_S,
        "graceful_shutdown_wait_loop_s": _LOOK_S,
        "ray_actor_options": {"num_cpus": cpus},
        "request_router_config": RequestRouterConfig(
            request_router_class=_ROUTER,
            request_router_kwargs={"most_in_flight": settings.max_streams} | router,
            request_routing_stats_period_s=REPORT_EVERY_S,
        ),
    }


def behind_ingress(speech: Any, config: Config, ingresses: int = 1) -> Any:
    """Return the application whose way in leads to a deployment that speaks."""
    ingress = serve.deployment(
        Ingress,
        name="ingress",
        num_replicas=ingresses,
        max_ongoing_requests=_INGRESS_CALLS,
        ray_actor_options={"num_cpus": 0},
    )
    return ingress.bind(speech, config)


def _count(size: Size) -> dict[str, Any]:
    if size.is_fixed:
        return {"num_replicas": size.least}
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=size.least,
            max_replicas=size.most,
            look_back_period_s=_LOOK_BACK_S,
            policy=AutoscalingPolicy(policy_function=_POLICY),
        )
    }


class _Arguments(BaseModel):
    """The `args` of the application in a Serve config file."""

    model_config = ConfigDict(extra="forbid")

    config: Path | None = None
    """Of the workers; each machine has it at this place, and the voices that it names."""
    replicas: int = Field(2, ge=1)
    most_replicas: int | None = Field(None, ge=1)
    """Above `replicas`: they come and go between the two."""
    cpus: float = Field(1.0, ge=0)
    """That a replica reserves."""
    ingresses: int = Field(1, ge=1)


def build(arguments: Mapping[str, Any]) -> Any:
    """Return the application for the `args` of a Serve config file.

    Raises pydantic's `ValidationError` for arguments that cannot be, and `ConfigError`.
    """
    asked = _Arguments.model_validate(dict(arguments))
    size = Size(asked.replicas, max(asked.replicas, asked.most_replicas or 0))
    config = load_config(asked.config)
    return application(config, size, cpus=asked.cpus, ingresses=asked.ingresses)
