"""Fakes of what stands on the other side of the core's ports. No mocks: each behaves, within its small world.

`FakeHost` is a Hyper-V host at the level of answers: it keeps fence and journal as docs/host-protocol.md says, makes
and merges checkpoints with files that branch, and counts its effects, so that a test compares with what happened.
"""

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Self

from snapshotd.application.decide import decide
from snapshotd.application.draft import Context, Draft
from snapshotd.dispatch.orders import Order, effect_order
from snapshotd.domain.commands import CancelOperation, LoseOutcome, Proceed, RegisterVm, TakeAnswer, TakePoll, VmCommand
from snapshotd.domain.host_report import (
    STATE_CHANGE,
    Checkpoint,
    Disk,
    DiskFile,
    HostAnswer,
    HostJob,
    JobState,
    Journal,
    JournalState,
    Verdict,
    VmDescription,
    VmReport,
)
from snapshotd.domain.ids import ActionName, CheckpointId, HostId, VmId
from snapshotd.domain.lifecycle import Power, StepState
from snapshotd.domain.offering import Offering
from snapshotd.domain.operation import Failure, Operation, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports import plain
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.vm_stop import GOAL, StopMode
from tests import asking as actions
from tests.fake_copies import FakeCopies
from tests.fake_exports import FakeExports

VM_ID = VmId("11111111-1111-4111-8111-111111111111")
START = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
COPYING = (actions.EXPORT, actions.CONVERT, actions.PLACE, actions.END_EXPORT, actions.DELETE_FILES)
"""The actions that concern files beside the VM's."""

HAS = Offering(cpu_count=2, memory_bytes=4 << 30, minimum_bytes=512 << 20, maximum_bytes=1 << 40)
"""What the VM has of its host, with the bounds that Hyper-V keeps by default."""


@dataclass
class FakeHost(FakeExports):
    """One VM with one disk on a host that does at once what it is asked for."""

    power: Power = Power.RUNNING
    vm_id: VmId = VM_ID
    vss: bool = True
    leaf: str = "base.vhdx"
    parents: dict[str, str] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    current: CheckpointId | None = None
    merging: bool = False
    transition: str = ""
    """Hyper-V's word for what lies between two powers, while the VM is on its way: its power is not known then."""
    journal: Journal = field(default_factory=lambda: Journal(state=JournalState.MISSING))
    effects: list[tuple[ActionName, str, int]] = field(default_factory=list)
    error_ids: dict[int, str] = field(default_factory=dict)
    """By step number: what each attempt of that step fails with, without effect."""
    unseen: str = ""
    """What each command on the VM fails with before it begins: the VM cannot be looked at."""
    dies_unnamed: bool = False
    """The next script that makes a checkpoint dies before it has given it its name."""
    name: str = "web01"
    gone: bool = False
    """The host does not have the VM any more."""
    is_replica: bool = False
    checkpoint_type: str = "Production"
    snapshot_blockers: tuple[str, ...] = ()
    offering: Offering = HAS
    volumes: dict[str, str] = field(default_factory=dict)
    """By place, the files that are attached beside the first disk."""
    on_disk: dict[str, int] = field(default_factory=dict)
    """The virtual disks that were made beside the first one, attached or not, with their sizes."""
    stored: JsonObject = field(default_factory=dict)
    """What the journal holds of the step that is done."""
    others: set[str] = field(default_factory=set)
    """Files on its disk that are in no chain."""
    told: JsonObject = field(default_factory=dict)
    """What the last action has told, but for a checkpoint."""
    copies: FakeCopies = field(default_factory=FakeCopies)
    deleted: list[str] = field(default_factory=list)
    """Files that were deleted by name."""
    made: int = 0
    clock: datetime = START

    def chain(self, path: str) -> tuple[str, ...]:
        """Return a file and all that it stands on."""
        files = [path]
        while files[-1] in self.parents:
            files.append(self.parents[files[-1]])
        return tuple(files)

    def report(self, watched: Iterable[str] = ()) -> VmReport:
        """Report the VM, and which of the watched virtual disks are there."""
        made = {path: None for path in watched if path in self.on_disk or path in self.copies.files}
        if self.gone:
            left = [path for path in self.chain(self.leaf) if path not in self.deleted]
            return VmReport(
                vm_id=self.vm_id,
                power=Power.ABSENT,
                host_state="",
                description=None,
                journal=self.journal,
                existing_files=(*sorted(self.others), *made, *left, *self.markers()),
                jobs=(*self.reported_jobs(), *self.copies.jobs.values()),
            )
        checkpoints = tuple(self.checkpoints.values())
        disks = (Disk(location="SCSI:0:0", path=self.leaf), *self.attached())
        heads = [*(d.path for d in disks), *(d.path for c in checkpoints for d in c.disks)]
        paths = dict.fromkeys(path for head in heads for path in self.chain(head))
        description = VmDescription(
            name=self.name,
            checkpoint_type=self.checkpoint_type,
            current_checkpoint_id=self.current,
            checkpoints=checkpoints,
            disks=disks,
            files=tuple(map(self.file, sorted(paths))),
            snapshot_blockers=self.snapshot_blockers,
            offering=self.offering,
            is_replica=self.is_replica,
        )
        return VmReport(
            vm_id=self.vm_id,
            power=Power.UNKNOWN if self.transition else self.power,
            host_state=self.transition,
            description=description,
            activities=self._activities(),
            journal=self.journal,
            existing_files=(*dict.fromkeys((*paths, *sorted(self.others), *made, *self.markers())),),
            jobs=(*self.reported_jobs(), *self.copies.jobs.values()),
        )

    def _activities(self) -> tuple[str, ...]:
        at_work = {
            "MERGE": self.merging,
            STATE_CHANGE: bool(self.transition),
            "EXPORT": self.exporting or self.copies.exporting(),
        }
        return tuple(word for word, so in at_work.items() if so)

    def attached(self) -> tuple[Disk, ...]:
        """Return the disks beside the first one."""
        return tuple(Disk(location=place, path=path) for place, path in sorted(self.volumes.items()))

    def file(self, path: str) -> DiskFile:
        """Report a file."""
        size_bytes = self.on_disk.get(path, 0)
        return DiskFile(path=path, parent_path=self.parents.get(path, ""), size_bytes=size_bytes, minimum_bytes=3 << 20)

    def observe(self, token: int, watched: Iterable[str] = (), action: ActionName | None = None) -> HostAnswer:
        """Raise the fence, make a missing journal, report. An export under way holds up all but what is about it."""
        if self.exporting and action not in (actions.EXPORT_VM, actions.END_EXPORT, None):
            return HostAnswer(verdict=Verdict.IN_PROGRESS, vms=(self.report(watched),))
        if token < self.journal.highest_token:
            return HostAnswer(verdict=Verdict.STALE, highest_token=self.journal.highest_token)
        if self.unseen:
            return HostAnswer(verdict=Verdict.FAILED, error_id=self.unseen, error_message="It may not be seen.")
        if self.journal.state is not JournalState.PRESENT:
            self.made += 1
            self.journal = Journal(state=JournalState.PRESENT, journal_id=f"journal-{self.made}")
        self.journal = replace(self.journal, highest_token=token)
        seen = self.report(watched)
        self.copies.finish()  # what is at work meanwhile comes to its end
        return HostAnswer(verdict=Verdict.OBSERVED, vms=(seen,))

    def poll(self, files: Iterable[str] = (), jobs: Iterable[str] = ()) -> VmReport:
        """Do what the host does by itself, and report: also that it does not know a job (any more)."""
        self.merge()
        self.end_jobs()
        self.copies.finish()
        report = self.report(files)
        gone = (HostJob(job_id=job_id, state=JobState.GONE) for job_id in jobs if report.job(job_id) is None)
        return replace(report, jobs=(*report.jobs, *gone))

    def effect(self, order: Order) -> HostAnswer:
        """Carry an effect out, in the order of checks of docs/host-protocol.md."""
        journal = self.journal
        assert order.operation is not None, order
        if journal.done and (journal.operation, journal.step) == (order.operation, order.step):
            return HostAnswer(verdict=Verdict.DONE, vms=(self.report(),), output=self.stored)
        if order.token <= journal.highest_token:
            return HostAnswer(verdict=Verdict.STALE, highest_token=journal.highest_token)
        named = journal.state is JournalState.PRESENT and journal.journal_id == order.journal_id
        if self.unseen:
            self.journal = replace(journal, highest_token=order.token) if named else journal
            verdict = Verdict.NOT_BEGUN if named else Verdict.FAILED
            return HostAnswer(verdict=verdict, error_id=self.unseen, error_message="It may not be seen.")
        turns_off = order.action == actions.STOP and order.input["mode"] == StopMode.TURN_OFF.name
        if self.transition and not (turns_off and self.transition.removesuffix("Critical") == "Stopping"):
            return HostAnswer(verdict=Verdict.IN_PROGRESS, vms=(self.report(),))
        if self.exporting and order.action != actions.END_EXPORT:
            return HostAnswer(verdict=Verdict.IN_PROGRESS, vms=(self.report(),))
        if not named:
            return HostAnswer(verdict=Verdict.WRONG_JOURNAL, vms=(self.report(),))
        assert order.action is not None, order
        if self.differs(order.before) or (self.gone and ACTIONS[order.action].needs_vm):
            self.journal = replace(journal, highest_token=order.token)
            return HostAnswer(verdict=Verdict.CHANGED, vms=(self.report(order.watched_files),))
        self.journal = replace(
            journal,
            highest_token=order.token,
            operation=order.operation,
            step=order.step,
            begun=True,
            done=False,
            begun_token=order.token,
            output={},
        )
        about = order.input.get("checkpoint_id")
        gone = about is not None and about not in self.checkpoints
        if error_id := self.error_ids.get(order.step, "CheckpointNotFound,snapshotd" if gone else ""):
            self.journal = replace(self.journal, begun=False)
            return HostAnswer(verdict=Verdict.NO_EFFECT, vms=(self.report(),), error_id=error_id)
        self.told = {}
        made = self.act(order)
        self.effects.append((order.action, order.operation, order.step))
        if made is not None and self.dies_unnamed:
            self.dies_unnamed = False
            self.checkpoints[made] = replace(self.checkpoints[made], name="web01 - (11/25/2026 - 9:00:00 AM)")
            return HostAnswer(verdict=Verdict.NO_ANSWER)
        if self.dies_untold and order.action == actions.EXPORT_VM:
            self.dies_untold = False
            return HostAnswer(verdict=Verdict.NO_ANSWER)
        self.stored = self._output(made)
        self.journal = replace(self.journal, begun=False, done=True, output=self.stored)
        return HostAnswer(verdict=Verdict.DONE, vms=(self.report(),), output=self.stored)

    def _output(self, made: CheckpointId | None) -> JsonObject:
        if made is None:
            return self.told
        return {"checkpoint_id": made, "has_memory": self.checkpoints[made].has_memory}

    def act_for(self, vm: VirtualMachine, operation: Operation, step: Step) -> HostAnswer:
        """Carry out what a step asks for."""
        return self.effect(effect_order(vm, operation, step))

    def differs(self, before: JsonObject) -> bool:
        """Compare what is there with the facts that the command was told, and no others."""
        report = self.report(self.on_disk)
        facts: dict[str, object] = {"power": report.power.name, "vm_absent": self.gone}
        if (there := report.description) is not None:
            facts |= {
                "checkpoint_ids": list(there.checkpoint_ids()),
                "current_checkpoint_id": self.current,
                "leaf_paths": list(there.leaf_paths()),
                "chain_files": list(there.chain_files()),
                "drives": list(there.drives()),
                "offering": plain.encode(there.offering),
            }
        absent = before.get("absent_files", [])
        assert isinstance(absent, list), absent
        facts["absent_files"] = [path for path in absent if path not in report.existing_files]
        return any(facts.get(name) != value for name, value in before.items())

    def act(self, order: Order) -> CheckpointId | None:
        """Do what the order asks for, by what is sent with it; return the checkpoint that it makes."""
        what = order.input
        checkpoint_id = CheckpointId(str(what.get("checkpoint_id")))
        if order.action in (actions.START, actions.STOP, actions.IMPORT, actions.RELEASE, actions.REMOVE_VM):
            self.act_on_vm(order)
        elif order.action == actions.CREATE:
            memory = self.power is Power.RUNNING and (what["with_memory"] is True or not self.vss)
            return self.take(str(what["checkpoint_name"]), has_memory=memory)
        elif order.action == actions.RESTORE:
            self.apply(checkpoint_id)
        elif order.action == actions.REMOVE:
            self.remove(checkpoint_id)
        elif order.action in (actions.MAKE_DISK, actions.ATTACH, actions.DETACH, actions.RESIZE):
            self.act_on_volumes(order)
        elif order.action == actions.CONFIGURE:
            self.offering = replace(self.offering, **{n: v for n, v in what.items() if v is not None})  # type: ignore[arg-type]
        elif order.action in (actions.EXPORT_VM, actions.COMPLETE):
            self.told = self.act_on_exports(order)
        elif order.action in COPYING:
            self.act_on_copies(order)
        else:
            assert order.action == actions.RENAME, f"write here what a host does for {order.action}"
            renamed = replace(self.checkpoints[checkpoint_id], name=str(what["checkpoint_name"]))
            self.checkpoints[checkpoint_id] = renamed
        return None

    def act_on_vm(self, order: Order) -> None:
        """Do what the order asks for, of what concerns the VM as a whole."""
        match order.action:
            case actions.START:
                self.power = Power.RUNNING
            case actions.STOP:
                self.power, self.transition = GOAL[StopMode[str(order.input["mode"])]], ""
            case actions.IMPORT:
                self.gone, self.power = False, Power.STOPPED
                self.move_files(str(order.input["configuration_path"]).rpartition("/")[0])
            case _:
                self.gone = True

    def move_files(self, folder: str) -> None:
        """Have the VM's files in another folder: it was imported there in place."""
        self.parents = {f"{folder}/{file}": f"{folder}/{parent}" for file, parent in self.parents.items()}
        self.leaf = f"{folder}/{self.leaf}"
        self.volumes = {location: f"{folder}/{path}" for location, path in self.volumes.items()}
        self.on_disk |= {path: self.on_disk.get(path.removeprefix(f"{folder}/"), 0) for path in self.volumes.values()}
        for checkpoint_id, checkpoint in self.checkpoints.items():
            disks = tuple(replace(disk, path=f"{folder}/{disk.path}") for disk in checkpoint.disks)
            self.checkpoints[checkpoint_id] = replace(checkpoint, disks=disks)

    def act_on_copies(self, order: Order) -> None:
        """Do what the order asks for, of what concerns files beside the VM's."""
        what, directory = order.input, str(order.input.get("directory"))
        match order.action:
            case actions.EXPORT:
                frozen = self.checkpoints[CheckpointId(str(what["checkpoint_id"]))]
                self.told = self.copies.begin(directory, frozen.disks[0].path, of_vm=True)
            case actions.CONVERT:
                self.told = self.copies.begin(directory, self.leaf, of_vm=False)
            case actions.PLACE:
                self.told = self.copies.place(directory, str(what["target"]))
            case actions.END_EXPORT:
                self.copies.end(str(what["job_id"]), directory)
                self.end_export(str(what["job_id"]), directory)
            case _:
                assert isinstance(what["paths"], list)
                self.copies.delete(what["paths"], str(what["only_identifier"]))
                for gone in map(str, what["paths"]):
                    self.deleted.append(gone)
                    self.on_disk.pop(gone, None)

    def act_on_volumes(self, order: Order) -> None:
        """Do what the order asks for, of what concerns virtual disks."""
        what = order.input
        path, size_bytes = str(what.get("path")), what.get("size_bytes")
        match order.action:
            case actions.MAKE_DISK | actions.RESIZE:
                assert isinstance(size_bytes, int)
                self.on_disk[path] = size_bytes
                if order.action == actions.MAKE_DISK:
                    self.made += 1
                    self.told = {"identifier": f"eeeeeeee-0000-4000-8000-{self.made:012d}"}
            case actions.ATTACH:
                self.volumes[str(what["location"])] = path
            case _:
                del self.volumes[str(what["location"])]

    def take(self, name: str, *, has_memory: bool = False, automatic: bool = False) -> CheckpointId:
        """Take a checkpoint: freeze the leaf, write to a new one."""
        self.made += 1
        checkpoint_id = CheckpointId(f"cccccccc-0000-4000-8000-{self.made:012d}")
        self.checkpoints[checkpoint_id] = Checkpoint(
            checkpoint_id=checkpoint_id,
            name=name,
            parent_id=self.current,
            created_at=self.clock,
            checkpoint_type="Standard",
            has_memory=has_memory,
            automatic=automatic,
            system_files_bytes=0,
            disks=(Disk(location="SCSI:0:0", path=self.leaf), *self.attached()),
            offering=self.offering,
        )
        self.current = checkpoint_id
        self.grow(self.leaf)
        return checkpoint_id

    def grow(self, below: str) -> None:
        """Write to a new file above another."""
        self.made += 1
        self.leaf = f"d{self.made}.avhdx"
        self.parents[self.leaf] = below

    def apply(self, checkpoint_id: CheckpointId) -> None:
        """Bring the disk back to a checkpoint; the old leaf is gone."""
        checkpoint = self.checkpoints[checkpoint_id]
        self.parents.pop(self.leaf, None)
        self.grow(checkpoint.disks[0].path)
        self.volumes = {disk.location: disk.path for disk in checkpoint.disks[1:]}
        self.current = checkpoint_id
        self.offering = checkpoint.offering or self.offering
        running = self.power is Power.RUNNING
        self.power = (Power.RUNNING if running else Power.SAVED) if checkpoint.has_memory else Power.STOPPED

    def remove(self, checkpoint_id: CheckpointId) -> None:
        """Take a checkpoint away; its file is merged when `merge` is called."""
        gone = self.checkpoints.pop(checkpoint_id)
        for child in self.checkpoints.values():
            if child.parent_id == checkpoint_id:
                self.checkpoints[child.checkpoint_id] = replace(child, parent_id=gone.parent_id)
        if self.current == checkpoint_id:
            self.current = gone.parent_id
        self.merging = True

    def merge(self) -> None:
        """Drop every file that nothing stands on any more, and merge each that has one child with that."""
        self.merging = False
        while True:
            kept = {c.disks[0].path for c in self.checkpoints.values()} | {self.leaf}
            used = {f for path in kept for f in self.chain(path)}
            self.parents = {f: p for f, p in self.parents.items() if f in used}
            only_child = {p: f for f, p in self.parents.items() if list(self.parents.values()).count(p) == 1}
            path = next((p for p in only_child if p not in kept), None)
            if path is None:
                return
            child = only_child[path]
            self.parents.pop(child)
            self.parents = {f: path if p == child else p for f, p in self.parents.items()}
            self.leaf = path if self.leaf == child else self.leaf
            for c in tuple(self.checkpoints.values()):
                if c.disks[0].path == child:
                    disk = Disk(location="SCSI:0:0", path=path)
                    self.checkpoints[c.checkpoint_id] = replace(c, disks=(disk, *c.disks[1:]))

    def alike(self) -> Self:
        """Return a host that is as this one is, and goes its own way."""
        other = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict | list):
                setattr(other, name, copy(value))
        other.copies = self.copies.copied()
        return other


class World:
    """The core and one fake host, driven by hand: the log in a list, the clock in a variable, the network by choice."""

    def __init__(
        self, power: Power = Power.RUNNING, policy: Policy | None = None, vm_id: VmId = VM_ID, *, on: str = "hv01"
    ) -> None:
        self.host = FakeHost(power=power, vm_id=vm_id)
        self.policy = policy or Policy()
        self.now = START
        self.vm = VirtualMachine(vm_id=vm_id)
        self._ids = count(1)
        self.log: list[object] = []
        self.drift_before = 0
        """How much drift is on record that is not an operation's doing."""
        self.watch: Callable[[VirtualMachine], None] = lambda _: None
        self.do(RegisterVm(host_id=HostId(on), owner="ops", report=self.host.report()))

    def do(self, command: VmCommand, *, request_id: str = "", digest: str = "", actor: str = "ann") -> Draft:
        """Decide a command and record what follows."""
        context = Context(
            now=self.now,
            actor=actor,
            policy=self.policy,
            fresh_id=f"{next(self._ids):08x}",
            request_id=request_id,
            digest=digest,
        )
        draft = decide(self.vm, command, context)
        self.vm = draft.vm
        self.log += [event for event, _ in draft.events]
        self.watch(self.vm)
        return draft

    def fork(self) -> Self:
        """Return a world that is as this one is, and goes its own way."""
        other = copy(self)
        other.host, other.log, other._ids = self.host.alike(), list(self.log), copy(self._ids)
        return other

    def cancel(self, number: int) -> Draft:
        """Cancel an operation."""
        return self.do(CancelOperation(name=self.vm.operations[number].name))

    def open_step(self) -> tuple[Operation, Step] | None:
        """Return the step that is open, waited for or observed."""
        for operation in self.vm.active_operations:
            for step in operation.steps:
                if step.open or step.observing or step.state is StepState.WAITING:
                    return operation, step
        return None

    def act(self, operation: Operation, step: Step) -> HostAnswer:
        """Have the host do what a step asks for."""
        return self.host.effect(effect_order(self.vm, operation, step))

    def turn(self, *, lose: bool = False, twice: bool = False, seconds: float = 61) -> None:
        """Let one thing happen: record the next step, or carry one command to the host and its answer back.

        `lose`: the answer is lost, so the effect's outcome is unknown. `twice`: the command and its answer come twice.
        """
        found = self.open_step()
        if found is None:
            self.now += timedelta(seconds=seconds)
            self.do(Proceed())
            return
        operation, step = found
        number, at = operation.number, step.plan.number
        if step.state is StepState.WAITING:
            action = ACTIONS[step.plan.action]
            report = self.host.poll(action.watched_files(step), action.watched_jobs(step))
            self.do(TakePoll(number=number, step=at, report=report, asked_version=self.vm.version))
            return
        if step.observing:
            answer = self.host.observe(
                step.token, ACTIONS[step.plan.action].watched_files(step), action=step.plan.action
            )
        elif step.state is StepState.ISSUED:
            answer = self.act(operation, step)
            if twice:
                again = self.act(operation, step)
                self.do(TakeAnswer(number=number, step=at, token=step.token, answer=again))
        else:
            self.do(Proceed())
            return
        if lose and step.state is StepState.ISSUED:
            failure = Failure(reason="CONNECTION_LOST", message="The connection was lost.")
            self.do(LoseOutcome(number=number, step=at, token=step.token, failure=failure))
            return
        for _ in range(2 if twice else 1):
            self.do(TakeAnswer(number=number, step=at, token=step.token, answer=answer))
        if self.host.report().power is Power.ABSENT:
            self.now += timedelta(seconds=seconds)  # looked at again, later

    def run(self, *, lose: bool = False, twice: bool = False, limit: int = 60) -> Operation:
        """Let things happen until no operation is active; return the newest one."""
        for _ in range(limit):
            if not self.vm.active_operations:
                return self.vm.operations[self.vm.last_number]
            self.turn(lose=lose, twice=twice)
        raise AssertionError(self.vm)
