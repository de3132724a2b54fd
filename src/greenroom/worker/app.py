"""The composition root: from a configuration to a process that serves until it is told to stop.

It listens first and loads afterwards: an address in use is known at once, and probes are answered
(NOT_SERVING) while the default model is loading.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self

import grpc
from grpc_reflection.v1alpha import reflection

from greenroom.catalog.catalog import Catalog
from greenroom.catalog.default_voice import with_default
from greenroom.concurrency.tasks import Tasks, race
from greenroom.config.address import Address
from greenroom.config.messages import summary
from greenroom.config.schema import Config
from greenroom.errors import ConfigError
from greenroom.model_manager import ModelManager
from greenroom.untrusted.logs import safe_logger
from greenroom.v1 import tts_pb2_grpc
from greenroom.worker.admission import Admission
from greenroom.worker.auth import Keys
from greenroom.worker.catalog_refresh import CatalogRefresh
from greenroom.worker.grpc import MAX_MESSAGE_BYTES
from greenroom.worker.grpc.auth import AuthInterceptor
from greenroom.worker.grpc.health import Health
from greenroom.worker.grpc.reflection_pool import SERVICE_NAMES, reflection_pool
from greenroom.worker.grpc.riva_service import RivaServicer
from greenroom.worker.grpc.triton_service import InferenceServicer
from greenroom.worker.grpc.tts_service import SERVICE_NAME, TTSServicer
from greenroom.worker.http.app import Application, create_app
from greenroom.worker.http.server import HttpServer
from greenroom.worker.http.upkeep import Upkeep
from greenroom.worker.listen import bind_grpc, connection_limit, raise_limit
from greenroom.worker.pulls import Pulls
from greenroom.worker.reload import Reload
from greenroom.worker.settings_check import worker_problems
from greenroom.worker.signals import ended_by_signals
from greenroom.worker.synthesis import Synthesis
from greenroom.worker.systemd import Systemd

if TYPE_CHECKING:
    from greenroom.worker.wyoming.wyoming_server import WyomingServer

logger = safe_logger(__name__)

_OPTIONS = (
    ("grpc.so_reuseport", 0),  # two workers on one address are an error, not a lottery
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),  # so that a caller whose network died is noticed
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),  # its client connects again when it calls
    ("grpc.max_concurrent_streams", 4_096),  # of one connection; more wait at their client
    ("grpc.server.max_pending_requests", 8_192),  # beyond it gRPC drops calls at random
    ("grpc.server.max_pending_requests_hard_limit", 16_384),
)
_MOST_CALLS = 65_536
"""Calls at once, refused ones too until their status is sent; far above what `Admission` allows, as
gRPC counts without regard to keys."""

_GRACE_S = 1.0
"""How long calls may take to write their last words."""

_OPEN = "listening on %s without authentication: whoever reaches it may use it"

_FOLLOWERS_S = 2.0
"""How long what follows events and directories may take to end, beside the rest."""

_HURRY_S = 2.0
"""How long stopping takes at most after a second signal."""


class Worker:
    """A manager behind gRPC, HTTP and Wyoming. `listen`, `initialize`, and in the end `stop`.

    Where calls come in by other means than an address, `begin` is in the place of `listen`, and
    they go to `app` and to what `add_services` is given.
    """

    def __init__(
        self,
        config: Config,
        manager: ModelManager,
        *,
        follows: bool = False,
        reread: Callable[[], Config] | None = None,
    ) -> None:
        """`follows`: its catalog is the configuration's, and follows that and the directories.

        `reread` reads the configuration again as the start did. Raises `ConfigError` for settings
        that cannot work.
        """
        self.config = config
        self.manager = manager
        _check(config, manager.catalog)
        self.synthesis = Synthesis(manager, config.worker)
        self.keys = Keys(config.worker, self.synthesis.metrics.refused)
        """Who may call."""
        self.address = config.worker.listen
        """Where it listens; with the real port once it does."""
        self.admission = Admission(config.worker, self.synthesis.metrics.refused)
        """What callers use of it now."""
        self.interceptor = AuthInterceptor(self.keys, config.worker, self.admission)
        self._health = Health(
            manager,
            self.synthesis.readiness,
            SERVICE_NAME,
            public_discovery=config.worker.public_discovery,
        )
        self._server: grpc.aio.Server | None = None
        self._followers = Tasks()
        self.catalog_refresh = CatalogRefresh(manager, config)
        self.reload: Reload | None = None
        self.pulls: Pulls | None = None
        if follows:
            self.reload = Reload(config, self.synthesis, self.keys, self.catalog_refresh, reread)
            self.pulls = Pulls(lambda: self.catalog_refresh.voices, self.catalog_refresh)
        self._http: HttpServer | None = None
        if config.worker.http_listen is not None:
            app, address = self.app(), config.worker.http_listen
            self._http = HttpServer(app, address, grace_s=math.ceil(_GRACE_S))
        self.wyoming_server = _wyoming_server(config, self.synthesis, self.admission)
        """What serves Wyoming; `None` when it is not served."""

    @classmethod
    async def create(
        cls,
        config: Config,
        catalog: Catalog | None = None,
        *,
        follows: bool = True,
        reread: Callable[[], Config] | None = None,
    ) -> Self:
        """Build everything and start nothing; raises `ConfigError`.

        `catalog` is the configuration's, where it is known already: voices are looked for once.
        """
        return await asyncio.to_thread(cls._create, config, catalog, follows, reread)

    @classmethod
    def _create(
        cls,
        config: Config,
        catalog: Catalog | None,
        follows: bool,
        reread: Callable[[], Config] | None,
    ) -> Self:
        known = Catalog.from_config(config) if catalog is None else catalog
        config = with_default(config, known)
        manager = ModelManager.from_settings(config.model_manager, known)
        return cls(config, manager, follows=follows, reread=reread)

    def app(self) -> Application:
        """Return the application that answers over HTTP."""
        upkeep = (
            None if self.reload is None or self.pulls is None else Upkeep(self.reload, self.pulls)
        )
        return create_app(self.synthesis, self.keys, self.admission, upkeep)

    @property
    def http_server(self) -> HttpServer | None:
        """What serves HTTP; `None` when it is not served."""
        return self._http

    @property
    def http_address(self) -> Address | None:
        """Where HTTP is served; `None` when it is not."""
        return None if self._http is None else self._http.address

    async def listen(self) -> None:
        """Begin to answer; raises `ConfigError` when the address cannot be had."""
        server = grpc.aio.server(
            interceptors=[self.interceptor],
            options=(*_OPTIONS, ("grpc.max_allowed_incoming_connections", connection_limit())),
            maximum_concurrent_rpcs=_MOST_CALLS,
        )
        self.add_services(server)
        reflection.enable_server_reflection(SERVICE_NAMES, server, reflection_pool())
        self.address = await bind_grpc(server, self.address)
        self.begin()
        await server.start()
        self._server = server
        logger.info("listening on %s", self.address)
        if self._http is not None:
            await self._http.listen()
        if self.wyoming_server is not None:
            await self.wyoming_server.listen()
        self.synthesis.address, self.synthesis.http_address = self.address, self.http_address
        self._warn()

    def add_services(self, server: Any) -> None:
        """Add all services to a server, or to what takes them as a server does."""
        tts_pb2_grpc.add_TTSServiceServicer_to_server(TTSServicer(self.synthesis), server)
        InferenceServicer(self.synthesis).add_to(server)
        RivaServicer(self.synthesis).add_to(server)
        self._health.add_to(server)

    def begin(self) -> None:
        """Begin to follow what the manager does; `listen` does so itself."""
        self._health.begin()
        self._followers.begin(self.synthesis.metrics.manager.follow(), "follower")
        self._followers.begin(self.synthesis.reporter.follow(), "follower")
        self._followers.begin(self.synthesis.history.follow(), "history")

    def _warn(self) -> None:
        for address in (self.address, self.http_address):
            if address is not None and not (address.is_loopback or self.keys):
                logger.warning(_OPEN, address)
        wyoming = None if self.wyoming_server is None else self.wyoming_server.address
        if wyoming is not None and not wyoming.is_loopback:
            logger.warning(_OPEN, wyoming)
        elif wyoming is not None and self.keys:
            logger.warning(
                "listening on %s for Wyoming, which has no keys: every program of this machine may "
                "speak there",
                wyoming,
            )

    async def initialize(self) -> None:
        """Load what is loaded at the start, then say that the worker is ready."""
        await self.manager.initialize()
        self._followers.begin(self.synthesis.default_model.follow(), "follower")
        if self.reload is not None and self.config.voices.watch:
            self._followers.begin(self.catalog_refresh.follow(), "follower")
        self._health.ready()
        logger.info("ready: %r", self.manager)

    def read_again(self) -> None:
        """Begin to read the configuration again, as at SIGHUP; what comes of it is logged."""
        if self.reload is not None:
            self._followers.begin(self.reload.run_unasked(), "reload")

    async def stop(self) -> None:
        """Refuse new calls, let running speech end up to the drain time-out, unload, leave."""
        logger.info("stopping: %r", self.synthesis)
        await self._health.drain()
        following = asyncio.ensure_future(self._followers.end(_FOLLOWERS_S))
        if self.pulls is not None:
            await self.pulls.end()
        if self.reload is not None:
            self.reload.end()
        await self.catalog_refresh.end()
        await self.synthesis.drain(self.config.worker.drain_timeout_ms / 1000)
        await self.manager.shutdown(drain_timeout_ms=0)
        endings: list[Awaitable[None]] = [following]
        if self._server is not None:
            endings.append(self._server.stop(_GRACE_S))
        if self._http is not None:
            endings.append(self._http.stop())
        if self.wyoming_server is not None:
            endings.append(self.wyoming_server.stop(_GRACE_S))
        await asyncio.gather(*endings)
        logger.info("stopped")


def _check(config: Config, catalog: Catalog) -> None:
    problems = tuple(worker_problems(config.worker, catalog))
    if problems:
        raise ConfigError(summary(list(problems)), problems=problems)


def _wyoming_server(
    config: Config, synthesis: Synthesis, admission: Admission
) -> WyomingServer | None:
    if config.worker.wyoming_listen is None:
        return None
    from greenroom.worker.wyoming.wyoming_server import WyomingServer  # it needs an extra

    return WyomingServer(synthesis, admission, config.worker)


async def serve(
    config: Config,
    ready: Callable[[Worker], None] | None = None,
    *,
    listening: Callable[[Worker], None] | None = None,
    catalog: Catalog | None = None,
    reread: Callable[[], Config] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second one hurries, a third ends at once.

    SIGHUP has the configuration read again, by `reread`; that of a terminal which closes drains.
    Where systemd started the process, it is told when the worker is ready and when it ends, and
    that its event loop turns.

    `listening` is called when the address is bound, `ready` when the start is over; `catalog` is
    the configuration's, where it is known already. Raises `ConfigError`, or what
    `ModelManager.initialize` raises.
    """
    raise_limit()
    worker = await Worker.create(config, catalog, reread=reread)
    stop, hurry = asyncio.Event(), asyncio.Event()
    systemd = Systemd.from_environment(os.environ, os.getpid())
    async with systemd.watched():
        with ended_by_signals(stop, hurry, worker.read_again):
            try:
                await worker.listen()
                systemd.starting("loading the first models")
                if listening is not None:
                    listening(worker)
                if await race(_initialized(worker), _stopped(stop), name="start"):
                    systemd.ready(f"listening on {_places(worker)}")
                    if ready is not None:
                        ready(worker)
                await stop.wait()
            finally:
                systemd.stopping()
                await _stop(worker, hurry)


def _places(worker: Worker) -> str:
    http = worker.http_address
    return str(worker.address) if http is None else f"{worker.address} and {http.url}"


async def _stop(worker: Worker, hurry: asyncio.Event) -> None:
    async def cut_when_hurried() -> None:
        await hurry.wait()
        logger.warning("stopping at once")
        worker.synthesis.cut()
        await asyncio.sleep(_HURRY_S)

    await race(worker.stop(), cut_when_hurried(), name="stop")


async def _initialized(worker: Worker) -> bool:
    await worker.initialize()
    return True


async def _stopped(stop: asyncio.Event) -> bool:
    await stop.wait()
    return False
