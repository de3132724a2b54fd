"""A cluster on one machine: Ray, started and ended with a block, and the application on it."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import socket
import time
from collections.abc import Iterator
from typing import Any

from greenroom.config.schema import Config
from greenroom.errors import ConfigError
from greenroom.memory.usage import DEFAULT_SHARE, MIB, limit_bytes

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",
    "RAY_raylet_start_wait_time_s": "180",
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_worker_register_timeout_seconds": "180",
    "RAY_gcs_server_request_timeout_seconds": "180",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Of Ray and all that it starts, where nothing else is set: nothing reports home, nobody else gets
in, what speaks is as urgent as other programs (Ray's default is the nice value 15), and a busy
machine is waited for.

Whoever is let in at Ray's own ports can run code. On systems for which it has no clusters of
machines they are at the loopback address, and `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER` makes this one of
them. Those of Serve's replicas are at all addresses even so: they ask for the token."""

_STORE_BYTES = 150 * MIB
"""For what processes hand to each other: requests, and audio that is about to be sent."""

_START_S = 180.0
"""How long Ray's own processes may take to come up: four seconds on an idle machine."""

_PAUSE_S = 0.1

_PORTS = ("metrics_agent_port", "runtime_env_agent_port", "dashboard_agent_listen_port")
"""Of Ray's agents."""


@contextlib.contextmanager
def local_ray() -> Iterator[None]:
    """Run Ray inside the block; raises what Ray raises when it does not come up."""
    for name, value in (*_ENVIRONMENT.items(), ("RAY_AUTH_TOKEN", secrets.token_hex(32))):
        os.environ.setdefault(name, value)
    import ray  # reads the environment

    try:
        with _least_processes():
            ray.init(
                address="local",
                num_cpus=os.cpu_count(),
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                log_to_driver=False,
                configure_logging=False,
                _metrics_export_port=_free_ports(1)[0],
            )
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _least_processes() -> Iterator[None]:
    """Have Ray start only what a cluster of one machine needs inside the block, and patiently.

    Ray has no settings for these in the pinned version. Its raylet is given 30 s to come up and its
    agents 15 s to say at which ports they are, which a busy machine exceeds: here the first
    question waits for the answer, and ports are chosen before. Its dashboard, its log monitor and
    its autoscaler of machines are processes of Python that nobody here asks.
    """
    from ray._private import parameter, services
    from ray._raylet import DASHBOARD_AGENT_LISTEN_PORT_NAME, persist_port

    replaced = services.get_node, services.start_api_server, services.start_raylet
    ask, _, start_raylet = replaced
    parameters = parameter.RayParams

    def until_answered(*arguments: Any, **named: Any) -> Any:
        end = time.monotonic() + _START_S
        while True:
            try:
                return ask(*arguments, **named)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(_PAUSE_S)

    def with_port_known(*arguments: Any, **named: Any) -> Any:
        node_id, session = arguments[2], arguments[11]
        port = named["dashboard_agent_listen_port"]
        persist_port(session, node_id, DASHBOARD_AGENT_LISTEN_PORT_NAME, port)
        return start_raylet(*arguments, **named)

    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    services.get_node = until_answered
    services.start_api_server = lambda *_, **__: (None, None)
    services.start_raylet = with_port_known
    parameter.RayParams = functools.partial(
        parameters, no_monitor=True, include_log_monitor=False, **ports
    )
    try:
        yield
    finally:
        services.get_node, services.start_api_server, services.start_raylet = replaced
        parameter.RayParams = parameters


def _free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in taken]


@contextlib.contextmanager
def local_cluster(
    config: Config, least: int, most: int, *, speaks_grpc: bool = False, **router: Any
) -> Iterator[Any]:
    """Serve at the configuration's addresses inside the block; yields the application's handle.

    At its end running speech has the configured time. Raises `ConfigError` for an address that
    cannot be had, `RuntimeError` when replicas do not start.
    """
    address = config.worker.http_listen
    if address is None or address.path:
        raise ConfigError("worker.http_listen must be a host and a port for a cluster.")
    with local_ray():
        from ray import serve
        from ray.serve.config import HTTPOptions, gRPCOptions

        from greenroom.cluster.ray_serve.application import (
            APPLICATION,
            GRPC_SERVICES,
            Size,
            application,
        )

        services = GRPC_SERVICES if speaks_grpc else []
        serve.start(
            http_options=HTTPOptions(host=address.host, port=address.port),
            grpc_options=gRPCOptions(
                port=config.worker.listen.port, grpc_servicer_functions=services
            ),
        )
        try:
            asked = application(sharing_memory(config, most), Size(least, most), **router)
            yield serve.run(asked, name=APPLICATION, route_prefix="/")
        finally:
            serve.shutdown()


def sharing_memory(config: Config, replicas: int) -> Config:
    """Return the configuration of each of several replicas on one machine.

    Where no budget is set, models may take the default share of its memory, all together.
    """
    settings = config.model_manager
    if settings.memory_budget_mb is not None:
        return config
    share = limit_bytes() * DEFAULT_SHARE / MIB / replicas
    chosen = settings.model_copy(update={"memory_budget_mb": share})
    return config.model_copy(update={"model_manager": chosen})
