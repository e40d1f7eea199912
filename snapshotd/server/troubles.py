"""What is wrong with parts of the service just now, by subject: for GetStatus and for health. On no record."""

from __future__ import annotations

from datetime import UTC, datetime

from snapshotd.domain.errors import told
from snapshotd.ports.trouble import Trouble, still


class Troubles:
    """The troubles that were noted and have not ended."""

    def __init__(self) -> None:
        self._known: dict[str, Trouble] = {}
        self._of_all: set[str] = set()

    def failed(self, subject: str, error: Exception, *, concerns_all: bool = False) -> bool:
        """Note that work on a subject failed. Return whether that is new, so that the caller logs it.

        Args:
            subject: "sync schedule", "sync of host hv01", ...
            error: a SnapshotdError, or a defect of ours.
            concerns_all: whether the service as a whole does not serve meanwhile.
        """
        reason, message = told(error)
        known = self._known.get(subject)
        self._known[subject] = still(known, Trouble(reason=reason, message=message, since=datetime.now(UTC)))
        if concerns_all:
            self._of_all.add(subject)
        return known is None or known.message != message

    def ended(self, subject: str) -> None:
        """Note that work on a subject goes well, or that there is none of it any more."""
        self._of_all.discard(subject)
        self._known.pop(subject, None)

    def all(self) -> tuple[tuple[str, Trouble], ...]:
        """Return the troubles with their subjects, by subject."""
        return tuple(sorted(self._known.items(), key=lambda item: item[0]))

    def concern_all(self) -> bool:
        """Return whether one of them keeps the service as a whole from serving."""
        return bool(self._of_all)
