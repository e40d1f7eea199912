"""What a person is told who settles an operation that must not be settled, or not in this way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snapshotd.domain.errors import SnapshotdError


@dataclass(eq=False)
class SettleTooEarly(SnapshotdError):
    """The operation is being carried out, or will end by itself: its host answers."""

    reason: ClassVar[str] = "SETTLE_TOO_EARLY"
    text: ClassVar[str] = (
        "Cannot settle {operation}: {why}. Nobody needs to decide what its host will tell. "
        "Wait for it (`snapshotctl operation wait {operation}`)."
    )
    operation: str
    why: str


@dataclass(eq=False)
class SettleRefused(SnapshotdError):
    """The operation cannot be settled like this. `why` ends with what to do."""

    reason: ClassVar[str] = "SETTLE_REFUSED"
    text: ClassVar[str] = "Cannot settle {operation} as {outcome}: {why}"
    operation: str
    outcome: str
    why: str
