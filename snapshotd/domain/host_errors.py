"""What a caller is told when a host is in use, or cannot be asked. Knows nothing of gRPC or WinRM."""

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
        return f"host {self.host} has {vms} first."


@dataclass(eq=False)
class NoExecutor(SnapshotdError):
    """No executor serves a host that a synchronous call needs."""

    reason: ClassVar[str] = "NO_EXECUTOR"
    host: str

    def message(self) -> str:  # noqa: D102
        return f"no executor serves host {self.host}. Start one: snapshotd executor --host {self.host}."


@dataclass(eq=False)
class HostUnreachable(SnapshotdError):
    """The host did not answer."""

    reason: ClassVar[str] = "HOST_UNREACHABLE"
    host: str
    detail: str

    def message(self) -> str:  # noqa: D102
        return (
            f"host {self.host} did not answer: {self.detail.rstrip('.')}. Check its address, port, and WinRM (winrm "
            "quickconfig)."
        )


@dataclass(eq=False)
class HostRefused(SnapshotdError):
    """The host, or its executor, refused before the script was asked."""

    reason: ClassVar[str] = "HOST_REFUSED"
    host: str
    detail: str

    def message(self) -> str:  # noqa: D102
        detail = self.detail.rstrip(".")
        return f"host {self.host} did not take the command: {detail}. Look at its WinRM quotas and settings."


@dataclass(eq=False)
class HostForeign(SnapshotdError):
    """The journals on the host belong to another installation."""

    reason: ClassVar[str] = "FOREIGN_INSTALLATION"
    host: str
    detail: str

    def message(self) -> str:  # noqa: D102
        return f"host {self.host}: {self.detail}"


@dataclass(eq=False)
class HostAnswerLost(SnapshotdError):
    """The host was asked, and its answer did not come, not in time, or not as the protocol allows."""

    reason: ClassVar[str] = "HOST_ANSWER_LOST"
    host: str
    cause: str
    """CONNECTION_LOST, DEADLINE_EXCEEDED or MALFORMED_ANSWER."""
    detail: str

    def message(self) -> str:  # noqa: D102
        return f"host {self.host} was asked, and gave no answer: {self.detail.rstrip('.')} ({self.cause}). Try again."


@dataclass(eq=False)
class HostAuthenticationFailed(SnapshotdError):
    """The host refused the credential."""

    reason: ClassVar[str] = "AUTHENTICATION_FAILED"
    host: str
    credential: str
    detail: str

    def message(self) -> str:  # noqa: D102
        return (
            f"host {self.host}: credential {self.credential!r}: {self.detail}. "
            "Check the credential's file on the executor's machine."
        )


@dataclass(eq=False)
class HostCredentialMissing(SnapshotdError):
    """The executor has no credential of the name that the host was registered with."""

    reason: ClassVar[str] = "CREDENTIAL_MISSING"
    host: str
    credential: str
    detail: str

    def message(self) -> str:  # noqa: D102
        return f"host {self.host}: {self.detail}"


@dataclass(eq=False)
class HostCommandFailed(SnapshotdError):
    """The host answered a synchronous call with an error, or not as the protocol allows."""

    reason: ClassVar[str] = "HOST_COMMAND_FAILED"
    host: str
    error_id: str
    detail: str

    def message(self) -> str:  # noqa: D102
        return f"host {self.host}: {self.detail} ({self.error_id or 'no error id'})."
