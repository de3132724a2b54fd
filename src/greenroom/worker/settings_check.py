"""Check the worker's settings against each other and the catalog, before anything listens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

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


def _is_safe(address: Address, settings: WorkerSettings) -> bool:
    return address.is_loopback or bool(settings.api_keys) or settings.allow_unauthenticated
