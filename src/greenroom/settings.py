"""From settings, as users write them, to the policy the ledger decides by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from greenroom import memory
from greenroom.catalog import Catalog
from greenroom.config import ManagerSettings, first_problem
from greenroom.devices import CPU
from greenroom.errors import ConfigError, ModelNotFoundError
from greenroom.residents import Policy


def checked_settings(catalog: Catalog, **given: Any) -> ManagerSettings:
    """Return the settings, or raise `ConfigError` for what cannot work with this catalog."""
    try:
        settings = ManagerSettings(**given)
    except ValidationError as error:
        raise ConfigError(first_problem(error)) from None
    check_ids(settings, catalog)
    return settings


def check_ids(settings: ManagerSettings, catalog: Catalog) -> None:
    """Raise `ConfigError` for a default or preload id that is not in the catalog."""
    for key in ("default_model_id", "preload_model_ids"):
        value = getattr(settings, key)
        for model_id in [value] if isinstance(value, str) else value:
            try:
                catalog.get(model_id)
            except ModelNotFoundError as error:
                raise ConfigError(f"{key}: {error}") from None


def budgets_for(settings: ManagerSettings, devices: Iterable[str]) -> dict[str, int]:
    """Return the bytes that models may take of each device.

    `memory_budget_mb` is of the machine's memory; of a GPU's it is always the default share.
    """
    given = settings.memory_budget_mb
    if given is None:
        budget = int(memory.limit_bytes() * memory.DEFAULT_SHARE)
    else:
        budget = int(given * memory.MIB)
    shares = {device: memory.share_on(device) for device in devices}
    return {device: budget if share is None else share for device, share in shares.items()}


def policy_for(settings: ManagerSettings, catalog: Catalog) -> Policy:
    """Return the ledger's policy: seconds and bytes, a budget for every device of the catalog."""
    return Policy(
        resident_cap=settings.resident_cap,
        cap_policy=settings.cap_policy,
        budgets=budgets_for(settings, {spec.device for spec in catalog} | {CPU}),
        ttl=settings.ttl_ms / 1000,
        min_residency=settings.min_residency_ms / 1000,
        max_parallel_loads=settings.max_parallel_loads,
        acquire_timeout=settings.acquire_timeout_ms / 1000,
    )
