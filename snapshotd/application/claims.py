"""Where a VM is, when another host than its own reports it.

    its own host does not have it ──► the VM has moved: its operations go on there
    its own host has it too ────────► claimed: nothing is done to it until only one has it
    its own host cannot be asked ───► claimed likewise: nobody knows
    the other one has it no longer ─► the claim ends

A replica counts on no host: it has the id of its primary, and is there beside it (inferred).
"""

from __future__ import annotations

from snapshotd.application.draft import Draft
from snapshotd.application.progress import advance
from snapshotd.application.reconcile import describe, reconcile
from snapshotd.application.unknown import look_anew
from snapshotd.domain import commands as c
from snapshotd.domain import events as e
from snapshotd.domain.events import DriftKind
from snapshotd.domain.operation import Failure


def compare_hosts(draft: Draft, command: c.CompareHosts) -> None:
    """Record where the VM is by what two hosts say; nothing if it has moved since they were asked."""
    vm = draft.vm
    if not vm.registered or vm.host_id != command.own_host_id or vm.host_id == command.host_id:
        return
    draft.reporter = command.host_id
    # The host that a VM was released from has none of it, unless a start imports it there just now.
    left = vm.released is not None and not vm.active_operations
    if not command.report.holds_vm:
        _end_claim(draft, command)
    elif isinstance(command.own, Failure) and not left:
        _claim(draft, command, command.own.reason)
    elif not isinstance(command.own, Failure) and command.own.holds_vm:
        _claim(draft, command, "")
    else:
        _move(draft, command)
    advance(draft)


def _end_claim(draft: Draft, command: c.CompareHosts) -> None:
    vm = draft.vm
    if any(claim.host_id == command.host_id for claim in vm.claims):
        both, own = f"{vm.host_id}, {command.host_id}", vm.host_id
        detail = f"{command.host_id} does not have it any more"
        kind = DriftKind.VM_CLAIM_ENDED
        draft.add([e.DriftDetected(kind=kind, detail=detail, recorded=both, observed=own)])
        draft.add([e.VmClaimEnded(host_id=command.host_id)])


def _claim(draft: Draft, command: c.CompareHosts, unasked: str) -> None:
    vm = draft.vm
    if any(claim.host_id == command.host_id and claim.unasked == unasked for claim in vm.claims):
        return
    detail = f"{command.host_id} has it, and {vm.host_id} "
    detail += f"cannot be asked whether it still has it ({unasked})" if unasked else "has it too"
    kind, both = DriftKind.VM_CLAIMED_BY_TWO_HOSTS, f"{vm.host_id}, {command.host_id}"
    draft.add([e.DriftDetected(kind=kind, detail=detail, recorded=vm.host_id, observed=both)])
    draft.add([e.VmClaimed(host_id=command.host_id, unasked=unasked)])


def _move(draft: Draft, command: c.CompareHosts) -> None:
    """Record that the VM is on the other host, and what that host says of it, as far as no step may be at work."""
    vm = draft.vm
    there = command.host_id
    detail = f"on {vm.host_id} on record; {vm.host_id} does not have it any more, and {there} has"
    kind = DriftKind.VM_MOVED
    draft.add([e.DriftDetected(kind=kind, detail=detail, recorded=vm.host_id, observed=there)])
    if vm.released is not None:
        draft.add([e.VmReleaseEnded(cause="drift")])
    draft.add([e.VmMoved(from_host_id=vm.host_id, to_host_id=there, cause="drift")])
    text = f"The VM was moved from {vm.host_id} to {there} while the command was under way."
    look_anew(draft, Failure(reason="VM_MOVED", message=text))
    if not draft.vm.claims and not vm.at_work() and vm.last_step_version <= command.asked_version:
        reconcile(draft, describe(draft, command.report))
