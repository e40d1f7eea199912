"""What else happens to a VM that has snapshots, in the demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import grpc
from google.longrunning.operations_pb2 import GetOperationRequest, ListOperationsRequest, Operation
from grpc_status import rpc_status

from demo.checks import say
from demo.stage import LONG_MS, Stage
from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.client.calls import reason_of
from snapshotd.client.progress import metadata_of

DATA: Final = "SCSI:0:1"


def refuse_a_disk(stage: Stage) -> None:
    """Try to attach a disk to a VM that has a snapshot."""
    say("attach a new disk to web01, which has a snapshot: refused")
    file = stage.directory / "hv01" / "new.vhdx"
    request = pb.AttachVolumeRequest(name=stage.vm("web01"), path=str(file), size_bytes=1 << 30)
    try:
        stage.vms.AttachVolume(request)
        reason = ""
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # the error of a call is also the call
        reason = reason_of(status) if status else "none"
        sys.stdout.write(f"{status.message if status else error}\n")
    stage.checks.check("it is refused", reason, "VM_HAS_SNAPSHOTS")
    stage.checks.check("no disk was made", file.exists(), False)


def change_the_offering(stage: Stage) -> None:
    """Give a VM more CPUs: its snapshot with memory is deleted first, as the plan says."""
    say("give web01 four CPUs: it has to be off, and its snapshot with memory goes")
    off = pb.StopVirtualMachineRequest(name=stage.vm("web01"), mode=pb.StopVirtualMachineRequest.TURN_OFF)
    stage.ended(stage.vms.StopVirtualMachine(off))
    sys.stdout.write(stage.ctl("vm", "offering", "web01", "--cpus", "4", "--dry-run"))
    request = pb.ChangeServiceOfferingRequest(name=stage.vm("web01"), service_offering=pb.ServiceOffering(cpu_count=4))
    stage.ended(stage.vms.ChangeServiceOffering(request))
    truth = stage.truth("web01")
    stage.checks.check("web01 has four CPUs", truth["offering"]["cpu_count"], 4)
    stage.checks.check("its snapshot with memory is gone", truth["checkpoints"], [])


def copy_a_disk(stage: Stage) -> None:
    """Copy a disk of a running VM that has snapshots."""
    say("copy a disk of db01 while it runs: its tree stays as it is")
    stage.ended(stage.vms.StartVirtualMachine(pb.StartVirtualMachineRequest(name=stage.vm("db01"))))
    before = stage.truth("db01")
    copy = pb.VolumeSnapshot(display_name="data of today", location=DATA)
    request = pb.TakeVolumeSnapshotRequest(parent=stage.vm("db01"), volume_snapshot=copy)
    taken = pb.VolumeSnapshot()
    stage.ended(stage.vms.TakeVolumeSnapshot(request)).response.Unpack(taken)
    sys.stdout.write(stage.ctl("volume-snapshot", "list", "db01"))
    stage.checks.check("its file is there", Path(taken.path).is_file(), True)
    now = stage.truth("db01")
    stage.checks.check("the checkpoints are what they were", now["checkpoints"], before["checkpoints"])
    contents = [{at: disk["sha256"] for at, disk in truth["disks"].items()} for truth in (before, now)]
    stage.checks.check("so are the disks", contents[1], contents[0])
    stage.show_tree()


def start_amid_an_export(stage: Stage) -> None:
    """Stop a VM, which is then exported, and start it before that is done."""
    say("stop db01, which is exported then, and start it before that is done: start wins")
    policy = pb.VirtualMachine(name=stage.vm("db01"), export_policy=pb.VirtualMachine.ON_STOP)
    update = pb.UpdateVirtualMachineRequest(virtual_machine=policy)
    update.update_mask.paths.append("export_policy")
    stage.vms.UpdateVirtualMachine(update)
    stage.host.control("durations", export=LONG_MS)
    off = pb.StopVirtualMachineRequest(name=stage.vm("db01"), mode=pb.StopVirtualMachineRequest.TURN_OFF)
    stage.ended(stage.vms.StopVirtualMachine(off))
    stage.until("the export has begun", lambda: bool(_parts(stage)))
    sys.stdout.write(stage.ctl("operation", "list", "--active"))
    (export,) = _active(stage)
    stage.ended(stage.vms.StartVirtualMachine(pb.StartVirtualMachineRequest(name=stage.vm("db01"))))
    stage.checks.check("db01 runs", stage.truth("db01")["state"], "Running")
    ended = stage.operations.GetOperation(GetOperationRequest(name=export.name))
    state = metadata_of(ended)
    stage.checks.check("the export is cancelled", state.State.Name(state.state), "CANCELLED")
    stage.checks.check("nothing is left of it", _parts(stage), [])
    stage.host.control("durations", export=0)


def _active(stage: Stage) -> list[Operation]:
    condition = f'done = "false" AND virtual_machine = "{stage.vm("db01")}"'
    return list(stage.operations.ListOperations(ListOperationsRequest(filter=condition)).operations)


def _parts(stage: Stage) -> list[Path]:
    """Return the folders of db01's exports, complete or not."""
    folder = stage.exports / stage.ids["db01"]
    return sorted(folder.iterdir()) if folder.is_dir() else []
