"""Check the worker's settings against each other and the catalog, before anything listens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec

from greenroom.catalog.catalog import Catalog
from greenroom.config.address import Address
from greenroom.config.schema import WorkerSettings
from greenroom.errors import ModelNotFoundError


def worker_problems(settings: WorkerSettings, catalog: Catalog) -> Iterator[str]:
    """Yield a sentence for each, with the key and the fix."""
    for key, address in (("listen", settings.listen), ("http_listen", settings.http_listen)):
        if address is not None and not _is_safe(address, settings):
            yield (
                f"worker.{key}: {address} can be reached by others and there are no keys; add "
                "worker.api_keys, listen on 127.0.0.1, or set worker.allow_unauthenticated."
            )
    yield from _wyoming_problems(settings)
    names = Counter(key.name for key in settings.api_keys if key.name)
    for name, count in names.items():
        if count > 1:
            yield f"worker.api_keys: {count} keys have the name {name!r}; rename all but one."
    secrets = Counter(key.key.get_secret_value() for key in settings.api_keys)
    if secrets and max(secrets.values()) > 1:
        yield "worker.api_keys: one key is there twice; remove one."
    for alias, target in settings.aliases.items():
        if target is not None:
            try:
                catalog.get(target)
            except ModelNotFoundError as error:
                yield f"worker.aliases.{alias}: {error}"


def _wyoming_problems(settings: WorkerSettings) -> Iterator[str]:
    address = settings.wyoming_listen
    if address is None:
        if settings.wyoming_zeroconf:
            yield "worker.wyoming_zeroconf: nothing to announce; set worker.wyoming_listen."
        return
    # Keys do not help: the protocol has none.
    if not address.is_loopback and not settings.allow_unauthenticated:
        yield (
            f"worker.wyoming_listen: {address} can be reached by others, and Wyoming has no keys; "
            "listen on 127.0.0.1, or set worker.allow_unauthenticated."
        )
    if settings.wyoming_zeroconf and address.is_loopback:
        yield (
            f"worker.wyoming_zeroconf: others cannot reach {address}; set worker.wyoming_listen to "
            "an address of the network, such as 0.0.0.0:10200."
        )
    for key, library in (("listen", "wyoming"), ("zeroconf", "zeroconf")):
        if getattr(settings, f"wyoming_{key}") and not find_spec(library):
            yield (
                f"worker.wyoming_{key}: {library} is not installed; "
                f"run `pip install 'greenroom[{library}]'`."
            )


def _is_safe(address: Address, settings: WorkerSettings) -> bool:
    return address.is_loopback or bool(settings.api_keys) or settings.allow_unauthenticated
