"""What else happens to a VM that has snapshots, in the demo."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import grpc
from grpc_status import rpc_status

from demo.checks import say
from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.client.calls import reason_of

if TYPE_CHECKING:
    from demo.main_job import Stage


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
