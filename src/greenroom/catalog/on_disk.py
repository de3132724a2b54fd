"""What lists say of a model on the disk: how large it is, whether its prepared form is kept."""

from __future__ import annotations

from pathlib import Path

from greenroom.adapter import ModelSpec
from greenroom.catalog import registry
from greenroom.untrusted.logs import safe_logger
from greenroom.untrusted.printable import error_message

logger = safe_logger(__name__)


def size_of(spec: ModelSpec) -> int | None:
    """Return the bytes of the model's main file; `None` where it has none, or it is not there."""
    if spec.path is None:
        return None
    try:
        path = Path(spec.path)
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        return None


def is_prepared(spec: ModelSpec) -> bool | None:
    """Return whether a form of the model that loads faster is kept; `None` if it can have none."""
    try:
        preparation = registry.resolve(spec.adapter).preparation
        kept = None if preparation is None else preparation.is_prepared(spec)
        return None if kept is None else bool(kept)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - an adapter is anybody's code; the list goes on
        logger.warning("model %s: is_prepared raised: %s", spec.model_id, error_message(error))
        return None
