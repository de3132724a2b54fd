"""Prepared voices: kept on disk in the form that loads fastest, and found again by content."""

import os

# onnxruntime reports home from the moment it is imported; what is spoken here is nobody's business.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from greenroom.adapters.piper.prepared.store.identity import (
    SourceChangedError,
    SourceSeen,
    StoreError,
)
from greenroom.adapters.piper.prepared.store.index import Tensor
from greenroom.adapters.piper.prepared.store.store import Entry, PreparedFiles, Store, default_root

__all__ = [
    "Entry",
    "PreparedFiles",
    "SourceChangedError",
    "SourceSeen",
    "Store",
    "StoreError",
    "Tensor",
    "default_root",
]
