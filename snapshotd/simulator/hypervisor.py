"""What the engines need of the model: a Hyper-V host's cmdlets and objects, by ids. Implements nothing.

Both engines act on the model through this alone: the builtin one from Python, the PowerShell one through its bridge.
Names, states and error ids are Hyper-V's own (pwsh/hyperv-cmdlets.json, docs/hyperv.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

_CLASSES: Final = {
    "Get-VHD": "Microsoft.Vhd.PowerShell.Cmdlets.GetVHD",
    "New-VHD": "Microsoft.Vhd.PowerShell.Cmdlets.NewVHD",
    "Resize-VHD": "Microsoft.Vhd.PowerShell.Cmdlets.ResizeVHD",
    "Convert-VHD": "Microsoft.Vhd.PowerShell.Cmdlets.ConvertVHD",
    "Get-CimAssociatedInstance": "Microsoft.Management.Infrastructure.CimCmdlets.GetCimAssociatedInstanceCommand",
    "ExportSystemDefinition": "Msvm_VirtualSystemManagementService.ExportSystemDefinition",
    "ConvertVirtualHardDisk": "Msvm_ImageManagementService.ConvertVirtualHardDisk",
    "RequestStateChange": "CIM_ConcreteJob.RequestStateChange",
}
"""Cmdlets of other modules than Hyper-V's, and methods of WMI's classes, which are called as cmdlets are."""
WMI_CODES: Final = {
    "OperationFailed": 32768,
    "AccessDenied": 32769,
    "NotSupported": 32770,
    "OperationTimeout": 32772,
    "InvalidParameter": 32773,
    "ObjectInUse": 32774,
    "InvalidState": 32775,
    "OutOfMemory": 32778,
    "ObjectNotFound": 32779,
}
"""What a method of WMI's returns where a cmdlet has an error of that id (source read). It has no text."""
LOGICAL_PROCESSORS: Final = 128
"""What every simulated host has. Nothing is refused for want of it."""
MEMORY_BYTES: Final = 4 << 40
"""As LOGICAL_PROCESSORS."""
Setting = str | int | bool
"""The value of a property that Set-VM sets."""


class HyperVError(Exception):
    """The error of a cmdlet."""

    def __init__(self, error_id: str, cmdlet: str, message: str) -> None:
        """Keep the short id ("InvalidState"), the cmdlet ("Checkpoint-VM") and Hyper-V's text."""
        super().__init__(message)
        self.error_id = error_id
        self.cmdlet = cmdlet

    @property
    def fully_qualified(self) -> str:
        """FullyQualifiedErrorId: "InvalidState,Microsoft.HyperV.PowerShell.Commands.CheckpointVM"."""
        if "," in self.error_id:
            return self.error_id
        where = _CLASSES.get(self.cmdlet) or f"Microsoft.HyperV.PowerShell.Commands.{self.cmdlet.replace('-', '')}"
        return f"{self.error_id},{where}"


def method_failed(method: str, error_id: str, why: str) -> HyperVError:
    """Build the error of a method of WMI's that refuses: its caller learns the code alone; the note tells tests why."""
    error = HyperVError(error_id, method, f"{method} returned {WMI_CODES.get(error_id, 32768)}.")
    error.add_note(why)
    return error


class ScriptKilled(BaseException):
    """The calling script is dead: unwind its call at once. Only the engine that runs the script catches it."""


class Caller(Protocol):
    """The script that calls."""

    @property
    def killed(self) -> bool:
        """Whether it is dead."""

    def kill(self) -> None:
        """End it at once, as SIGKILL does. Within its own call too, which then raises ScriptKilled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveView:
    """One disk attached to a VM, or frozen in a checkpoint."""

    location: str
    """"SCSI:0:1": controller type, number and location."""
    path: str
    """The file that is written to (a VM) or holds the frozen content (a checkpoint). Empty: pass-through."""
    pass_through: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointView:
    """A VMSnapshot."""

    checkpoint_id: str
    vm_id: str
    vm_name: str
    name: str
    parent_id: str
    """Empty: a root."""
    created_at: datetime
    snapshot_type: str
    """Standard, Recovery, Replica, ..."""
    has_memory: bool
    """VMSnapshot.State is Saved, else Off."""
    automatic: bool
    system_files_bytes: int
    drives: tuple[DriveView, ...]
    cpu_count: int = 0
    """What the VM had at that moment, here and below; 0: not known."""
    memory_bytes: int = 0
    """At the start."""
    dynamic_memory: bool = False
    minimum_bytes: int = 0
    maximum_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VmView:
    """A VirtualMachine."""

    vm_id: str
    name: str
    state: str
    """Running, Off, Saved, Paused, Starting, Stopping, Saving, Pausing, Resuming, OffCritical, ..."""
    checkpoint_type: str
    """Disabled, Production, ProductionOnly or Standard."""
    parent_snapshot_id: str
    """The current checkpoint; empty: none."""
    checkpoints: tuple[CheckpointView, ...]
    """By time of creation."""
    drives: tuple[DriveView, ...]
    secondary_status: tuple[str, ...]
    """SecondaryOperationalStatus: CreatingSnapshot, ApplyingSnapshot, DeletingSnapshot, MergingDisks, ..."""
    cpu_count: int
    memory_bytes: int
    replica: bool
    blockers: tuple[str, ...]
    """As the inventory names them: PASS_THROUGH_DISK, SHARED_DISK, REPLICA, FIBRE_CHANNEL, ..."""
    dynamic_memory: bool = False
    """DynamicMemoryEnabled."""
    minimum_bytes: int = 0
    """The least and the most memory that it has, if that is dynamic; memory_bytes is that of its start."""
    maximum_bytes: int = 0
    generation: int = 2
    switch: str = ""
    """What its network adapter is connected to; empty: it has none."""
    automatic_checkpoints: bool = False
    """AutomaticCheckpointsEnabled."""
    vss: bool = True
    """The guest's services for backups and for shutdowns are healthy while it runs."""
    shutdown_service: bool = True
    uptime_s: float = field(default=0.0, compare=False)
    """Since it was started, resumed from a saved state, or reset. Two looks at one VM differ in it."""
    created_at: datetime | None = None
    folder: str = ""
    """Where its files are."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """What else Set-VM has set, by the property's name."""


@dataclass(frozen=True, slots=True)
class JobView:
    """An Msvm_ConcreteJob, or an Msvm_StorageJob, which is of disks and affects no VM."""

    job_type: int
    """50 merge, 62 export, 70 create, 71 apply, 72 delete; of an Msvm_StorageJob: 6 conversion."""
    percent: int
    state: int = 4
    """JobState: 4 running, 6 ending, 7 completed, 8 terminated, 9 killed, 10 exception."""
    job_id: str = ""
    """InstanceID."""
    error: str = ""
    """ErrorDescription; empty unless it has failed or was terminated."""
    storage: bool = False
    """It is an Msvm_StorageJob."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VhdView:
    """A virtual hard disk file."""

    path: str
    parent_path: str
    """Empty: a base."""
    file_bytes: int
    size_bytes: int
    """As the guest sees it."""
    minimum_bytes: int = 0
    """The size that it can be made small to."""
    identifier: str = ""
    """DiskIdentifier."""
    vhd_type: str = "Dynamic"
    """Dynamic, Fixed or Differencing."""
    attached: bool = field(default=False, compare=False)
    """A VM of this host that runs has it open. Two hosts' looks at one disk differ in it."""


@dataclass(frozen=True, slots=True)
class CompatibilityView:
    """What Compare-VM says of an exported VM on this host."""

    vm_id: str
    """The id that it would have."""
    name: str
    incompatibilities: tuple[tuple[int, str], ...]
    """MessageId and Message: 33012 a switch is missing, 40010 a disk, ..."""


class Hypervisor(Protocol):
    """A simulated Hyper-V host. Used by several threads at once.

    Methods that change something take the caller, last long (the durations), and raise HyperVError, or ScriptKilled
    when the caller is dead by then; what the hypervisor had begun goes on without it. What changes nothing returns at
    once. Unknown ids raise HyperVError ObjectNotFound. A state that is there already is no error (Hyper-V warns): the
    method returns False, else True.
    """

    @property
    def name(self) -> str:
        """The host's name."""

    @property
    def journal_directory(self) -> Path:
        """Where the VMs' journals are when a command names no directory."""

    @property
    def storage_directory(self) -> Path:
        """Where VMs and their disks are, each in a folder of its own."""

    def now(self) -> datetime:
        """Return what the host's clock shows."""

    def manages(self) -> bool:
        """Return whether WMI shows the account the management service, as to one that may see the host's VMs."""

    def vms(self) -> Sequence[VmView]:
        """Return all VMs, by name, then id."""

    def vm(self, vm_id: str) -> VmView | None:
        """Return a VM; ids are compared without regard to case."""

    def jobs(self, vm_id: str) -> Sequence[JobView]:
        """Return the jobs of a VM, by Msvm_AffectedJobElement. Raises HyperVError."""

    def all_jobs(self) -> Sequence[JobView]:
        """Return the jobs that WMI shows: of each VM, of disks, and for a while those that have ended."""

    def job(self, job_id: str) -> JobView | None:
        """Return the job of that InstanceID, ended or not; None: the host does not know it (any more)."""

    def vhd(self, path: str) -> VhdView | None:
        """Return a virtual hard disk file that is on the disk; paths are compared without regard to case.

        None if it is not there, or its storage is away: then its directory is not there either.
        """

    def set_checkpoint_type(self, caller: Caller, vm_id: str, checkpoint_type: str) -> None:
        """Set-VM -CheckpointType."""

    def set_vm(self, caller: Caller, vm_id: str, **changes: object) -> None:
        """Set-VM with anything else: name, settings (by property), and what an offering has, named as in VmView."""

    def checkpoint_vm(self, caller: Caller, vm_id: str, name: str) -> str:
        """Checkpoint-VM -SnapshotName: makes it under the default name, then names it. Returns its id."""

    def rename_snapshot(self, caller: Caller, checkpoint_id: str, name: str) -> None:
        """Rename-VMSnapshot -NewName."""

    def restore_snapshot(self, caller: Caller, checkpoint_id: str) -> None:
        """Restore-VMSnapshot: saves a Running or Paused VM, applies, starts it if it was Running and is Saved now."""

    def remove_snapshot(self, caller: Caller, checkpoint_id: str) -> None:
        """Remove-VMSnapshot without the children: returns while the disks are still merging."""

    def start_vm(self, caller: Caller, vm_id: str) -> bool:
        """Start-VM: from Off, Saved, Paused."""

    def resume_vm(self, caller: Caller, vm_id: str) -> bool:
        """Resume-VM: from Paused."""

    def restart_vm(self, caller: Caller, vm_id: str) -> bool:
        """Restart-VM: a reset, from Running and Paused. The guest boots; nothing is shut down."""

    def stop_vm(self, caller: Caller, vm_id: str, *, turn_off: bool, force: bool = False) -> bool:
        """Stop-VM: a shutdown by the guest (Running only), or -TurnOff (Running, Paused, Saved)."""

    def save_vm(self, caller: Caller, vm_id: str) -> bool:
        """Save-VM: from Running, Paused."""

    def suspend_vm(self, caller: Caller, vm_id: str) -> bool:
        """Suspend-VM: from Running."""

    def add_drive(self, caller: Caller, vm_id: str, location: str, path: str) -> None:
        """Add-VMHardDiskDrive at a place, "SCSI:0:1", with a file that is there."""

    def remove_drive(self, caller: Caller, vm_id: str, location: str) -> None:
        """Remove-VMHardDiskDrive: the file stays."""

    def new_vhd(self, caller: Caller, path: str, size_bytes: int, *, parent: str = "", fixed: bool = False) -> None:
        """New-VHD. Over a parent it is a differencing disk, of its size if size_bytes is 0."""

    def resize_vhd(self, caller: Caller, path: str, size_bytes: int) -> None:
        """Resize-VHD -SizeBytes."""

    def set_processor(self, caller: Caller, vm_id: str, count: int) -> None:
        """Set-VMProcessor -Count."""

    def set_memory(
        self,
        caller: Caller,
        vm_id: str,
        *,
        startup_bytes: int | None = None,
        dynamic: bool | None = None,
        minimum_bytes: int | None = None,
        maximum_bytes: int | None = None,
    ) -> None:
        """Set-VMMemory; None: as it is."""

    def new_vm(
        self,
        caller: Caller,
        name: str,
        *,
        memory_bytes: int,
        generation: int,
        path: str = "",
        vhd_path: str = "",
        switch: str = "",
    ) -> str:
        """New-VM: in a folder of its name in `path`, with a disk that is there, or none. Returns its id."""

    def remove_vm(self, caller: Caller, vm_id: str) -> None:
        """Remove-VM: only a VM that is off. The disks stay; its checkpoints go, and are merged afterwards."""

    def exists(self, path: str) -> bool:
        """Return whether a file or a folder is there. This and what follows scripts do themselves, by no cmdlet."""

    def delete_file(self, path: str) -> None:
        """Delete a file, if it is there. Raises OSError: a VM that runs has it open, its folder is not there, ..."""

    def delete_folder(self, path: str) -> None:
        """Delete a folder with all that is in it. Raises OSError, also if it is not there."""

    def move_folder(self, source: str, target: str) -> None:
        """Move a folder to where nothing is. Raises OSError."""

    def export_vm(  # noqa: PLR0913  (ExportSystemDefinition has as many settings)
        self,
        caller: Caller,
        vm_id: str,
        directory: str,
        *,
        snapshots: int,
        snapshot_id: str = "",
        storage: bool = True,
        runtime: bool = True,
        subdirectory: bool = True,
        capture_live_state: int = 0,
        excluded: Sequence[str] = (),
        differential: bool = True,
    ) -> str:
        """ExportSystemDefinition: returns the id of the job, while it runs; empty if it is done already.

        snapshots is CopySnapshotConfiguration (0 all checkpoints, 1 none, 2 the one, 3 the one for a backup); storage,
        runtime and subdirectory are CopyVmStorage, CopyVmRuntimeInformation and CreateVmExportSubdirectory;
        capture_live_state is CaptureLiveState (0 crash-consistent, 1 saved state, 2 application-consistent); excluded
        are the places ("SCSI:0:1") of ExcludedVirtualHardDisks, which get differencing disks if differential.
        """

    def compare_vm(self, vmcx: str, *, copy: bool = False) -> CompatibilityView:
        """Compare-VM -Path -Register, or -Copy -GenerateNewId. Raises HyperVError, also for an id that is here already.

        A copy gets an id of its own, so that one which is registered here can be looked at too.
        """

    def import_vm(
        self, caller: Caller, vmcx: str, *, copy: bool = False, new_id: str = "", folder: str = "", disks: str = ""
    ) -> str:
        """Import-VM -Path: in place, or a copy, with its checkpoints; returns its id.

        A copy can get a new id. It is in a folder, and its disks in another one; empty: where the host has its VMs.
        """

    def convert_disk(self, caller: Caller, source: str, target: str) -> str:
        """ConvertVirtualHardDisk to a dynamic VHDX without parent. Returns as export_vm does."""

    def terminate_job(self, caller: Caller, job_id: str) -> None:
        """RequestStateChange(4) of a job: it may still be ending when this returns."""
