"""The condition of the event log: whether it takes appends just now, and whether it can be trusted at all.

good ◄──► in trouble (PASSES, FULL: tried again) ──► broken (anything else: the process ends)
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from snapshotd.logs import about
from snapshotd.ports.trouble import Trouble, still
from snapshotd.store.errors import Fault, LogBroken, detail_of, fault_of

_log = logging.getLogger(__name__)


class Condition:
    """The condition of one log.

    Args:
        path: of the log.
        on_broken: is called when it breaks, in whatever thread.
    """

    def __init__(self, path: Path, on_broken: Callable[[], None]) -> None:
        self._path = path
        self._on_broken = on_broken
        self.trouble: Trouble | None = None
        """Why nothing can be recorded just now."""
        self.detail = ""
        """The same for the end of a message, without a full stop."""
        self.broken: LogBroken | None = None
        """Why it cannot be trusted any more. That is for good."""
        self.refused_bytes = 0
        """The size of the largest append that was refused since the trouble began."""

    def failed(self, fault: Fault, error: Exception, refused_bytes: int = 0) -> str:
        """Note that a write failed; return why, for a message. Unless it passes or the disk is full, the log breaks."""
        detail = detail_of(fault, error, self._path)
        if fault not in (Fault.PASSES, Fault.FULL):
            self.broke(error)
        elif self.broken is None:
            known, self.detail = self.trouble, detail
            message = f"Cannot write to the event log: {detail}."
            self.trouble = still(known, Trouble(reason=fault.value, message=message, since=datetime.now(UTC)))
            self.refused_bytes = max(self.refused_bytes, refused_bytes)
            if known is None or known.reason != fault.value:
                _log.error("%s", message, extra=about(reason=fault.value))
        return detail

    def unread(self, error: Exception) -> str:
        """Note that a read failed; return why, for a message. A file that is damaged or failing breaks the log."""
        fault = fault_of(error, self._path)
        if fault in (Fault.UNTRUSTED, Fault.DAMAGED):
            self.broke(error)
        return detail_of(fault, error, self._path)

    def passed(self) -> None:
        """Note that a write went through."""
        if self.trouble is not None and self.broken is None:
            _log.info("the event log can be written again")
            self.trouble, self.detail, self.refused_bytes = None, "", 0

    def broke(self, error: Exception) -> None:
        """Note that the log cannot be trusted any more."""
        if self.broken is None:
            broken = LogBroken(str(self._path), str(error) or type(error).__name__)
            self.trouble = Trouble(reason=Fault.UNTRUSTED.value, message=broken.message(), since=datetime.now(UTC))
            self.broken, self.detail = broken, broken.detail()
            _log.critical("%s", broken, exc_info=error, extra=about(reason=broken.reason))
            self._on_broken()
