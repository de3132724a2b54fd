"""What could be loaded: the catalog of models, the registry of adapters, and discovery on disk."""

from __future__ import annotations

from greenroom.catalog.catalog import Catalog

__all__ = ["Catalog"]
