"""How a command ends: the exit codes, and the error that ends it early."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """The exit code of the program."""

    OK = 0
    OPERATION_FAILED = 1
    """The operation that was waited for FAILED or was CANCELLED."""
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    BUSY = 5
    """Another operation is active on the VM, or another caller was faster."""
    UNAVAILABLE = 6
    TIMED_OUT = 7
    OUTPUT_FAILED = 8
    """The output could not be written. The request may have been carried out."""
    INTERRUPTED = 130


_CODES: Final = {
    ExitCode.USAGE: "INVALID_ARGUMENT",
    ExitCode.REFUSED: "FAILED_PRECONDITION",
    ExitCode.NOT_FOUND: "NOT_FOUND",
    ExitCode.BUSY: "ABORTED",
    ExitCode.UNAVAILABLE: "UNAVAILABLE",
    ExitCode.TIMED_OUT: "DEADLINE_EXCEEDED",
    ExitCode.INTERRUPTED: "CANCELLED",
}
"""The gRPC codes that stand for what the client finds by itself."""


class Failed(Exception):
    """The command has failed; the text is for people."""

    def __init__(
        self,
        message: str,
        exit_code: ExitCode,
        reason: str = "",
        hint: str = "",
        *,
        code: str = "",
        metadata: Mapping[str, str] | None = None,
        lasts: bool = False,
    ) -> None:
        """Keep what is known of the failure.

        Args:
            message: for people, in one line.
            exit_code: of the program.
            reason: the server's, if it gave one.
            hint: goes on lines of its own.
            code: the name of the gRPC code, if the server answered.
            metadata: the values that the server's error is about.
            lasts: another attempt at once would fail, too, though the server is not available.
        """
        super().__init__(message)
        self.exit_code = exit_code
        self.reason = reason
        self.hint = hint
        self.code = code or _CODES.get(exit_code, "UNKNOWN")
        self.metadata = dict(metadata or {})
        self.lasts = lasts

    @property
    def whole(self) -> str:
        """The text for people, with the reason in brackets if there is one, and the hint below."""
        text = f"snapshotctl: {self} [{self.reason}]" if self.reason else f"snapshotctl: {self}"
        return f"{text}\n{self.hint}" if self.hint else text

    @property
    def document(self) -> dict[str, object]:
        """The same for programs."""
        error = {"code": self.code, "reason": self.reason, "message": str(self), "hint": self.hint}
        return {"error": {**error, "metadata": self.metadata, "exit_code": int(self.exit_code)}}
