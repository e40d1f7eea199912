"""Every operation as a case: how the world is before it, and what must be true after it. All generic tests run them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from snapshotd.application.draft import Draft
from snapshotd.domain.attached import attached
from snapshotd.domain.commands import LoseOutcome, RequestOperation, SettleOperation, SyncVm
from snapshotd.domain.events import DriftDetected
from snapshotd.domain.ids import ActionName, CheckpointId, SnapshotId, VolumeSnapshotId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, VmActivity
from snapshotd.domain.offering import Offering
from snapshotd.domain.operation import Failure, PlannedStep, SettledAs, StepNature
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.snapshot_delete import Scope
from snapshotd.operations.snapshot_revert import PowerAfter
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.vm_stop import StopMode
from tests.asking import (
    ATTACH,
    COMPLETE,
    CONFIGURE,
    CONVERT,
    CREATE,
    DELETE_FILES,
    DETACH,
    END_EXPORT,
    EXPORT,
    EXPORT_VM,
    IMPORT,
    MAKE_DISK,
    PLACE,
    RELEASE,
    REMOVE,
    REMOVE_VM,
    RENAME,
    RESIZE,
    RESTORE,
    START,
    STOP,
    adopt,
    attach,
    change_offering,
    create_snapshot,
    delete,
    delete_all,
    delete_volume_snapshot,
    destroy,
    detach,
    export_vm,
    forget,
    resize,
    restart_vm,
    revert_to,
    start_vm,
    stop_vm,
    take_volume_snapshot,
    update,
)
from tests.fakes import HAS, World


def sid(n: int) -> SnapshotId:
    """Return the n-th snapshot id."""
    return SnapshotId(f"aaaaaaaa-0000-4000-8000-{n:012d}")


def vsid(n: int) -> VolumeSnapshotId:
    """Return the n-th id of a volume snapshot."""
    return VolumeSnapshotId(f"eeeeeeee-0000-4000-8000-{n:012d}")


SHARED = "\\\\store\\exports"
"""A folder that all hosts reach."""
SAFETY = sid(8)
"""The safety snapshot of the cases that take one."""


def create(n: int, *, memory: bool = False, fallback: bool = False, export: str = "") -> RequestOperation:
    """Ask for the n-th snapshot, and with it for an export."""
    return create_snapshot(sid(n), f"s{n}", with_memory=memory, allow_fallback=fallback, export_directory=export)


def chain(world: World) -> None:
    """Take a chain of three: disk, memory, disk."""
    for n, memory in ((1, False), (2, True), (3, False)):
        world.do(create(n, memory=memory))
        assert world.run().state is OperationState.SUCCEEDED
    world.host.effects.clear()


def begin(world: World) -> None:
    """Have a script write that it begins, and work for ever."""
    found = world.open_step()
    assert found is not None
    operation, step = found
    world.host.journal = replace(
        world.host.journal,
        highest_token=step.token,
        operation=operation.name,
        step=step.plan.number,
        begun=True,
        done=False,
        begun_token=step.token,
    )


@dataclass(frozen=True)
class Case:
    """An operation, how the world is before it, and what must be true after it."""

    name: str
    request: RequestOperation
    power: Power = Power.RUNNING
    after: Power = Power.RUNNING
    current: int | None = 3
    effects: tuple[ActionName, ...] = ()
    goes_on: bool = False
    """It does what it can, and fails in the end if that was not all."""
    safety: bool = False
    """It takes a safety snapshot first."""
    foreign: bool = False
    """Somebody has taken a checkpoint by hand, which is current."""
    exported: bool = False
    """There is an export already."""
    released: bool = False
    """It was released after an export."""
    missing: int | None = None
    """The snapshot whose checkpoint somebody has removed."""
    bare: bool = False
    """The VM has no snapshots, and a volume at SCSI:0:1; another file is there that nothing uses."""
    volumes: tuple[tuple[str, str, int], ...] = ()
    """Of a bare VM afterwards: the places, files and sizes of its volumes."""
    offering: Offering | None = None
    """What the VM has of processors and memory afterwards; None: not looked at."""
    copied: bool = False
    """A copy of its disk has been taken."""


LOST = Failure(reason="CONNECTION_LOST", message="The connection was lost.")

FOREIGN = CheckpointId("dddddddd-0000-4000-8000-000000000001")
"""That checkpoint."""


DATA, LOOSE, NEW = r"D:\data.vhdx", r"D:\loose.vhdx", r"D:\new.vhdx"
"""The volume of a bare VM, the file that nothing uses, and one that is not there."""
GIB = 1 << 30

CASES = (
    Case("start", start_vm(), power=Power.STOPPED, effects=(START,)),
    Case("stop", stop_vm(StopMode.SHUTDOWN), after=Power.STOPPED, effects=(STOP,)),
    Case("turn off", stop_vm(StopMode.TURN_OFF), after=Power.STOPPED, effects=(STOP,)),
    Case("pause", stop_vm(StopMode.PAUSE), after=Power.PAUSED, effects=(STOP,)),
    Case("stop with a timeout", stop_vm(StopMode.SHUTDOWN, 3600.0), after=Power.STOPPED, effects=(STOP,)),
    Case("save", stop_vm(StopMode.SAVE), after=Power.SAVED, effects=(STOP,)),
    Case("restart", restart_vm(), effects=(STOP, START)),
    Case("restart by a turn-off", restart_vm(StopMode.TURN_OFF), effects=(STOP, START)),
    Case("restart with a timeout", restart_vm(timeout_s=3600.0), effects=(STOP, START)),
    Case("create disk", create(9), current=9, effects=(CREATE,)),
    Case("create with memory", create(9, memory=True), current=9, effects=(CREATE,)),
    Case("create with an export", create(9, export="/exports"), current=9, effects=(CREATE, EXPORT_VM, COMPLETE)),
    Case(
        "create of a stopped VM",
        create(9),
        power=Power.STOPPED,
        after=Power.STOPPED,
        current=9,
        effects=(CREATE,),
    ),
    Case(
        "revert of a running VM to a disk snapshot",
        revert_to(sid(1)),
        after=Power.STOPPED,
        current=1,
        effects=(STOP, RESTORE),
    ),
    Case(
        "revert of a stopped VM to a memory snapshot",
        revert_to(sid(2)),
        power=Power.STOPPED,
        current=2,
        effects=(START, RESTORE),
    ),
    Case(
        "revert of a running VM to a memory snapshot",
        revert_to(sid(2)),
        current=2,
        effects=(RESTORE,),
    ),
    Case("revert to the current snapshot", revert_to(sid(3)), after=Power.STOPPED, effects=(STOP, RESTORE)),
    Case(
        "revert of a running VM to a disk snapshot, running afterwards",
        revert_to(sid(1), power_after=PowerAfter.RUNNING),
        current=1,
        effects=(STOP, RESTORE, START),
    ),
    Case(
        "revert of a stopped VM to a disk snapshot, running afterwards",
        revert_to(sid(1), power_after=PowerAfter.RUNNING),
        power=Power.STOPPED,
        current=1,
        effects=(RESTORE, START),
    ),
    Case(
        "revert of a running VM to a disk snapshot, as before",
        revert_to(sid(1), power_after=PowerAfter.AS_BEFORE),
        current=1,
        effects=(STOP, RESTORE, START),
    ),
    Case(
        "revert of a stopped VM to a memory snapshot, as before",
        revert_to(sid(2), power_after=PowerAfter.AS_BEFORE),
        power=Power.STOPPED,
        after=Power.STOPPED,
        current=2,
        effects=(RESTORE, STOP),
    ),
    Case(
        "revert of a running VM to a disk snapshot with a safety snapshot",
        revert_to(sid(1), safety=SAFETY),
        after=Power.STOPPED,
        current=1,
        effects=(CREATE, STOP, RESTORE),
        safety=True,
    ),
    Case(
        "revert of a stopped VM to a memory snapshot with a safety snapshot",
        revert_to(sid(2), safety=SAFETY),
        power=Power.STOPPED,
        current=2,
        effects=(CREATE, START, RESTORE),
        safety=True,
    ),
    Case(
        "revert of a running VM to a memory snapshot with a safety snapshot",
        revert_to(sid(2), safety=SAFETY, require_memory=True),
        current=2,
        effects=(CREATE, RESTORE),
        safety=True,
    ),
    Case(
        "revert to the current snapshot with a safety snapshot, as before",
        revert_to(sid(3), safety=SAFETY, power_after=PowerAfter.AS_BEFORE),
        effects=(CREATE, STOP, RESTORE, START),
        safety=True,
    ),
    Case("delete in the middle", delete(sid(2)), effects=(REMOVE,)),
    Case("delete the current one", delete(sid(3)), current=2, effects=(REMOVE,)),
    Case("delete the first one", delete(sid(1)), effects=(REMOVE,)),
    Case("delete one with its descendants", delete(sid(2), Scope.WITH_DESCENDANTS), current=1, effects=(REMOVE,) * 2),
    Case("delete the descendants of one", delete(sid(1), Scope.ONLY_DESCENDANTS), current=1, effects=(REMOVE,) * 2),
    Case("delete all", delete_all(), current=None, effects=(REMOVE,) * 3, goes_on=True),
    Case("delete those with memory", delete_all(only_with_memory=True), effects=(REMOVE,), goes_on=True),
    Case("rename", update(sid(2), name="other", labels={"tier": "gold"}), effects=(RENAME,)),
    Case(
        "rename of a stopped VM's",
        update(sid(1), name="other"),
        power=Power.STOPPED,
        after=Power.STOPPED,
        effects=(RENAME,),
    ),
    Case("adopt", adopt(sid(9), FOREIGN), current=9, effects=(RENAME,), foreign=True),
    Case("export", export_vm(), effects=(EXPORT_VM, COMPLETE)),
    Case(
        "export of a stopped VM", export_vm(), power=Power.STOPPED, after=Power.STOPPED, effects=(EXPORT_VM, COMPLETE)
    ),
    Case(
        "export that supersedes another",
        export_vm(SHARED),
        power=Power.STOPPED,
        after=Power.STOPPED,
        effects=(EXPORT_VM, COMPLETE, END_EXPORT),
        exported=True,
    ),
    Case(
        "export and release",
        export_vm(release=True),
        power=Power.STOPPED,
        after=Power.STOPPED,
        effects=(EXPORT_VM, COMPLETE, RELEASE),
    ),
    Case("start of a released VM", start_vm(), power=Power.STOPPED, effects=(IMPORT, START), released=True),
    Case(
        "start of a released VM elsewhere",
        start_vm("hv02"),
        power=Power.STOPPED,
        effects=(IMPORT, START),
        released=True,
    ),
    Case("forget", forget(sid(2)), missing=2),
    Case(
        "attach a new volume",
        attach(NEW, size_bytes=2 * GIB),
        current=None,
        effects=(MAKE_DISK, ATTACH),
        bare=True,
        volumes=(("SCSI:0:1", DATA, GIB), ("SCSI:0:2", NEW, 2 * GIB)),
    ),
    Case(
        "attach a file that is there to a stopped VM's IDE",
        attach(LOOSE, "ide:1:0"),
        power=Power.STOPPED,
        after=Power.STOPPED,
        current=None,
        effects=(ATTACH,),
        bare=True,
        volumes=(("IDE:1:0", LOOSE, GIB), ("SCSI:0:1", DATA, GIB)),
    ),
    Case("detach", detach("SCSI:0:1"), current=None, effects=(DETACH,), bare=True),
    Case(
        "grow a volume",
        resize("SCSI:0:1", 3 * GIB),
        current=None,
        effects=(RESIZE,),
        bare=True,
        volumes=(("SCSI:0:1", DATA, 3 * GIB),),
    ),
    Case(
        "shrink a volume",
        resize("SCSI:0:1", GIB // 2, allow_shrink=True),
        current=None,
        effects=(RESIZE,),
        bare=True,
        volumes=(("SCSI:0:1", DATA, GIB // 2),),
    ),
    Case(
        "another offering",
        change_offering(cpu_count=4, memory_bytes=8 << 30),
        power=Power.STOPPED,
        after=Power.STOPPED,
        effects=(REMOVE, CONFIGURE, CONFIGURE),
        offering=replace(HAS, cpu_count=4, memory_bytes=8 << 30),
    ),
    Case(
        "dynamic memory",
        change_offering(dynamic_memory=True, minimum_bytes=2 << 30, maximum_bytes=8 << 30),
        power=Power.STOPPED,
        after=Power.STOPPED,
        effects=(REMOVE, CONFIGURE),
        offering=replace(HAS, dynamic_memory=True, minimum_bytes=2 << 30, maximum_bytes=8 << 30),
    ),
    Case("volume snapshot", take_volume_snapshot(vsid(1)), effects=(CREATE, EXPORT, PLACE, REMOVE)),
    Case(
        "volume snapshot of a stopped VM",
        take_volume_snapshot(vsid(1)),
        power=Power.STOPPED,
        after=Power.STOPPED,
        effects=(CONVERT, PLACE),
    ),
    Case("delete a volume snapshot", delete_volume_snapshot(vsid(1)), copied=True, effects=(DELETE_FILES,)),
    Case("destroy", destroy(), after=Power.ABSENT, current=None, effects=(STOP, *(REMOVE,) * 3, REMOVE_VM)),
    Case(
        "destroy with the disks",
        destroy(delete_disks=True),
        power=Power.STOPPED,
        after=Power.ABSENT,
        current=None,
        effects=(*(REMOVE,) * 3, REMOVE_VM, DELETE_FILES),
    ),
    Case(
        "destroy with a foreign checkpoint",
        destroy(foreign_checkpoints=("by hand",)),
        after=Power.ABSENT,
        current=None,
        effects=(STOP, *(REMOVE,) * 4, REMOVE_VM),
        foreign=True,
    ),
)
LIVING = tuple(case for case in CASES if case.after is not Power.ABSENT)
"""Those whose VM is there afterwards."""
AT_WORK = tuple(case for case in CASES if case.effects)
"""Those that ask something of the host."""


def settlement(world: World, outcome: SettledAs, number: int = 0) -> SettleOperation:
    """Return what a person says of an operation's step; by default of the oldest one that has not ended."""
    return settlement_of(world.vm, outcome, number)


def settlement_of(vm: VirtualMachine, outcome: SettledAs, number: int = 0) -> SettleOperation:
    """Return the same, of a VM without a world of its own."""
    operation = vm.operations[number] if number else vm.active_operations[0]
    step = operation.current_step
    return SettleOperation(
        name=operation.name,
        outcome=outcome,
        reason="the host is gone",
        step=step.plan.number if step else 0,
        issued_token=step.issued_token if step else 0,
    )


def settle(world: World, outcome: SettledAs, number: int = 0, *, request_id: str = "", digest: str = "") -> Draft:
    """Let a person say what became of an operation's step; by default of the oldest one that has not ended."""
    return world.do(settlement(world, outcome, number), actor="eve", request_id=request_id, digest=digest)


def check_invariants(vm: VirtualMachine) -> None:
    """Hold a VM, at whatever version, against what is true of every tree."""
    for snapshot in vm.snapshots.values():
        seen = set()
        at = snapshot
        while at.parent_id is not None:
            assert at.snapshot_id not in seen, "a cycle"
            seen.add(at.snapshot_id)
            at = vm.snapshots[at.parent_id]
            if snapshot.state not in (SnapshotState.REMOVED, SnapshotState.EXPUNGING):
                assert at.state is not SnapshotState.REMOVED, "a dangling parent"
    assert vm.current_id is None or vm.snapshots[vm.current_id].state is not SnapshotState.REMOVED
    assert len([o for o in vm.active_operations if o.holds_vm]) <= 1
    assert len([o for o in vm.active_operations if not o.only_waits and not vm.makes_way(o)]) <= 1
    open_steps = [s for o in vm.active_operations for s in o.steps if s.open]
    assert len(open_steps) <= 1


def ready(case: Case) -> World:
    """Return the world of a case, up to the moment before its request. Cases that begin alike share its making."""
    begins = ("bare", "power", "foreign", "copied", "exported", "released", "missing")
    return _made(**{name: getattr(case, name) for name in begins}).fork()


@cache
def _made(
    *, bare: bool, power: Power, foreign: bool, copied: bool, exported: bool, released: bool, missing: int | None
) -> World:
    world = World()
    if bare:
        world.host.volumes["SCSI:0:1"] = DATA
        world.host.on_disk |= {DATA: GIB, LOOSE: GIB}
        world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    else:
        chain(world)
    world.watch = check_invariants
    if power is Power.STOPPED:
        world.do(stop_vm(StopMode.TURN_OFF))
        world.run()
        world.host.effects.clear()
    if foreign:
        by_hand(world)
    if copied:
        world.do(take_volume_snapshot(vsid(1)))
        assert world.run().state is OperationState.SUCCEEDED
        world.host.effects.clear()
    if exported or released:
        world.do(export_vm(SHARED, release=released) if exported else export_vm(release=released))
        assert world.run().state is OperationState.SUCCEEDED
        assert world.host.gone is released
        world.host.effects.clear()
    if missing is not None:
        lose_checkpoint(world, sid(missing))
    world.drift_before = len(drift_in(world))
    return world


def drift_in(world: World) -> list[DriftDetected]:
    """Return the drift that was recorded."""
    return [event for event in world.log if isinstance(event, DriftDetected)]


def lose_checkpoint(world: World, snapshot_id: SnapshotId) -> None:
    """Have somebody remove a snapshot's checkpoint, and see it."""
    checkpoint_id = world.vm.snapshots[snapshot_id].checkpoint_id
    assert checkpoint_id is not None
    world.host.remove(checkpoint_id)
    world.host.merge()
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))


def by_hand(world: World, name: str = "by hand", checkpoint_id: CheckpointId = FOREIGN) -> None:
    """Have somebody take a checkpoint, and see it."""
    host = world.host
    made = host.checkpoints.pop(host.take(name))
    host.checkpoints[checkpoint_id] = replace(made, checkpoint_id=checkpoint_id)
    host.current = checkpoint_id
    world.do(SyncVm(report=host.report(), asked_version=world.vm.version))


@dataclass(frozen=True)
class Refused:
    """A step of a case that the host refuses, and with it those before it that would leave it nothing to do."""

    case: Case
    plan: PlannedStep
    steps: frozenset[int]

    @property
    def name(self) -> str:
        """Name the case and the step."""
        return f"{self.case.name}, {self.plan.number} {self.plan.action} {self.plan.nature.name}"


def _refused(case: Case) -> Iterator[Refused]:
    """Find the steps of a case that the host is asked for, and can refuse."""
    world = ready(case)
    world.do(case.request)
    plans = [step.plan for step in world.vm.operations[world.vm.last_number].steps]
    for plan in plans:
        earlier = (p for p in plans if p.number < plan.number and p.snapshot_id == plan.snapshot_id)
        alike = [p for p in earlier if p.action == plan.action and _the_same(p, plan)]
        if plan.action in case.effects and all(p.nature is StepNature.BEST_EFFORT for p in alike):
            yield Refused(case, plan, frozenset({plan.number, *(p.number for p in alike)}))


def _the_same(earlier: PlannedStep, later: PlannedStep) -> bool:
    """Return whether a step leaves a later one of its action nothing to do."""
    return ACTIONS[later.action].goal(later) is not None or earlier.input == later.input


REFUSED = tuple(refused for case in CASES for refused in _refused(case))


def power_told(world: World) -> Power:
    """Return the power that must be on record: what the host tells; one that was released is off."""
    return Power.STOPPED if world.vm.released else world.host.report().power


def check_end(world: World, case: Case) -> None:
    """Compare the record and the host with what the case says, and with each other; each effect happened once."""
    check_success(world, case)
    assert [action for action, _, _ in world.host.effects] == list(case.effects)


def check_success(world: World, case: Case) -> None:
    """Check all but how often, and in which order, a case's effects happened: some may have been refused before."""
    vm = world.vm
    operation = vm.operations[vm.last_number]
    assert operation.state is OperationState.SUCCEEDED, operation
    assert vm.activity is (VmActivity.DESTROYED if case.after is Power.ABSENT else VmActivity.IDLE)
    assert vm.power is power_told(world) is case.after
    if case.offering is not None:
        assert vm.description is not None
        assert vm.description.offering == world.host.offering == case.offering
    assert vm.current_id == (sid(case.current) if case.current else None)
    assert vm.current_id == vm.nearest_own(world.host.current)
    assert len({(name, step) for _, name, step in world.host.effects}) == len(world.host.effects)
    live = {s.checkpoint_id: s for s in vm.snapshots.values() if s.state is not SnapshotState.REMOVED}
    assert set(live) == set(world.host.checkpoints)
    for checkpoint in world.host.checkpoints.values():
        parent = live[checkpoint.checkpoint_id].parent_id
        assert parent == vm.nearest_own(checkpoint.parent_id)
    if case.bare:
        check_volumes(world, case)
    assert drift_in(world)[world.drift_before :] == [], "what an operation does itself is never drift"


def check_volumes(world: World, case: Case) -> None:
    """Compare the volumes on record and on the host with what the case says."""
    assert world.vm.description is not None
    recorded = [v for v in attached(world.vm.description).values() if v.location != "SCSI:0:0"]
    assert sorted((v.location, v.path, v.size_bytes) for v in recorded) == list(case.volumes)
    assert sorted(world.host.volumes.items()) == [(place, path) for place, path, _ in case.volumes]
    assert {path: world.host.on_disk[path] for _, path, _ in case.volumes} == {p: size for _, p, size in case.volumes}


_REPEATED = (EXPORT, CONVERT, PLACE, DELETE_FILES)
"""Actions that do no harm if they are carried out again, as they are on another host that knows nothing of them."""


def once(effects: Iterable[ActionName]) -> list[ActionName]:
    """Return effects without the repetitions of copies, and without what ends those."""
    found: list[ActionName] = []
    for action in effects:
        if action != END_EXPORT and not (action in _REPEATED and action in found):
            found.append(action)
    return found


def lose_command(world: World) -> None:
    """Lose the open step's command on its way, so that only an observation can tell what became of it."""
    found = world.open_step()
    assert found is not None
    operation, step = found
    lost = Failure(reason="CONNECTION_LOST", message="The connection was lost.")
    world.do(LoseOutcome(number=operation.number, step=step.plan.number, token=step.token, failure=lost))
