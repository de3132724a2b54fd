"""From what the ledger refuses to the error that a caller gets."""

from __future__ import annotations

from greenroom.errors import (
    CapacityError,
    LoadTimeoutError,
    ManagerClosedError,
    ModelLoadError,
    ModelManagerError,
    WarmupError,
)
from greenroom.ledger.state import Reason, Refused

_KINDS = (WarmupError, LoadTimeoutError)


def refusal(decision: Refused, error: ModelLoadError | None = None) -> ModelManagerError:
    """Return the error for one caller; callers share the cause, not the error."""
    model_id, wait = decision.ticket.model_id, decision.retry_after
    match decision.reason:
        case Reason.SHUTDOWN:
            return ManagerClosedError("the manager is shutting down; ask another worker.")
        case Reason.LOAD_FAILED if error is not None:
            kind = next((kind for kind in _KINDS if isinstance(error, kind)), ModelLoadError)
            own = kind(model_id, error.problem, wait)
            own.__cause__ = error.__cause__
            return own
        case Reason.BACKING_OFF | Reason.LOAD_FAILED:
            return ModelLoadError(model_id, decision.problem, wait)
    return CapacityError(model_id, decision.reason, wait)
