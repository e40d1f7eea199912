"""What is sent to a host, as the core means it. The server turns it into the wire's HostCommand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from snapshotd.domain.host_report import Before
from snapshotd.domain.ids import CheckpointId, HostId, OperationName, VmId
from snapshotd.domain.operation import Operation, Step, StepAction, StopMode
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.snapshot_create import checkpoint_name


class OrderKind(Enum):
    """What kind of command it is (docs/host-protocol.md)."""

    REPORT = "REPORT"
    POLL = "POLL"
    OBSERVE = "OBSERVE"
    EFFECT = "EFFECT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One command for one host."""

    kind: OrderKind
    host_id: HostId
    deadline: datetime
    vm_id: VmId | None = None
    """None: all VMs of the host; REPORT only."""
    operation: OperationName | None = None
    step: int = 0
    action: StepAction | None = None
    """EFFECT: what to do. OBSERVE: what the observed step does."""
    token: int = 0
    journal_id: str = ""
    before: Before | None = None
    watched_files: tuple[str, ...] = ()
    stop_mode: StopMode | None = None
    checkpoint_name: str = ""
    """CREATE and RENAME."""
    checkpoint_id: CheckpointId | None = None
    """RESTORE, REMOVE and RENAME."""
    with_memory: bool = False
    """CREATE."""
    allow_fallback: bool = False
    """CREATE."""


def effect_order(vm: VirtualMachine, operation: Operation, step: Step) -> Order:
    """Return the command of a step that is ISSUED."""
    assert step.deadline is not None, step
    snapshot = vm.snapshots.get(step.plan.snapshot_id) if step.plan.snapshot_id else None
    made = operation.step(1).checkpoint_id if step.plan.action is StepAction.RENAME else None
    return Order(
        kind=OrderKind.EFFECT,
        host_id=vm.host_id,
        deadline=step.deadline,
        vm_id=vm.vm_id,
        operation=operation.name,
        step=step.plan.number,
        action=step.plan.action,
        token=step.token,
        journal_id=vm.journal_id,
        before=step.before,
        stop_mode=step.plan.stop_mode,
        checkpoint_name=checkpoint_name(snapshot) if snapshot else "",
        checkpoint_id=made or (snapshot.checkpoint_id if snapshot else None),
        with_memory=snapshot is not None and snapshot.with_memory,
        allow_fallback=operation.allow_fallback,
    )


def observe_order(vm: VirtualMachine, operation: Operation, step: Step, deadline: datetime) -> Order:
    """Return the observation that is on record for a step."""
    return Order(
        kind=OrderKind.OBSERVE,
        host_id=vm.host_id,
        deadline=deadline,
        vm_id=vm.vm_id,
        operation=operation.name,
        step=step.plan.number,
        action=step.plan.action,
        token=step.token,
        watched_files=vm.description.chain_files() if vm.description else (),
    )


def poll_order(vm: VirtualMachine, step: Step, deadline: datetime) -> Order:
    """Return the poll of a step that waits: a look at files and jobs, without a token."""
    return Order(
        kind=OrderKind.POLL,
        host_id=vm.host_id,
        deadline=deadline,
        vm_id=vm.vm_id,
        watched_files=step.watched_files,
    )
