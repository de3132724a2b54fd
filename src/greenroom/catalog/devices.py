"""Where a model runs, by name: `cpu`, or `cuda:N`, the N-th GPU of NVIDIA's."""

from __future__ import annotations

import re

from greenroom.errors import ConfigError

CPU = "cpu"

_CUDA = re.compile(r"cuda(?::([0-9]{1,3}))?")


def gpu_of(device: str) -> int | None:
    """Return N for `cuda:N`, 0 for `cuda`, and `None` for a device that is no GPU of NVIDIA's."""
    found = _CUDA.fullmatch(device)
    return int(found[1] or 0) if found else None


def canonical(device: str) -> str:
    """Return the one name of a device, under which its memory is accounted for.

    `cuda` is `cuda:0`. Names of other kinds stay as they are: an adapter may know more devices.
    """
    gpu = gpu_of(device)
    return device if gpu is None else f"cuda:{gpu}"


def parse(device: str) -> str:
    """Return the canonical name of `cpu`, `cuda` or `cuda:N`; raises `ConfigError` for others."""
    name = canonical(device)
    if name != CPU and gpu_of(name) is None:
        raise ConfigError(f"device {device!r} is not known; use cpu, cuda or cuda:N.")
    return name
