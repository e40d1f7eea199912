"""A hypervisor that does at once what it is asked, and remembers it. Tests set what goes wrong at a cmdlet."""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from snapshotd.domain.state import replace
from snapshotd.simulator.hypervisor import (
    Caller,
    CheckpointView,
    CompatibilityView,
    DriveView,
    HyperVError,
    JobView,
    ScriptKilled,
    VhdView,
    VmView,
)

_OWN = f"{os.getpid():010x}"
"""The mutexes of real PowerShell processes are the machine's, so each test process has VMs of its own."""
WEB, OTHER, ABSENT_VM = (f"5e8a6f0c-6f5a-4a86-9b39-{_OWN}{n}" for n in ("01", "02", "ff"))

Hook = Callable[[Caller], None]


def machine(disks: Path, vm_id: str = WEB, name: str = "web01", state: str = "Running") -> VmView:
    """Describe a VM with one disk and no checkpoint."""
    return VmView(
        vm_id=vm_id,
        name=name,
        state=state,
        checkpoint_type="Production",
        parent_snapshot_id="",
        checkpoints=(),
        drives=(DriveView(location="SCSI:0:0", path=f"{disks}/{name}.vhdx"),),
        secondary_status=(),
        cpu_count=2,
        memory_bytes=1 << 30,
        replica=False,
        blockers=(),
        minimum_bytes=1 << 29,
        maximum_bytes=1 << 31,
    )


@dataclass
class RecordingHost:
    """See Hypervisor for the methods."""

    journal_directory: Path
    name: str = "hv01"
    machines: dict[str, VmView] = field(default_factory=dict)
    files: dict[str, VhdView] = field(default_factory=dict)
    calls: list[tuple[str, ...]] = field(default_factory=list)
    under_way: list[JobView] = field(default_factory=list)
    """Of each VM."""
    jobs_by_id: dict[str, JobView] = field(default_factory=dict)
    configurations: dict[str, CompatibilityView] = field(default_factory=dict)
    """What can be imported, by its .vmcx."""
    first: dict[str, Hook] = field(default_factory=dict)
    """By cmdlet: runs before it does anything."""
    then: dict[str, Hook] = field(default_factory=dict)
    """By cmdlet: runs when it has done everything."""

    def __post_init__(self) -> None:
        self.machines = {WEB: machine(self.disks), OTHER: machine(self.disks, OTHER, "db01", "Off")}
        for view in self.machines.values():
            self._file(view.drives[0].path)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def manages(self) -> bool:
        return True

    def vms(self) -> Sequence[VmView]:
        return sorted(self.machines.values(), key=lambda view: (view.name, view.vm_id))

    def vm(self, vm_id: str) -> VmView | None:
        return self.machines.get(vm_id.lower())

    def jobs(self, vm_id: str) -> Sequence[JobView]:
        assert vm_id.lower() in self.machines
        return self.under_way

    def all_jobs(self) -> Sequence[JobView]:
        return [*self.under_way, *self.jobs_by_id.values()]

    def job(self, job_id: str) -> JobView | None:
        return self.jobs_by_id.get(job_id)

    def vhd(self, path: str) -> VhdView | None:
        return self.files.get(path.lower()) if self.disks.is_dir() else None

    def set(self, vm_id: str = WEB, **changes: object) -> None:
        """Change a VM as somebody else would."""
        self.machines[vm_id] = replace(self.machines[vm_id], **changes)  # type: ignore[arg-type]  # fields of VmView

    def take(self, vm_id: str, name: str) -> str:
        """Take a checkpoint, as Hyper-V does: the VM goes on in a new differencing disk."""
        view = self.machines[vm_id]
        number = len(view.checkpoints) + 1
        checkpoint = CheckpointView(
            checkpoint_id=f"C{number:03}{vm_id[4:]}",
            vm_id=vm_id,
            vm_name=view.name,
            name=name,
            parent_id=view.parent_snapshot_id,
            created_at=datetime.now(UTC),
            snapshot_type="Standard",
            has_memory=view.checkpoint_type == "Standard",
            automatic=False,
            system_files_bytes=10,
            drives=view.drives,
            cpu_count=view.cpu_count,
            memory_bytes=view.memory_bytes,
            minimum_bytes=view.minimum_bytes,
            maximum_bytes=view.maximum_bytes,
            dynamic_memory=view.dynamic_memory,
        )
        old = view.drives[0]
        leaf = replace(old, path=f"{self.disks}/{view.name}_{number}.avhdx")
        self._file(leaf.path, old.path)
        self.set(
            vm_id,
            checkpoints=(*view.checkpoints, checkpoint),
            parent_snapshot_id=checkpoint.checkpoint_id,
            drives=(leaf,),
        )
        return checkpoint.checkpoint_id

    @property
    def disks(self) -> Path:
        """Where the disk files are: there is a real one for each that the host has."""
        return self.journal_directory.parent / "disks"

    @property
    def storage_directory(self) -> Path:
        return self.disks

    def _file(self, path: str, parent: str = "") -> None:
        self.disks.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
        self.files[path.lower()] = VhdView(
            path=path,
            parent_path=parent,
            file_bytes=1000,
            size_bytes=9000,
            minimum_bytes=500,
            identifier=str(uuid.uuid5(uuid.NAMESPACE_URL, path)).upper(),
            vhd_type="Differencing" if parent else "Dynamic",
        )

    def _run(self, caller: Caller, *call: str, effect: Callable[[], None]) -> None:
        if caller.killed:
            raise ScriptKilled
        self.calls.append(call)
        self.first.get(call[0], _nothing)(caller)
        effect()
        self.then.get(call[0], _nothing)(caller)
        if caller.killed:
            raise ScriptKilled

    def set_checkpoint_type(self, caller: Caller, vm_id: str, checkpoint_type: str) -> None:
        self._run(caller, "Set-VM", checkpoint_type, effect=lambda: self.set(vm_id, checkpoint_type=checkpoint_type))

    def set_vm(self, caller: Caller, vm_id: str, **changes: object) -> None:
        self._run(caller, "Set-VM", *changes, effect=lambda: self.set(vm_id, **changes))

    def checkpoint_vm(self, caller: Caller, vm_id: str, name: str) -> str:
        made = [""]

        def effect() -> None:
            made[0] = self.take(vm_id, name)

        self._run(caller, "Checkpoint-VM", name, effect=effect)
        return made[0]

    def _owner(self, checkpoint_id: str) -> tuple[VmView, CheckpointView]:
        for view in self.machines.values():
            for checkpoint in view.checkpoints:
                if checkpoint.checkpoint_id == checkpoint_id:
                    return view, checkpoint
        raise HyperVError("ObjectNotFound", "Get-VMSnapshot", checkpoint_id)

    def rename_snapshot(self, caller: Caller, checkpoint_id: str, name: str) -> None:
        view, old = self._owner(checkpoint_id)
        renamed = tuple(replace(c, name=name) if c is old else c for c in view.checkpoints)
        self._run(caller, "Rename-VMSnapshot", checkpoint_id, effect=lambda: self.set(view.vm_id, checkpoints=renamed))

    def restore_snapshot(self, caller: Caller, checkpoint_id: str) -> None:
        view, checkpoint = self._owner(checkpoint_id)

        def effect() -> None:
            leaf = DriveView(location="SCSI:0:0", path=f"{self.disks}/{view.name}_restored_{len(self.files)}.avhdx")
            self._file(leaf.path, checkpoint.drives[0].path)
            self.set(view.vm_id, state="Off", parent_snapshot_id=checkpoint_id, drives=(leaf,))

        self._run(caller, "Restore-VMSnapshot", checkpoint_id, effect=effect)

    def remove_snapshot(self, caller: Caller, checkpoint_id: str) -> None:
        view, old = self._owner(checkpoint_id)
        left = tuple(c for c in view.checkpoints if c is not old)
        self._run(caller, "Remove-VMSnapshot", checkpoint_id, effect=lambda: self.set(view.vm_id, checkpoints=left))

    def _power(self, caller: Caller, vm_id: str, state: str, *call: str) -> bool:
        changes = self.machines[vm_id].state != state
        self._run(caller, *call, effect=lambda: self.set(vm_id, state=state))
        return changes

    def start_vm(self, caller: Caller, vm_id: str) -> bool:
        return self._power(caller, vm_id, "Running", "Start-VM")

    def resume_vm(self, caller: Caller, vm_id: str) -> bool:
        return self._power(caller, vm_id, "Running", "Resume-VM")

    def stop_vm(self, caller: Caller, vm_id: str, *, turn_off: bool, force: bool = False) -> bool:
        words = ["Stop-VM"] + ["-TurnOff"] * turn_off + ["-Force"] * force
        return self._power(caller, vm_id, "Off", *words)

    def restart_vm(self, caller: Caller, vm_id: str) -> bool:
        self._run(caller, "Restart-VM", effect=lambda: self.set(vm_id, state="Running"))
        return True

    def save_vm(self, caller: Caller, vm_id: str) -> bool:
        return self._power(caller, vm_id, "Saved", "Save-VM")

    def suspend_vm(self, caller: Caller, vm_id: str) -> bool:
        return self._power(caller, vm_id, "Paused", "Suspend-VM")

    def add_drive(self, caller: Caller, vm_id: str, location: str, path: str) -> None:
        drives = (*self.machines[vm_id].drives, DriveView(location=location, path=path))
        self._run(caller, "Add-VMHardDiskDrive", location, path, effect=lambda: self.set(vm_id, drives=drives))

    def remove_drive(self, caller: Caller, vm_id: str, location: str) -> None:
        left = tuple(d for d in self.machines[vm_id].drives if d.location != location)
        self._run(caller, "Remove-VMHardDiskDrive", location, effect=lambda: self.set(vm_id, drives=left))

    def new_vhd(self, caller: Caller, path: str, size_bytes: int, *, parent: str = "", fixed: bool = False) -> None:
        def effect() -> None:
            self._file(path, parent)
            kind = "Differencing" if parent else "Fixed" if fixed else "Dynamic"
            made = replace(self.files[path.lower()], size_bytes=size_bytes, identifier=_identifier(path), vhd_type=kind)
            self.files[path.lower()] = made

        self._run(caller, "New-VHD", path, str(size_bytes), effect=effect)

    def resize_vhd(self, caller: Caller, path: str, size_bytes: int) -> None:
        def effect() -> None:
            self.files[path.lower()] = replace(self.files[path.lower()], size_bytes=size_bytes)

        self._run(caller, "Resize-VHD", path, str(size_bytes), effect=effect)

    def set_processor(self, caller: Caller, vm_id: str, count: int) -> None:
        self._run(caller, "Set-VMProcessor", str(count), effect=lambda: self.set(vm_id, cpu_count=count))

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
        named = {
            "memory_bytes": startup_bytes,
            "dynamic_memory": dynamic,
            "minimum_bytes": minimum_bytes,
            "maximum_bytes": maximum_bytes,
        }
        changes = {name: value for name, value in named.items() if value is not None}
        self._run(caller, "Set-VMMemory", *changes, effect=lambda: self.set(vm_id, **changes))

    def new_vm(self, caller: Caller, name: str, **how: object) -> str:
        raise NotImplementedError(f"New-VM {name}: {caller} {how}")

    def remove_vm(self, caller: Caller, vm_id: str) -> None:
        self._run(caller, "Remove-VM", effect=lambda: self.machines.__delitem__(vm_id))

    def exists(self, path: str) -> bool:
        return Path(path).exists()

    def delete_file(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)
        self.files.pop(path.lower(), None)

    def delete_folder(self, path: str) -> None:
        shutil.rmtree(path)

    def move_folder(self, source: str, target: str) -> None:
        Path(source).rename(target)

    def _begin(self, caller: Caller, job: JobView, *call: str) -> str:
        self._run(caller, *call, effect=lambda: self.jobs_by_id.update({job.job_id: job}))
        return job.job_id

    def export_vm(self, caller: Caller, vm_id: str, directory: str, **settings: object) -> str:
        words = [f"{name}={value}" for name, value in sorted(settings.items())]
        job = JobView(62, 0, job_id=f"E{len(self.jobs_by_id)}")
        return self._begin(caller, job, "ExportSystemDefinition", vm_id, directory, *words)

    def convert_disk(self, caller: Caller, source: str, target: str) -> str:
        job = JobView(6, 0, job_id=f"C{len(self.jobs_by_id)}", storage=True)
        return self._begin(caller, job, "ConvertVirtualHardDisk", source, target)

    def compare_vm(self, vmcx: str, *, copy: bool = False) -> CompatibilityView:
        del copy
        return self.configurations[vmcx]

    def import_vm(self, caller: Caller, vmcx: str, **how: object) -> str:
        del how
        come = self.configurations[vmcx]
        vm = machine(self.disks, come.vm_id, come.name, "Off")
        self._run(caller, "Import-VM", vmcx, effect=lambda: self.machines.update({come.vm_id: vm}))
        return come.vm_id

    def terminate_job(self, caller: Caller, job_id: str) -> None:
        ended = replace(self.jobs_by_id[job_id.upper()], state=8)
        self._begin(caller, ended, "RequestStateChange", job_id)


def _identifier(path: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, path)).upper()


def refuses(error_id: str, cmdlet: str) -> Hook:
    """Make a cmdlet fail."""

    def hook(_caller: Caller) -> None:
        raise HyperVError(error_id, cmdlet, f"{cmdlet} was told to fail")

    return hook


@dataclass
class Gate:
    """Holds whoever comes to it until it is opened, or until that script is killed."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    notices_death: bool = True

    def __call__(self, caller: Caller) -> None:
        self.reached.set()
        while not self.opened.wait(0.005):
            if self.notices_death and caller.killed:
                raise ScriptKilled


def _nothing(_caller: Caller) -> None:
    """Let it go on."""
