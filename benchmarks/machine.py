"""Where the figures come from: processor, memory, versions, and how busy the machine was."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from greenroom.memory.usage import MIB, limit_bytes

_PACKAGES = (
    "greenroom",
    "async-lru",
    "piper-tts",
    "wyoming-piper",
    "streaming-vits",
    "uvicorn",
    "onnxruntime",
    "numpy",
)


def described() -> list[str]:
    """Return the machine and the versions, a line each; absolute times belong to these."""
    versions = ", ".join(f"{package} {_version(package)}" for package in _PACKAGES)
    return [
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, "
        f"{limit_bytes() / MIB / 1024:.1f} GB of memory",
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {versions}",
    ]


def load_average() -> float:
    """Return how many threads wanted to run in the last minute; above the cores means noise."""
    return os.getloadavg()[0]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
