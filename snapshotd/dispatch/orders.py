"""Orders to hosts, in the core's terms. The server translates them into HostCommands."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from snapshotd.domain.ids import ActionName, HostId, OperationName, VmId
from snapshotd.domain.operation import Operation, Step
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports import plain
from snapshotd.steps.action import FACTS
from snapshotd.steps.catalogue import ACTIONS


class OrderKind(Enum):
    """What kind of command it is (docs/host-protocol.md)."""

    REPORT = "REPORT"
    POLL = "POLL"
    OBSERVE = "OBSERVE"
    EFFECT = "EFFECT"
    TAKE_OVER = "TAKE_OVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One command for one host."""

    kind: OrderKind
    host_id: HostId
    deadline: datetime
    vm_id: VmId | None = None
    """None: all VMs of the host (REPORT), or the host itself (TAKE_OVER)."""
    after_vm_id: str = ""
    """REPORT of all VMs: only those that come after this one."""
    operation: OperationName | None = None
    step: int = 0
    action: ActionName | None = None
    """EFFECT: what to do. OBSERVE: what the observed step does."""
    token: int = 0
    journal_id: str = ""
    before: JsonObject = field(default_factory=dict)
    """EFFECT: the facts that the action depends on, by the field of the wire's Before."""
    input: JsonObject = field(default_factory=dict)
    """EFFECT: what exactly to do, by the field of the action's own message."""
    watched_files: tuple[str, ...] = ()
    watched_jobs: tuple[str, ...] = ()
    ends_script: bool = False
    """OBSERVE: end the script that still works on the observed step: it may wait for its guest for ever."""
    former_installation_id: str = ""
    """TAKE_OVER: the owner of the journals, as the host told it."""
    asked: bool = False
    """A person asks for it now: nothing that repeats by itself may set this."""


def effect_order(vm: VirtualMachine, operation: Operation, step: Step) -> Order:
    """Return the order of a step that is ISSUED."""
    assert step.deadline is not None, step
    assert step.before is not None, step
    action = ACTIONS[step.plan.action]
    return Order(
        kind=OrderKind.EFFECT,
        host_id=vm.host_id,
        deadline=step.deadline,
        vm_id=vm.vm_id,
        operation=operation.name,
        step=step.plan.number,
        action=action.name,
        token=step.token,
        journal_id=vm.journal_id,
        before={k: v for k, v in plain.encode(action.facts.read(step.before)).items() if k in FACTS},
        input=action.sent(operation, step),
        watched_files=action.watched_files(step),
    )


def observe_order(vm: VirtualMachine, operation: Operation, step: Step, deadline: datetime) -> Order:
    """Return the observation that is on record for a step."""
    action = ACTIONS[step.plan.action]
    hangs = step.open and action.waits_for_guest(step.plan)
    chains = vm.description.chain_files() if vm.description else ()
    return Order(
        kind=OrderKind.OBSERVE,
        host_id=vm.host_id,
        deadline=deadline,
        vm_id=vm.vm_id,
        operation=operation.name,
        step=step.plan.number,
        action=step.plan.action,
        token=step.token,
        watched_files=tuple(dict.fromkeys((*chains, *action.watched_files(step)))),
        watched_jobs=action.watched_jobs(step),
        ends_script=hangs and vm.makes_way(operation),
    )


def poll_order(vm: VirtualMachine, step: Step, deadline: datetime) -> Order:
    """Return the poll of a step that waits. It looks at files and jobs, and has no token."""
    action = ACTIONS[step.plan.action]
    return Order(
        kind=OrderKind.POLL,
        host_id=vm.host_id,
        deadline=deadline,
        vm_id=vm.vm_id,
        watched_files=action.watched_files(step),
        watched_jobs=action.watched_jobs(step),
    )
