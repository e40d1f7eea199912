"""What a caller is told when a host is in use, or cannot be asked or taken over. Knows nothing of gRPC or WinRM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snapshotd.domain.errors import SnapshotdError


@dataclass(eq=False)
class HostInUse(SnapshotdError):
    """A host that still has registered VMs."""

    reason: ClassVar[str] = "HOST_IN_USE"
    host: str
    vms: int

    def message(self) -> str:  # noqa: D102
        vms = "1 registered VM. Unregister it" if self.vms == 1 else f"{self.vms} registered VMs. Unregister them"
        return (
            f"Cannot remove host {self.host}: it has {vms} first (`snapshotctl vm list --host {self.host}`, "
            f"`snapshotctl vm unregister VM`), or with it (`snapshotctl host remove {self.host} --unregister`)."
        )


@dataclass(eq=False)
class NoExecutor(SnapshotdError):
    """No executor serves the host that a synchronous call needs."""

    reason: ClassVar[str] = "NO_EXECUTOR"
    text: ClassVar[str] = "Cannot reach host {host}: no executor serves it. Run `snapshotd executor --host {host}`."
    host: str


@dataclass(eq=False)
class HostUnreachable(SnapshotdError):
    """The host did not answer."""

    reason: ClassVar[str] = "HOST_UNREACHABLE"
    host: str
    detail: str

    def message(self) -> str:  # noqa: D102
        return (
            f"Cannot reach host {self.host}: {self.detail.rstrip('.')}. "
            "Check its address, its port and its WinRM service (winrm quickconfig)."
        )


@dataclass(eq=False)
class HostRefused(SnapshotdError):
    """The host, or its executor, refused before the script ran."""

    reason: ClassVar[str] = "HOST_REFUSED"
    host: str
    detail: str

    def message(self) -> str:  # noqa: D102
        return f"Cannot run commands on host {self.host}: {self.detail.rstrip('.')}."


@dataclass(eq=False)
class HostForeign(SnapshotdError):
    """The journals on the host belong to another installation."""

    reason: ClassVar[str] = "FOREIGN_INSTALLATION"
    text: ClassVar[str] = "Cannot use host {host}: {detail}"
    host: str
    detail: str


@dataclass(eq=False)
class NotTakenOver(SnapshotdError):
    """A VM that cannot be taken over just now."""

    reason: ClassVar[str] = "NOT_TAKEN_OVER"
    text: ClassVar[str] = "Cannot take VM {vm} over: {detail}"
    vm: str
    detail: str


@dataclass(eq=False)
class HostJournalsFailed(SnapshotdError):
    """The account cannot write the journals on the host, so no effect could be fenced."""

    reason: ClassVar[str] = "JOURNALS_NOT_WRITABLE"
    host: str
    error_id: str
    detail: str

    def message(self) -> str:  # noqa: D102
        return (
            f"Cannot use host {self.host}: the account cannot write the journals there: {self.detail.rstrip('.')} "
            f"({self.error_id}). On the host, let it write the journal directory (%ProgramData%\\snapshotd, or the one "
            "that the host was registered with), and see that the disk is not full."
        )


@dataclass(eq=False)
class HostAnswerLost(SnapshotdError):
    """The host was asked, and gave no valid answer in time."""

    reason: ClassVar[str] = "HOST_ANSWER_LOST"
    host: str
    cause: str
    """CONNECTION_LOST, DEADLINE_EXCEEDED or MALFORMED_ANSWER."""
    detail: str

    def message(self) -> str:  # noqa: D102
        return f"Cannot get an answer from host {self.host}: {self.detail.rstrip('.')} ({self.cause}). Try again."


@dataclass(eq=False)
class HostAuthenticationFailed(SnapshotdError):
    """The host refused the credential."""

    reason: ClassVar[str] = "AUTHENTICATION_FAILED"
    host: str
    credential: str
    detail: str

    def message(self) -> str:  # noqa: D102
        return f"Cannot sign in to host {self.host} with credential {self.credential!r}: {self.detail.rstrip('.')}."


@dataclass(eq=False)
class HostCredentialMissing(SnapshotdError):
    """The executor lacks the credential that the host was registered with."""

    reason: ClassVar[str] = "CREDENTIAL_MISSING"
    text: ClassVar[str] = "Cannot sign in to host {host}: {detail}"
    host: str
    credential: str
    detail: str


@dataclass(eq=False)
class HostCommandFailed(SnapshotdError):
    """The host answered a synchronous call with an error, or with an unexpected verdict."""

    reason: ClassVar[str] = "HOST_COMMAND_FAILED"
    host: str
    error_id: str
    detail: str

    def message(self) -> str:  # noqa: D102
        error_id = self.error_id or "no error id"
        return f"Cannot query host {self.host}: {self.detail.rstrip('.')} ({error_id}). Correct that, then try again."
