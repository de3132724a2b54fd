"""The ledger's policy and the memory budget of each device, from the settings."""

from __future__ import annotations

from collections.abc import Iterable

from greenroom.catalog.catalog import Catalog
from greenroom.catalog.devices import CPU
from greenroom.config.schema import ManagerSettings
from greenroom.ledger.state import Policy
from greenroom.memory import usage


def budgets_for(settings: ManagerSettings, devices: Iterable[str]) -> dict[str, int]:
    """Return the bytes that models may take of each device.

    `memory_budget_mb` limits the machine's memory; of a GPU models may take the default share.
    """
    given = settings.memory_budget_mb
    if given is None:
        budget = int(usage.limit_bytes() * usage.DEFAULT_SHARE)
    else:
        budget = int(given * usage.MIB)
    shares = {device: usage.gpu_budget_bytes(device) for device in devices}
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
        turn_after=settings.turn_after_ms / 1000,
    )
