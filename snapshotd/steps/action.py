"""The base class of all actions, and the judgements of a step's outcome. Holds no rule of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import fields
from enum import Enum
from typing import ClassVar

from snapshotd.domain.errors import (
    VmAbsent,
    WrongPower,
)
from snapshotd.domain.host_report import Journal, JournalState, VmDescription, VmReport
from snapshotd.domain.ids import ActionName, CheckpointId, SnapshotId
from snapshotd.domain.lifecycle import NEEDS_POWER, Power, StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import JsonObject, Recorded
from snapshotd.domain.snapshot_errors import (
    SnapshotBlocked,
)
from snapshotd.domain.state import State, replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports import plain
from snapshotd.ports.versioned import Nothing, Versioned


class Done(State, frozen=True):
    """The host is as the step wanted it."""

    output: Recorded


class Absent(State, frozen=True):
    """The step had no effect, and cannot have one any more."""


class InProgress(State, frozen=True):
    """The hypervisor is at work: nothing can be concluded yet."""


class Undetermined(State, frozen=True):
    """The evidence does not settle it, and never will."""

    detail: str


class Failed(State, frozen=True):
    """It has no effect, and another attempt would have none either; what was waited for has ended without one."""

    failure: Failure


Judgement = Done | Absent | InProgress | Undetermined | Failed


class Trace(Enum):
    """What the VM's journal on the host proves about a step."""

    UNTOUCHED = "UNTOUCHED"
    """No script has ever begun it."""
    BEGUN_BEFORE = "BEGUN_BEFORE"
    """An earlier attempt was begun. It was observed to have had no effect before the newest one was issued."""
    BEGUN = "BEGUN"
    """The newest attempt was begun."""
    DONE = "DONE"
    NO_EVIDENCE = "NO_EVIDENCE"
    """The journal is gone, unreadable, or not the one on record."""


def trace(vm: VirtualMachine, operation: Operation, step: Step, journal: Journal) -> Trace:
    """Return what a journal proves about a step. An observed journal is final: the fence keeps later scripts out."""
    if journal.state is not JournalState.PRESENT or journal.journal_id != vm.journal_id:
        return Trace.NO_EVIDENCE
    if (journal.operation, journal.step) != (operation.name, step.plan.number):
        return Trace.UNTOUCHED
    if journal.done or not journal.begun:
        return Trace.DONE if journal.done else Trace.UNTOUCHED
    return Trace.BEGUN if journal.begun_token == step.issued_token else Trace.BEGUN_BEFORE


FACTS: dict[str, Callable[[VirtualMachine, VmDescription], object]] = {
    "power": lambda vm, _: vm.power,
    "checkpoint_ids": lambda _, there: there.checkpoint_ids(),
    "current_checkpoint_id": lambda _, there: there.current_checkpoint_id,
    "leaf_paths": lambda _, there: there.leaf_paths(),
    "chain_files": lambda _, there: there.chain_files(),
    "drives": lambda _, there: there.drives(),
    "offering": lambda _, there: there.offering,
    "absent_files": lambda _, __: (),
    "vm_absent": lambda _, __: True,
}
"""What a step can depend on, by the name of the field in its Before, and in the wire's.

Which files must not be there only the action knows: it overrides `before` and puts them in. A Before may hold more than
that: what the core needs later to judge the step. It is not sent.
"""


class Action(ABC):
    """What a step asks of the host, and how its outcome is judged.

    A method with a body is the default. An action overrides what it needs.
    """

    name: ClassVar[ActionName]
    label: ClassVar[str]
    """The step's name in the API: short and stable."""
    polls: ClassVar[bool] = False
    """It sends no command: the host is polled for what it does by itself, and `judge` reads the polls."""
    waits_for: ClassVar[Failure]
    """What the operation waits for before the first poll is answered. Only for an action that polls."""
    holds_vm: ClassVar[bool] = True
    """Nothing else may be done to the VM meanwhile."""
    needs_vm: ClassVar[bool] = True
    """It waits for a VM that its host does not have, which may be on its way to another. Else it acts without it."""
    input: Versioned[object] = Versioned(Nothing)
    """What it is to do: recorded with the plan, and sent to the host field by field."""
    made_up: ClassVar[frozenset[str]] = frozenset()
    """Fields of its Input whose value each call makes up anew: another one does not make another plan."""
    unsent: ClassVar[frozenset[str]] = frozenset()
    """Fields of its Input that say how `before` finds the rest out: the host is not told of them."""
    facts: Versioned[object] = Versioned(Nothing)
    """What `before` returns: recorded when the step is issued, and sent likewise."""
    output: Versioned[object] = Versioned(Nothing)
    """Its result: reported by the host field by field, or concluded by `judge`."""

    def planned(
        self, values: object = None, *, nature: StepNature, snapshot_id: SnapshotId | None = None
    ) -> PlannedStep:
        """Return a step for a plan; `numbered` gives it its number.

        Args:
            values: its Input; None: one without values.
            nature: what becomes of the operation when it fails.
            snapshot_id: the snapshot that it is about.
        """
        return PlannedStep(
            number=0,
            action=self.name,
            input=self.input.write(self.input.cls() if values is None else values),
            nature=nature,
            polls=self.polls,
            holds_vm=self.holds_vm,
            snapshot_id=snapshot_id,
        )

    def before(self, vm: VirtualMachine, operation: Operation, step: Step) -> object:
        """Return the facts that the step depends on, as they are on record: by default those that its Before names."""
        assert vm.description is not None, vm.vm_id
        facts = {f.name: FACTS[f.name](vm, vm.description) for f in fields(self.facts.cls)}  # type: ignore[arg-type]
        return self.facts.cls(**facts)

    @abstractmethod
    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return what became of the step, by its logged `before` and a report. Pure."""

    @abstractmethod
    def time_limit_s(self, policy: Policy) -> float:
        """Return how long one attempt may take; if it polls, how long without progress."""

    def done(self, output: object = Nothing()) -> Done:
        """Build the judgement that the step is done, with its Output."""
        return Done(self.output.write(output))

    def told(self, values: JsonObject) -> Done:
        """Build the judgement from the output that the host reported. Raises RecordNotReadable if it does not fit."""
        return self.done(self.output.now(values))

    def believable(self, vm: VirtualMachine, step: Step, done: Done) -> bool:
        """Return whether a result that the host told can be this step's. By default, any that fits its Output can."""
        return True

    def settled(self, vm: VirtualMachine, step: Step) -> Done | None:
        """Return the result of a step that took effect, as a person says; None: it is not in the VM's record."""
        return self.done() if self.output.cls is Nothing else None

    def sent(self, operation: Operation, step: Step) -> JsonObject:
        """Return its Input for the host: as planned, unless an earlier step's output has to be filled in."""
        return plain.encode(self.input.read(step.plan.input))

    def satisfied(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the host is already as the step wants it. By default it never is."""
        return False

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return why the step must not be issued now; None if it may."""
        return None

    def touched(self, vm: VirtualMachine, step: Step) -> bool:
        """Return whether there is something to undo."""
        return step.state is StepState.DONE

    def undo(self, vm: VirtualMachine, step: Step) -> tuple[PlannedStep, ...]:
        """Return the steps that undo what it has done; none if nothing can, or nothing needs to."""
        return ()

    def goal(self, plan: PlannedStep) -> Power | None:
        """Return the power that a step brings about; None if that is not what it is for."""
        return None

    def waits_for_guest(self, plan: PlannedStep) -> bool:
        """Return whether its command waits for the guest, who may never come to an end with it."""
        return False

    def claims(self, vm: VirtualMachine, step: Step) -> frozenset[Power]:
        """Return the powers that a step, as it stands, may have brought the VM to. Any other is others' doing."""
        return frozenset()

    def leaves(self, step: Step, recorded: VmDescription, observed: VmDescription) -> VmDescription:
        """Return the VM as a step leaves it, as it stands. What is neither so nor as recorded is others' doing.

        Args:
            step: any, also one that was not issued.
            recorded: the VM as it is on record, with what earlier steps leave.
            observed: the VM as it is. What the step brings about and nobody can tell beforehand is taken from there.
        """
        return recorded

    def made(self, step: Step) -> frozenset[CheckpointId]:
        """Return the checkpoints that a step has made. They are not drift."""
        return frozenset()

    def watched_files(self, step: Step) -> tuple[str, ...]:
        """Return the files whose existence polls and observations report. A step not yet issued has no `before`."""
        return ()

    def watched_jobs(self, step: Step) -> tuple[str, ...]:
        """Return the jobs of the hypervisor, by id, whose state polls and observations report. As `watched_files`."""
        return ()

    def awaits(self, step: Step, report: VmReport) -> Failure:
        """Return what the operation waits for by a poll's report. Only for an action that polls."""
        return self.waits_for

    def progress(self, step: Step, report: VmReport) -> int:
        """Return how far what a poll waits for has come, in percent: by default, as the host says of its job."""
        return report.percent

    def stalled(self, policy: Policy, awaited: Failure) -> Failure:
        """Return the failure for no progress in `time_limit_s`. Only for an action that polls.

        Args:
            policy: has the limit.
            awaited: what the last poll has shown (`awaits`).
        """
        raise NotImplementedError(self.name)

    @abstractmethod
    def description(self, plan: PlannedStep) -> str:
        """Return what the step does, in a sentence for people."""

    def may_lose(self, vm: VirtualMachine, plan: PlannedStep) -> str:
        """Return what the step may lose, for people; empty: nothing."""
        return ""

    def lost_memory(self, step: Step) -> bool:
        """Return whether a step that is done has lost what the guest held in memory. No undo brings that back."""
        return False


def numbered(steps: Iterable[PlannedStep], first: int = 1) -> tuple[PlannedStep, ...]:
    """Return steps with their numbers in the plan."""
    return tuple(replace(step, number=number) for number, step in enumerate(steps, first))


def wrong_power(vm: VirtualMachine, trigger: str, action: str) -> WrongPower | VmAbsent | None:
    """Return why the VM's power does not allow an activity to begin, or None.

    Args:
        vm: the VM.
        trigger: the arrow of its table that begins the activity.
        action: what cannot be done then, as a verb phrase: "start", "delete a snapshot of".
    """
    return power_outside(vm, NEEDS_POWER[trigger], action)


def power_outside(vm: VirtualMachine, allowed: frozenset[Power], action: str) -> WrongPower | VmAbsent | None:
    """Return what `wrong_power` does, for the powers that are allowed."""
    if vm.power in allowed:
        return None
    if vm.power is Power.ABSENT:
        return VmAbsent(vm.name, action, vm.host_id)
    *others, last = (p.name for p in Power if p in allowed)
    needed = f"{', '.join(others)} or {last}" if others else last
    return WrongPower(vm.name, vm.power.name, needed, action, vm.host_id)


def blocked(vm: VirtualMachine, action: str) -> SnapshotBlocked | None:
    """Return what keeps the VM, as it was last reported, from being checkpointed or brought back; None if nothing does.

    Args:
        vm: the VM.
        action: what cannot be done then, as a verb phrase.
    """
    blockers = vm.description.snapshot_blockers if vm.description else ()
    return SnapshotBlocked(vm.name, ", ".join(blockers), action, vm.host_id) if blockers else None


def power_refusal(vm: VirtualMachine, trigger: str, action: str) -> Failure | None:
    """Return what `wrong_power` does, as what stops an operation."""
    wrong = wrong_power(vm, trigger, action)
    return Failure.of(wrong) if wrong else None
