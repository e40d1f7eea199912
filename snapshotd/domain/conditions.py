"""What is wrong with a VM, or needs somebody's attention, though no operation is at fault."""

from __future__ import annotations

from collections.abc import Iterator

from snapshotd.domain.chains import passed_through
from snapshotd.domain.errors import ClaimedByTwoHosts, LogRolledBack
from snapshotd.domain.host_report import VmDescription, file_key
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Failure
from snapshotd.domain.own_files import DIFFERENCING
from snapshotd.domain.vm_record import VmRecord


def conditions(vm: VmRecord) -> tuple[Failure, ...]:
    """Return the conditions of a VM, each with a reason and words for people."""
    return tuple(_conditions(vm))


def _conditions(vm: VmRecord) -> Iterator[Failure]:
    if vm.rolled_back:
        yield Failure.of(LogRolledBack(vm.name, vm.rolled_back))
    if vm.claims:
        yield Failure.of(claimed(vm))
    if vm.description is None or not vm.registered or vm.released or vm.power is Power.ABSENT:
        return  # nothing of it is on a host
    if vm.description.critical:
        text = (
            "Hyper-V reports the VM as critical: its storage or configuration cannot be reached, or its volume is "
            "full. No snapshot can be taken. Stopping it and deleting snapshots work, and deleting frees space."
        )
        yield Failure(reason="VM_CRITICAL", message=text)
    if not vm.active and (left := vm.temporary_checkpoints()):
        named = ", ".join(f"{checkpoint_id} (of volume snapshot {which})" for checkpoint_id, which in left.items())
        text = (
            f"Temporary checkpoints of volume snapshots are left: {named}. They take up room as the guest writes. The "
            "next volume snapshot of the VM removes them, and so does the deletion of the one that they were made for "
            "(`snapshotctl volume-snapshot delete`)."
        )
        yield Failure(reason="TEMPORARY_CHECKPOINT_LEFT", message=text)
    if not vm.active and (strays := _strays(vm.description)):
        text = (
            f"Nothing stands on these files in the VM's disk chains: {', '.join(strays)}. A backup or an interrupted "
            "merge has left them. Hyper-V may merge them when the VM is shut down; snapshotd does not touch them."
        )
        yield Failure(reason="NEEDS_CONSOLIDATION", message=text)


def claimed(vm: VmRecord) -> ClaimedByTwoHosts:
    """Build the refusal of what is asked of a VM that another host has too."""
    claimants = ", ".join(claim.host_id for claim in vm.claims)
    unasked = next((claim.unasked for claim in vm.claims if claim.unasked), "")
    return ClaimedByTwoHosts(vm.name, vm.host_id, claimants, unasked)


def _strays(description: VmDescription) -> list[str]:
    strays = passed_through(description)
    return [f.path for f in description.files if file_key(f.path) in strays and f.path.lower().endswith(DIFFERENCING)]
