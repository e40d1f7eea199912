"""The roles, and the one table that says which of them may call a method, and what a method concerns.

A method without a rule can be called by nobody. docs/roles.md prints the table (`make diagrams`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final


class Role(StrEnum):
    """What somebody may do, on everything or on a part of it (bindings.py)."""

    VIEWER = "viewer"
    """Sees hosts, VMs, snapshots and operations."""
    OPERATOR = "operator"
    """Sees them, and takes, reverts and deletes snapshots, and switches VMs on and off."""
    AUDITOR = "auditor"
    """Sees them, and the events: who did what."""
    ADMIN = "admin"
    """May do all that people do."""
    EXECUTOR = "executor"
    """Carries out what is asked of hosts."""
    DELEGATE = "delegate"
    """May say on whose behalf a call is made."""


class Concern(Enum):
    """What a call is about, and so on what its caller needs the role."""

    NOTHING = "nothing"
    """Nothing that anybody must not know: it needs no sign-in."""
    ANYTHING = "anything"
    """The role on something, whatever it is, is enough."""
    EVERYTHING = "everything"
    """The installation as a whole."""
    HOST = "a host"
    VM = "a VM"
    LISTED = "what is listed"
    """The answer holds what the caller may see, and nothing else."""
    NAMED = "what is named"
    """A VM or a host, if the request names one; else everything."""
    OWN = "its own hosts"
    """Hosts that the call names later: the executor's service checks each."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call a method."""

    roles: frozenset[Role]
    """Any of these."""
    concern: Concern
    field: str = ""
    """The field of the request that names what it is about."""
    weighty: tuple[str, ...] = ()
    """Fields that only an admin of the VM may set."""
    beyond: tuple[str, ...] = ()
    """Fields that only an admin of the host may set, that the field names or else the VM is on: paths on it, and the
    host itself. An account's admin could reach by them what is another account's."""


_ALL: Final = frozenset(Role)
SEEING: Final = frozenset({Role.VIEWER, Role.OPERATOR, Role.AUDITOR, Role.ADMIN})
"""The roles that see what there is."""
_WORK: Final = frozenset({Role.OPERATOR, Role.ADMIN})
_AUDIT: Final = frozenset({Role.AUDITOR, Role.ADMIN})
_RULE: Final = frozenset({Role.ADMIN})
_SERVE: Final = frozenset({Role.EXECUTOR})
_NOBODY: Final[frozenset[Role]] = frozenset()
_V1: Final = "/snapshotd.api.v1."
_VMS: Final = f"{_V1}VirtualMachineService/"
_SNAPSHOTS: Final = f"{_V1}SnapshotService/"
_HOSTS: Final = f"{_V1}HostService/"
_OPERATIONS: Final = "/google.longrunning.Operations/"

RULES: Final[Mapping[str, Rule]] = {
    "/grpc.health.v1.Health/Check": Rule(_NOBODY, Concern.NOTHING),
    "/grpc.health.v1.Health/List": Rule(_NOBODY, Concern.NOTHING),
    "/grpc.health.v1.Health/Watch": Rule(_NOBODY, Concern.NOTHING),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Rule(_ALL, Concern.ANYTHING),
    f"{_V1}AdminService/GetStatus": Rule(SEEING, Concern.EVERYTHING),
    f"{_V1}AdminService/RebuildProjection": Rule(_RULE, Concern.EVERYTHING),
    f"{_V1}AdminService/SettleOperation": Rule(_RULE, Concern.VM, "name"),
    f"{_V1}AuditService/GetLogHead": Rule(_AUDIT, Concern.EVERYTHING),
    f"{_V1}AuditService/ListEvents": Rule(_AUDIT, Concern.NAMED),
    f"{_V1}AuditService/VerifyLog": Rule(_AUDIT, Concern.EVERYTHING),
    f"{_V1}AuditService/WatchEvents": Rule(_AUDIT, Concern.NAMED),
    f"{_V1}ExecutorService/Attach": Rule(_SERVE, Concern.OWN),
    f"{_HOSTS}DiscoverVirtualMachines": Rule(_WORK, Concern.HOST, "name"),
    f"{_HOSTS}DrainHost": Rule(_RULE, Concern.HOST, "name"),
    f"{_HOSTS}GetHost": Rule(SEEING, Concern.HOST, "name"),
    f"{_HOSTS}ListHosts": Rule(SEEING, Concern.LISTED),
    # Which machine a host's id stands for decides whose VMs it has: an admin of one host could name another's address.
    f"{_HOSTS}RegisterHost": Rule(_RULE, Concern.EVERYTHING),
    f"{_HOSTS}RemoveHost": Rule(_RULE, Concern.HOST, "name"),
    f"{_HOSTS}SyncHost": Rule(_WORK, Concern.HOST, "name"),
    f"{_HOSTS}TakeOverHost": Rule(_RULE, Concern.HOST, "name"),
    f"{_HOSTS}UpdateHost": Rule(_RULE, Concern.EVERYTHING),  # as RegisterHost
    f"{_V1}OperationService/WatchOperations": Rule(SEEING, Concern.LISTED),
    f"{_OPERATIONS}CancelOperation": Rule(_WORK, Concern.VM, "name"),
    f"{_OPERATIONS}DeleteOperation": Rule(_RULE, Concern.VM, "name"),
    f"{_OPERATIONS}GetOperation": Rule(SEEING, Concern.VM, "name"),
    f"{_OPERATIONS}ListOperations": Rule(SEEING, Concern.LISTED),
    f"{_OPERATIONS}WaitOperation": Rule(SEEING, Concern.VM, "name"),
    f"{_SNAPSHOTS}AdoptCheckpoint": Rule(_WORK, Concern.VM, "parent"),
    f"{_SNAPSHOTS}CreateSnapshot": Rule(_WORK, Concern.VM, "parent"),
    f"{_SNAPSHOTS}DeleteAllSnapshots": Rule(_WORK, Concern.VM, "parent"),
    f"{_SNAPSHOTS}DeleteSnapshot": Rule(_WORK, Concern.VM, "name"),
    f"{_SNAPSHOTS}GetSnapshot": Rule(SEEING, Concern.VM, "name"),
    f"{_SNAPSHOTS}GetSnapshotTree": Rule(SEEING, Concern.VM, "name"),
    f"{_SNAPSHOTS}HoldSnapshot": Rule(_WORK, Concern.VM, "name"),
    f"{_SNAPSHOTS}IgnoreCheckpoint": Rule(_WORK, Concern.VM, "parent"),
    f"{_SNAPSHOTS}ListSnapshots": Rule(SEEING, Concern.LISTED, "parent"),
    f"{_SNAPSHOTS}ReleaseSnapshot": Rule(_WORK, Concern.VM, "name"),
    f"{_SNAPSHOTS}RevertToSnapshot": Rule(_WORK, Concern.VM, "name"),
    f"{_SNAPSHOTS}UpdateSnapshot": Rule(_WORK, Concern.VM, "snapshot.name"),
    f"{_SNAPSHOTS}WatchSnapshotTree": Rule(SEEING, Concern.VM, "name"),
    f"{_VMS}AttachVolume": Rule(_RULE, Concern.VM, "name", beyond=("path",)),
    f"{_VMS}ChangeServiceOffering": Rule(_WORK, Concern.VM, "name"),
    f"{_VMS}DeleteVolumeSnapshot": Rule(_WORK, Concern.VM, "name"),
    f"{_VMS}DestroyVirtualMachine": Rule(_WORK, Concern.VM, "name"),
    f"{_VMS}DetachVolume": Rule(_WORK, Concern.VM, "name"),
    f"{_VMS}ExportVirtualMachine": Rule(_WORK, Concern.VM, "name", beyond=("directory",)),
    f"{_VMS}GetVirtualMachine": Rule(SEEING, Concern.VM, "name"),
    f"{_VMS}GetVolumeSnapshot": Rule(SEEING, Concern.VM, "name"),
    f"{_VMS}ListVirtualMachines": Rule(SEEING, Concern.LISTED),
    f"{_VMS}ListVolumeSnapshots": Rule(SEEING, Concern.LISTED, "parent"),
    f"{_VMS}RegisterHostVirtualMachines": Rule(_RULE, Concern.HOST, "host"),
    f"{_VMS}RegisterVirtualMachine": Rule(_RULE, Concern.HOST, "host"),
    f"{_VMS}ResizeVolume": Rule(_WORK, Concern.VM, "name"),
    f"{_VMS}RestartVirtualMachine": Rule(_WORK, Concern.VM, "name"),
    f"{_VMS}StartVirtualMachine": Rule(_WORK, Concern.VM, "name", beyond=("host",)),
    f"{_VMS}StopVirtualMachine": Rule(_WORK, Concern.VM, "name"),
    f"{_VMS}TakeOverVirtualMachine": Rule(_RULE, Concern.VM, "name"),
    f"{_VMS}TakeVolumeSnapshot": Rule(_WORK, Concern.VM, "parent"),
    f"{_VMS}UnregisterVirtualMachine": Rule(_RULE, Concern.VM, "name"),
    # Its owner is the account that a binding may be on.
    f"{_VMS}UpdateVirtualMachine": Rule(_WORK, Concern.VM, "virtual_machine.name", weighty=("virtual_machine.owner",)),
}
"""By the full name of the method."""
