"""ChangeServiceOffering: the VM's snapshots with memory are deleted, then its processors are set, then its memory.

    remove → merge → … → configure (processors) → configure (memory)

Memory that a checkpoint holds fits only the processors and memory of its moment, so it could not be brought back any
more. Snapshots of disks stay, each with the offering of its moment: a revert brings that back (documented). Processors
and memory are a step each: if the second is refused, the first is undone. Without a change nothing is deleted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.errors import InvalidArgument
from snapshotd.domain.foreign_checkpoints import other_checkpoints
from snapshotd.domain.ids import KindName
from snapshotd.domain.lifecycle import VmActivity
from snapshotd.domain.offering import Offering
from snapshotd.domain.offering_errors import ForeignMemory, OfferingNotKnown
from snapshotd.domain.offering_words import bytes_in_words
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.discarding import Discarding, check_discarded
from snapshotd.operations.kind import Preview, move_vm
from snapshotd.operations.snapshots import alive, leaves_first, listed
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import vm_configure
from snapshotd.steps.vm_configure import VM_CONFIGURE


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What to set; None: as it is."""

    cpu_count: int | None = None
    memory_bytes: int | None = None
    """At the start of the VM."""
    dynamic_memory: bool | None = None
    minimum_bytes: int | None = None
    maximum_bytes: int | None = None


class ChangeServiceOffering(Discarding):
    """Change a VM's processors and memory."""

    name = KindName("CHANGE_SERVICE_OFFERING")
    params: Versioned[Params] = Versioned(Params)

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError unless the VM is off, what is asked for fits it, and its memory may be discarded."""
        if refused := vm_configure.needs_stopped(vm):
            raise refused
        _check_values(vm, self.params.read(request.params))
        if not self._changes(vm, request):
            return
        check_discarded(vm, self.targets(vm, request))
        if names := _foreign_memory(vm):
            raise ForeignMemory(vm.name, names)

    def targets(self, vm: VirtualMachine, request: RequestOperation) -> tuple[Snapshot, ...]:
        """Return the snapshots with memory, each before its parent; none if nothing would change."""
        if not self._changes(vm, request):
            return ()
        there = {s.snapshot_id for s in alive(vm)}
        order = leaves_first(vm, [s for s in alive(vm) if s.parent_id not in there])
        return tuple(s for s in order if s.with_memory)

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the deletions, and a step each for processors and memory."""
        asked = self.params.read(request.params)
        sets = [vm_configure.Input(cpu_count=asked.cpu_count), _of_memory(asked)]
        changes = [VM_CONFIGURE.planned(what, nature=StepNature.UNDOABLE) for what in sets if what != _NOTHING]
        return (*self.discards(self.targets(vm, request)), *changes)

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the VM is not off, a snapshot is held, or others have taken memory meanwhile."""
        if step.plan.polls:
            return None
        refused = vm_configure.needs_stopped(vm)
        if refused is None and (names := _foreign_memory(vm)):
            refused = ForeignMemory(vm.name, names)
        return Failure.of(refused) if refused else super().refusal(vm, operation, step)

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's move to EXPUNGING, with that of the first snapshot; to RECONFIGURING if there is none."""
        first = "discard_begins" if step.plan.snapshot_id else "reconfiguration_begins"
        return move_vm(vm, first), *super().continues(vm, operation, step)

    def continues(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return what a deletion means, or the VM's move to RECONFIGURING after the last one."""
        if step.plan.snapshot_id is None and vm.activity is VmActivity.EXPUNGING:
            return (move_vm(vm, "discard_ended"),)
        return super().continues(vm, operation, step)

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return what is discarded, and what there is to know of a request that changes nothing."""
        seen = super().preview(vm, request)
        if not self._changes(vm, request):
            return replace(seen, warnings=(*seen.warnings, "The VM has what is asked for. Nothing would be changed."))
        reverts = "A revert to a snapshot of disks brings back the processors and memory of its moment."
        kept = any(not s.with_memory for s in alive(vm))
        return replace(seen, warnings=(*seen.warnings, reverts) if kept else seen.warnings)

    def _changes(self, vm: VirtualMachine, request: RequestOperation) -> bool:
        return vm.description is None or _wanted(vm.description.offering, self.params.read(request.params)) != (
            vm.description.offering
        )


_NOTHING = vm_configure.Input()


def _of_memory(asked: Params) -> vm_configure.Input:
    return vm_configure.Input(**{**asdict(asked), "cpu_count": None})


def _wanted(offering: Offering, asked: Params) -> Offering:
    return vm_configure.with_change(offering, vm_configure.Input(**asdict(asked)))


def _foreign_memory(vm: VirtualMachine) -> str:
    """Return the names of the checkpoints that are not ours and hold memory; empty: none does."""
    return listed([repr(c.name) for c in other_checkpoints(vm) if c.has_memory])


def _check_values(vm: VirtualMachine, asked: Params) -> None:
    """Raise InvalidArgument unless what is asked for goes together with what stays as it is."""
    if vm.description is None:
        raise OfferingNotKnown(vm.name, vm.host_id)
    wanted, given = _wanted(vm.description.offering, asked), asdict(asked)
    for bound in ("minimum_bytes", "maximum_bytes"):
        if given[bound] is not None and not wanted.dynamic_memory:
            raise _unfit(bound, given[bound], "goes with dynamic memory only, which the VM would not have.")
    if not wanted.dynamic_memory:
        return
    pairs = (("minimum_bytes", "memory_bytes"), ("memory_bytes", "maximum_bytes"), ("minimum_bytes", "maximum_bytes"))
    for less, more in pairs:
        low, high = getattr(wanted, less), getattr(wanted, more)
        if low and high and low > high:
            if given[less] is not None:
                raise _unfit(less, low, f"must not be above {more}, which would be {bytes_in_words(high)}.")
            raise _unfit(more, high, f"must not be below {less}, which would be {bytes_in_words(low)}.")


def _unfit(field: str, size: int, problem: str) -> InvalidArgument:
    return InvalidArgument(f"service_offering.{field}", bytes_in_words(size), problem)


CHANGE_SERVICE_OFFERING = ChangeServiceOffering()
