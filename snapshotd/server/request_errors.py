"""Errors in a call that are found before the core is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snapshotd.domain.errors import SnapshotdError


@dataclass(eq=False)
class FilterInvalid(SnapshotdError):
    """A filter that cannot be read."""

    reason: ClassVar[str] = "FILTER_INVALID"
    filter: str
    problem: str

    def message(self) -> str:  # noqa: D102
        return f"Cannot read filter {self.filter!r}: {self.problem}"


@dataclass(eq=False)
class OrderByInvalid(SnapshotdError):
    """An order that cannot be read."""

    reason: ClassVar[str] = "ORDER_BY_INVALID"
    order_by: str
    problem: str

    def message(self) -> str:  # noqa: D102
        return f"Cannot read order_by {self.order_by!r}: {self.problem}"


@dataclass(eq=False)
class Stopping(SnapshotdError):
    """The service is stopping, and begins nothing new."""

    reason: ClassVar[str] = "STOPPING"
    method: str

    def message(self) -> str:  # noqa: D102
        return f"Cannot serve {self.method}: the service is stopping. Nothing was recorded. Try again when it is back."


@dataclass(eq=False)
class ActorNotAllowed(SnapshotdError):
    """A caller that may not act under the name it gives."""

    reason: ClassVar[str] = "ACTOR_NOT_ALLOWED"
    peer: str
    detail: str

    def message(self) -> str:  # noqa: D102
        return f"Cannot admit the caller at {self.peer}: {self.detail}"
