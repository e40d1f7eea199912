"""The methods of WMI's classes that are simulated: each takes an instance and arguments, and answers with a code.

A refusal is a code, without a text (documented). What goes wrong later is told by the job.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from snapshotd.simulator.hypervisor import WMI_CODES, Caller, HyperVError, Hypervisor, VmView
from snapshotd.simulator.pwsh import wmi
from snapshotd.simulator.pwsh.bridge import Call
from snapshotd.simulator.pwsh.embedded import Value, read_embedded
from snapshotd.simulator.pwsh.wql import CMDLETS, Instance, parse_query, select

_STARTED: Final = 4096
_TERMINATE: Final = 4
_DYNAMIC: Final = 3
_VHDX: Final = 3
_SNAPSHOT: Final = re.compile(
    r'\\\\[^\\]+\\root\\virtualization\\v2:Msvm_VirtualSystemSettingData\.InstanceID="Microsoft:([0-9A-F-]{36})"',
    re.IGNORECASE,
)

Arguments = Mapping[str, Any]


def invoke(host: Hypervisor, caller: Caller, instance: Instance, method: str, arguments: Arguments) -> dict[str, Any]:
    """Call a method of an instance; return ReturnValue and Job. Raises HyperVError, ScriptKilled."""
    known = _METHODS.get((str(instance["__CLASS"]), method.lower()))
    if known is None:
        text = f"Invalid method: the simulated host does not do {instance['__CLASS']}.{method}."
        raise HyperVError(f"HRESULT 0x8004102e,{CMDLETS}.InvokeCimMethodCommand", "Invoke-CimMethod", text)
    try:
        return known(host, caller, instance, arguments)
    except HyperVError as error:
        code = WMI_CODES.get(error.error_id)
        if code is None:
            raise
        return {"ReturnValue": code, "Job": None}
    except ValueError:  # settings that cannot be read (the code is inferred)
        return {"ReturnValue": WMI_CODES["InvalidParameter"], "Job": None}


def wmi_calls(host: Hypervisor) -> dict[str, Call]:
    """Return the calls of the CIM cmdlets, by name."""

    def found(_: Caller, asked: Arguments) -> object:
        if asked.get("instance"):
            return [wmi.the_one(host, asked["instance"])]
        name, where = parse_query(asked["query"]) if asked.get("query") else (asked["class"], asked.get("filter") or "")
        return select(wmi.instances(host, name), where)

    def associated(_: Caller, asked: Arguments) -> object:
        return wmi.associated(host, asked["instance"], asked.get("association") or "", asked.get("result_class") or "")

    def invoked(caller: Caller, asked: Arguments) -> object:
        return invoke(host, caller, wmi.the_one(host, asked["instance"]), asked["method"], asked["arguments"])

    return {"wmi": found, "wmi_associated": associated, "wmi_invoke": invoked}


def _export(host: Hypervisor, caller: Caller, _instance: Instance, arguments: Arguments) -> dict[str, Any]:
    vm = wmi.vm_of(host, arguments.get("ComputerSystem"))
    if vm is None:
        raise HyperVError("ObjectNotFound", "ExportSystemDefinition", "no such computer system")
    settings = read_embedded(str(arguments.get("ExportSettingData")), wmi.EXPORT_SETTINGS)
    job_id = host.export_vm(
        caller,
        vm.vm_id,
        str(arguments.get("ExportDirectory")),
        snapshots=_number(settings, "CopySnapshotConfiguration"),
        snapshot_id=_snapshot_id(settings),
        storage=settings.get("CopyVmStorage", False) is True,
        runtime=settings.get("CopyVmRuntimeInformation", False) is True,
        subdirectory=settings.get("CreateVmExportSubdirectory", False) is True,
        capture_live_state=_number(settings, "CaptureLiveState"),
        excluded=[_place(vm, disk) for disk in _texts(settings, "ExcludedVirtualHardDisks")],
        differential=settings.get("DisableDifferentialOfIgnoredStorage", False) is not True,
    )
    return _begun(wmi.CONCRETE_JOB, job_id)


def _snapshot_id(settings: Mapping[str, Value]) -> str:
    path = settings.get("SnapshotVirtualSystem", "")
    found = _SNAPSHOT.fullmatch(str(path))
    if path and found is None:
        raise ValueError(f"{path!r} is no path of settings")
    return found[1].lower() if found else ""


def _place(vm: VmView, instance_id: str) -> str:
    place = wmi.place_of(vm, instance_id)
    if place is None:
        raise ValueError(f"{instance_id} is no disk of {vm.name}")
    return place


def _convert(host: Hypervisor, caller: Caller, _instance: Instance, arguments: Arguments) -> dict[str, Any]:
    settings = read_embedded(str(arguments.get("VirtualDiskSettingData")), "Msvm_VirtualHardDiskSettingData")
    needed = ("Path", "Type", "Format", "BlockSize", "LogicalSectorSize")
    if any(name not in settings for name in needed):  # documented: they must be set
        raise ValueError(f"not all of {', '.join(needed)} are set")
    if settings["Type"] != _DYNAMIC or settings["Format"] != _VHDX or settings.get("ParentPath"):
        raise HyperVError("NotSupported", "ConvertVirtualHardDisk", "to a dynamic VHDX without parent only")
    return _begun(wmi.STORAGE_JOB, host.convert_disk(caller, str(arguments.get("SourcePath")), str(settings["Path"])))


def _request_state_change(host: Hypervisor, caller: Caller, instance: Instance, arguments: Arguments) -> dict[str, Any]:
    if arguments.get("RequestedState") != _TERMINATE:
        raise HyperVError("NotSupported", "RequestStateChange", "a job is only terminated here")
    host.terminate_job(caller, str(instance["InstanceID"]))
    return {"ReturnValue": 0, "Job": None}


def _begun(class_name: str, job_id: str) -> dict[str, Any]:
    """Answer with a job that has begun, by a reference, so only with its keys; with none if it is done already."""
    if not job_id:
        return {"ReturnValue": 0, "Job": None}
    return {"ReturnValue": _STARTED, "Job": {"__CLASS": class_name, "InstanceID": job_id}}


def _number(settings: Mapping[str, Value], name: str) -> int:
    value = settings.get(name, 0)
    assert isinstance(value, int), name
    return value


def _texts(settings: Mapping[str, Value], name: str) -> tuple[str, ...]:
    value = settings.get(name, ())
    assert isinstance(value, tuple), name
    return value


_METHODS: Final[Mapping[tuple[str, str], Callable[[Hypervisor, Caller, Instance, Arguments], dict[str, Any]]]] = {
    (wmi.MANAGEMENT, "exportsystemdefinition"): _export,
    (wmi.IMAGES, "convertvirtualharddisk"): _convert,
    (wmi.CONCRETE_JOB, "requeststatechange"): _request_state_change,
    (wmi.STORAGE_JOB, "requeststatechange"): _request_state_change,
}
"""By the class and the method's name in lower case."""
