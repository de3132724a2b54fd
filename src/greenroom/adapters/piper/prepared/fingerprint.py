"""The fingerprint of engine and processor, which a prepared graph is bound to."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import platform
from pathlib import Path

_FORMAT = 5
"""Of what this package writes; raised when an older one can no longer be read."""


@functools.cache
def runtime() -> str:
    """Return a text that differs whenever a graph must be prepared anew."""
    features = hashlib.sha256(_processor().encode()).hexdigest()[:12]
    return f"{_engine()}, {platform.system()} {platform.machine()} {features}, {_FORMAT}"


def _engine() -> str:
    """Return the versions of all packages that may have brought onnxruntime; often it is one."""
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return " ".join(found)


def _processor() -> str:
    """Return the processor's features, as the system lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    listed = [line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))]
    return " ".join(sorted(set(listed[0].split()))) if listed else platform.processor()
