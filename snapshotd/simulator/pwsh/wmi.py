r"""WMI's objects in root\virtualization\v2, as far as they are simulated, and what is associated with them.

Each is a mapping of its properties; `__CLASS` is its class. Calls no method (wmi_methods.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from snapshotd.simulator.hypervisor import CheckpointView, DriveView, HyperVError, Hypervisor, JobView, VmView
from snapshotd.simulator.pwsh.wql import CMDLETS, Instance

MANAGEMENT: Final = "Msvm_VirtualSystemManagementService"
IMAGES: Final = "Msvm_ImageManagementService"
COMPUTER: Final = "Msvm_ComputerSystem"
SETTINGS: Final = "Msvm_VirtualSystemSettingData"
STORAGE: Final = "Msvm_StorageAllocationSettingData"
EXPORT_SETTINGS: Final = "Msvm_VirtualSystemExportSettingData"
CONCRETE_JOB: Final = "Msvm_ConcreteJob"
STORAGE_JOB: Final = "Msvm_StorageJob"
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    MANAGEMENT: ("Name",),
    IMAGES: ("Name",),
    COMPUTER: ("Name",),
    SETTINGS: ("InstanceID",),
    STORAGE: ("InstanceID",),
    EXPORT_SETTINGS: ("InstanceID",),
    CONCRETE_JOB: ("InstanceID",),
    STORAGE_JOB: ("InstanceID",),
}
"""The properties that tell an instance of a class from others. Real ones have more where these tell it already."""
_CONTROLLERS: Final = {
    "IDE": r"83F8638B-8DCA-4152-9EDA-2CA8B33039B4\{number}\{at}",
    "SCSI": r"BA6163D9-04A1-4D29-B605-72E2FFB1D{number:03X}\0\{at}",
}
"""How an id names the place of a drive: IDE's by channel, and each SCSI controller by an id of its own (observed)."""
_JOBS: Final = {
    50: "Merging virtual hard disks",
    62: "Exporting virtual machine",
    70: "Creating checkpoint",
    71: "Applying checkpoint",
    72: "Deleting checkpoint",
}
"""What a job is called, by its JobType: the real names are not known here."""
_CONVERSION: Final = "Converting virtual hard disk"
_ENABLED_STATES: Final = {
    "Running": 2,
    "Off": 3,
    "Stopping": 4,
    "Saved": 6,
    "Paused": 9,
    "Starting": 10,
    "Saving": 32773,
    "Pausing": 32776,
    "Resuming": 32777,
}
"""EnabledState by the word of the cmdlets, whose numbers are the same (documented)."""
_OTHER_STATE: Final = 1


def instances(host: Hypervisor, class_name: str) -> list[Instance]:
    """Return the instances of a class, in any letter case. Raises HyperVError for one that is not known here."""
    for known, read in _READ.items():
        if known.lower() == class_name.lower():
            return read(host)
    text = f"Invalid class: the simulated host has no class {class_name}."
    raise HyperVError(f"HRESULT 0x80041010,{CMDLETS}.GetCimInstanceCommand", "Get-CimInstance", text)


def the_one(host: Hypervisor, reference: Instance) -> Instance:
    """Return the instance that a reference, or an older look at it, is of. Raises HyperVError if it is gone."""
    class_name = str(reference["__CLASS"])
    wanted = {key: reference.get(key) for key in KEYS[class_name]}
    for instance in instances(host, class_name):
        if all(str(instance[key]).lower() == str(value).lower() for key, value in wanted.items()):
            return instance
    raise HyperVError(f"HRESULT 0x80041002,{CMDLETS}.GetCimInstanceCommand", "Get-CimInstance", "Not found")


def associated(host: Hypervisor, instance: Instance, association: str, result_class: str) -> list[Instance]:
    """Return what is associated with an instance; empty words stand for any. Raises HyperVError."""
    found: list[tuple[str, Instance]] = []
    match str(instance["__CLASS"]):
        case "Msvm_ComputerSystem":
            found = _of_computer(host, str(instance["Name"]), association)
        case "Msvm_VirtualSystemSettingData":
            disks = _disks_of(host, str(instance["InstanceID"]))
            found = [("Msvm_VirtualSystemSettingDataComponent", disk) for disk in disks]
        case "Msvm_ConcreteJob":
            affected = [vm for vm in host.vms() if instance["InstanceID"] in {j.job_id for j in host.jobs(vm.vm_id)}]
            found = [("Msvm_AffectedJobElement", _computer(vm)) for vm in affected]
        case _:
            pass
    known = {name for name in _ASSOCIATIONS if name.lower() == association.lower()}
    if association and not known:
        raise HyperVError("NotSupported", "Get-CimAssociatedInstance", f"The simulated host has no {association}.")
    return [
        one
        for name, one in found
        if (not association or name in known) and (not result_class or one["__CLASS"].lower() == result_class.lower())
    ]


def vm_of(host: Hypervisor, reference: object) -> VmView | None:
    """Return the VM that a computer system is."""
    if not isinstance(reference, dict) or reference.get("__CLASS") != COMPUTER:
        return None
    return host.vm(str(reference.get("Name")))


def place_of(vm: VmView, instance_id: str) -> str | None:
    """Return the place of the disk of a VM, or of one of its checkpoints, that an id of WMI's names."""
    for owner, drives in _owners(vm):
        for drive in drives:
            if _storage_id(owner, drive).lower() == instance_id.lower():
                return drive.location
    return None


def settings_path(host: Hypervisor, instance_id: str) -> str:
    """Return the path of the settings of a VM or a checkpoint."""
    return rf'\\{host.name.upper()}\root\virtualization\v2:{SETTINGS}.InstanceID="{instance_id}"'


def _service(class_name: str, name: str) -> Callable[[Hypervisor], list[Instance]]:
    def read(host: Hypervisor) -> list[Instance]:
        return [{"__CLASS": class_name, "Name": name, "ElementName": name}] if host.manages() else []

    return read


def _computers(host: Hypervisor) -> list[Instance]:
    own = {
        "__CLASS": COMPUTER,
        "Name": host.name,
        "ElementName": host.name,
        "Caption": "Hosting Computer System",
        "EnabledState": _ENABLED_STATES["Running"],
    }
    return [own, *map(_computer, host.vms())]


def _computer(vm: VmView) -> Instance:
    return {
        "__CLASS": COMPUTER,
        "Name": vm.vm_id.upper(),
        "ElementName": vm.name,
        "Caption": "Virtual Machine",
        "EnabledState": _ENABLED_STATES.get(vm.state.removesuffix("Critical"), _OTHER_STATE),
    }


def _all_settings(host: Hypervisor) -> list[Instance]:
    return [settings for vm in host.vms() for settings in _settings(vm)]


def _settings(vm: VmView) -> list[Instance]:
    """Return the settings of a VM, and of each of its checkpoints. That a checkpoint's id is in its own is inferred."""
    frozen = [_setting(vm, c.checkpoint_id, c.name, "Snapshot:Realized", c.parent_id) for c in vm.checkpoints]
    return [_setting(vm, vm.vm_id, vm.name, "System:Realized", vm.parent_snapshot_id), *frozen]


def _setting(vm: VmView, owner: str, name: str, kind: str, parent: str) -> Instance:
    return {
        "__CLASS": SETTINGS,
        "InstanceID": f"Microsoft:{owner.upper()}",
        "VirtualSystemIdentifier": vm.vm_id.upper(),
        "ElementName": name,
        "VirtualSystemType": f"Microsoft:Hyper-V:{kind}",
        "Parent": f"Microsoft:{parent.upper()}" if parent else None,
    }


def _all_storage(host: Hypervisor) -> list[Instance]:
    return [disk for settings in _all_settings(host) for disk in _disks_of(host, str(settings["InstanceID"]))]


def _owners(vm: VmView) -> list[tuple[str, tuple[DriveView, ...]]]:
    """Return the ids of a VM and its checkpoints, with the drives of each."""
    checkpoints: Sequence[CheckpointView] = vm.checkpoints
    return [(vm.vm_id, vm.drives), *((c.checkpoint_id, c.drives) for c in checkpoints)]


def _disks_of(host: Hypervisor, settings_id: str) -> list[Instance]:
    return [
        {
            "__CLASS": STORAGE,
            "InstanceID": _storage_id(owner, drive),
            "HostResource": [drive.path],
            "ElementName": "Hard Disk Image",
            "ResourceSubType": "Microsoft:Hyper-V:Virtual Hard Disk",
        }
        for vm in host.vms()
        for owner, drives in _owners(vm)
        if settings_id.lower() == f"Microsoft:{owner}".lower()
        for drive in drives
        if not drive.pass_through
    ]


def _storage_id(owner: str, drive: DriveView) -> str:
    kind, number, at = drive.location.split(":")
    return rf"Microsoft:{owner.upper()}\{_CONTROLLERS[kind].format(number=int(number), at=at)}\L"


def _jobs(storage: bool | None) -> Callable[[Hypervisor], list[Instance]]:  # noqa: FBT001  (None: both)
    return lambda host: [_job(job) for job in host.all_jobs() if storage is None or job.storage == storage]


def _job(job: JobView) -> Instance:
    called = _CONVERSION if job.storage else _JOBS.get(job.job_type, "Virtual machine job")
    return {
        "__CLASS": STORAGE_JOB if job.storage else CONCRETE_JOB,
        "InstanceID": job.job_id,
        **dict.fromkeys(("Caption", "Description", "ElementName", "Name"), called),
        "JobState": job.state,
        "JobType": job.job_type,
        "PercentComplete": job.percent,
        "ErrorCode": 32768 if job.error else 0,
        "ErrorDescription": job.error,
        "ErrorSummaryDescription": job.error,
        "Cancellable": job.job_type in (62, 6),
    }


def _of_computer(host: Hypervisor, name: str, association: str) -> list[tuple[str, Instance]]:
    vm = host.vm(name)
    if association.lower() == "msvm_affectedjobelement":
        return [("Msvm_AffectedJobElement", _job(job)) for job in host.jobs(name)]
    if vm is None:
        return []
    own, *frozen = _settings(vm)
    export = {"__CLASS": EXPORT_SETTINGS, "InstanceID": rf"Microsoft:{vm.vm_id.upper()}\Export", "CopyVmStorage": True}
    return [
        ("Msvm_SettingsDefineState", own),
        *(("Msvm_SnapshotOfVirtualSystem", one) for one in frozen),
        ("Msvm_SystemExportSettingData", export),
    ]


_ASSOCIATIONS: Final = (
    "Msvm_AffectedJobElement",
    "Msvm_SettingsDefineState",
    "Msvm_SnapshotOfVirtualSystem",
    "Msvm_SystemExportSettingData",
    "Msvm_VirtualSystemSettingDataComponent",
)
_READ: Final[Mapping[str, Callable[[Hypervisor], list[Instance]]]] = {
    MANAGEMENT: _service(MANAGEMENT, "vmms"),
    IMAGES: _service(IMAGES, "vhdsvc"),
    COMPUTER: _computers,
    SETTINGS: _all_settings,
    STORAGE: _all_storage,
    CONCRETE_JOB: _jobs(storage=False),
    STORAGE_JOB: _jobs(storage=True),
    "CIM_ConcreteJob": _jobs(storage=None),
}
