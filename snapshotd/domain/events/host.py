"""What happens to a host."""

from __future__ import annotations

from snapshotd.domain.ids import VmId
from snapshotd.domain.state import State


class HostRegistered(State, frozen=True, kw_only=True):
    """A host was registered. It has not been contacted."""

    address: str
    port: int
    transport: str
    credential: str
    """The name of a credential; never a secret."""
    ca_file: str
    journal_directory: str
    request_digest: str


class HostUpdated(State, frozen=True, kw_only=True):
    """The way to a host was changed. It has not been contacted on the new one."""

    from_address: str
    to_address: str
    from_port: int
    to_port: int
    from_transport: str
    to_transport: str
    from_credential: str
    to_credential: str
    """The name of a credential; never a secret."""
    from_ca_file: str
    to_ca_file: str
    request_digest: str


class HostRemoved(State, frozen=True, kw_only=True):
    """A host was forgotten."""

    request_digest: str


class HostTakenOver(State, frozen=True, kw_only=True):
    """A person took the host over: its journals belong to this installation from now on."""

    former_installation_id: str
    """The one that they belonged to, which the host refuses now; empty: none that could be read."""
    reason: str
    """The person's words."""
    request_digest: str


class HostSynced(State, frozen=True, kw_only=True):
    """The host's VMs were compared with the record."""

    vms: int
    drifts: int
    skipped: tuple[VmId, ...]
    """VMs that were not compared, most often because an operation was at work on them."""


HostEvent = HostRegistered | HostUpdated | HostRemoved | HostTakenOver | HostSynced
"""Everything that may stand in a host's stream."""
