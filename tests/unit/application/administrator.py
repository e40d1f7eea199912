"""What an administrator may do to a VM by hand, each with the drift that it is told as."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from snapshotd.domain.commands import CompareHosts, SyncVm
from snapshotd.domain.errors import VmChanging
from snapshotd.domain.events import DriftKind
from snapshotd.domain.host_report import Checkpoint, Journal, JournalState, VmReport
from snapshotd.domain.ids import CheckpointId, HostId, SnapshotId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Failure
from snapshotd.domain.state import replace
from tests.fakes import FakeHost, World
from tests.unit.application.cases import sid

UNKNOWN_MARKER = "before-upgrade #99999999-9999-4999-8999-999999999999"


@dataclass(frozen=True)
class Act:
    """Something that an administrator does."""

    name: str
    do: Callable[[World], None]
    kinds: tuple[DriftKind, ...]
    """What it is told as, at rest."""
    before: Callable[[World], None] = lambda _: None
    """What has to be so first, and is on record."""
    recorded: str | None = None
    """What the first drift says was on record, at rest; None: not compared."""
    observed: str | None = None


def sync(world: World) -> None:
    """Compare the host with the record, unless a step is at work."""
    with contextlib.suppress(VmChanging):
        world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))


def copy(host: FakeHost) -> FakeHost:
    """Return another host that has the VM and its files as they are, no journal of it, and no job."""
    other = host.alike()
    other.journal, other.effects = Journal(state=JournalState.MISSING), []
    other.copies.forget()
    other.restart()  # it knows no job of the first one
    return other


def compare_hosts(world: World, other: FakeHost, *, own: VmReport | Failure | None = None) -> None:
    """Have the VM's host, and another one, say whether they have it."""
    command = CompareHosts(
        host_id=HostId("hv02") if world.vm.host_id == "hv01" else HostId("hv01"),
        report=other.report(),
        own_host_id=world.vm.host_id,
        own=own or world.host.report(),
        asked_version=world.vm.version,
    )
    world.do(command)


def of(world: World, snapshot_id: SnapshotId) -> CheckpointId:
    """Return the checkpoint of a snapshot; of a VM without that one, an id that no checkpoint has."""
    if snapshot_id not in world.vm.snapshots:
        return CheckpointId("no checkpoint")
    checkpoint_id = world.vm.snapshots[snapshot_id].checkpoint_id
    assert checkpoint_id is not None
    return checkpoint_id


def change(world: World, checkpoint_id: CheckpointId, **values: object) -> None:
    """Change a checkpoint, if it is still there."""
    if (there := world.host.checkpoints.get(checkpoint_id)) is not None:
        world.host.checkpoints[checkpoint_id] = replace(there, **values)  # type: ignore[arg-type]


def _remove(world: World, snapshot_id: SnapshotId) -> None:
    if of(world, snapshot_id) in world.host.checkpoints:
        world.host.remove(of(world, snapshot_id))
        world.host.merge()


_away: dict[int, dict[str, Checkpoint]] = {}


def _hide(world: World) -> None:
    """Take all checkpoints away for a while, as a storage that is not there, and have that noticed."""
    _away[id(world)] = dict(world.host.checkpoints)
    world.host.checkpoints.clear()
    sync(world)


def _bring_back(world: World) -> None:
    world.host.checkpoints = {**_away.pop(id(world)), **world.host.checkpoints}


def _toggle(world: World) -> None:
    world.host.power = Power.PAUSED if world.host.power is Power.RUNNING else Power.RUNNING


def _apply(world: World, snapshot_id: SnapshotId) -> None:
    if of(world, snapshot_id) in world.host.checkpoints:
        world.host.apply(of(world, snapshot_id))


def _lose(world: World) -> None:
    world.host.gone = True


def _lose_and_notice(world: World) -> None:
    _lose(world)
    sync(world)


def _find(world: World) -> None:
    world.host.gone = False


def _take(name: str, *, automatic: bool = False) -> Callable[[World], None]:
    def take(world: World) -> None:
        world.host.take(name, automatic=automatic)

    return take


def _take_and_notice(world: World) -> None:
    world.host.take("a backup's")
    sync(world)


def _foreign(world: World) -> CheckpointId:
    return next(c.checkpoint_id for c in world.host.checkpoints.values() if c.name == "a backup's")


def _remove_foreign(world: World) -> None:
    world.host.remove(_foreign(world))
    world.host.merge()


HAND = r"E:\by hand.vhdx"
"""What an administrator attaches."""
AT = "SCSI:0:9"
"""Where."""


def _attach(world: World) -> None:
    world.host.on_disk[HAND] = 1 << 30
    world.host.volumes[AT] = HAND


def _attach_and_notice(world: World) -> None:
    _attach(world)
    sync(world)


def _detach(world: World) -> None:
    world.host.volumes.pop(AT, None)


def _replace(world: World) -> None:
    world.host.on_disk[f"{HAND}.vhdx"] = 1 << 30
    world.host.volumes[AT] = f"{HAND}.vhdx"


def _move(world: World) -> None:
    if (path := world.host.volumes.pop(AT, None)) is not None:
        world.host.volumes["SCSI:0:8"] = path


def _set(**values: object) -> Callable[[World], None]:
    def set_(world: World) -> None:
        for name, value in values.items():
            setattr(world.host, name, value)

    return set_


def _configure(world: World) -> None:
    world.host.offering = replace(world.host.offering, cpu_count=8, memory_bytes=6 << 30)


K = DriftKind
ACTS = (
    Act("attaches a volume", _attach, (K.VOLUME_ATTACHED,), recorded="", observed=HAND),
    Act(
        "detaches a volume",
        _detach,
        (K.VOLUME_DETACHED,),
        before=_attach_and_notice,
        recorded=HAND,
        observed="",
    ),
    Act(
        "puts another volume in the place of one",
        _replace,
        (K.VOLUME_REPLACED,),
        before=_attach_and_notice,
        recorded=HAND,
        observed=f"{HAND}.vhdx",
    ),
    Act(
        "moves a volume to another place",
        _move,
        (K.VOLUME_ATTACHED, K.VOLUME_DETACHED),
        before=_attach_and_notice,
        recorded="",
        observed=HAND,
    ),
    Act(
        "resizes a volume",
        lambda w: w.host.on_disk.update({HAND: 2 << 30}),
        (K.VOLUME_RESIZED,),
        before=_attach_and_notice,
        recorded=str(1 << 30),
        observed=str(2 << 30),
    ),
    Act("changes the power", _toggle, (K.POWER_STATE_CHANGED,)),
    Act("deletes the VM", _lose, (K.VM_MISSING,), observed="ABSENT"),
    Act("brings the VM back", _find, (K.VM_FOUND,), before=_lose_and_notice, recorded="ABSENT"),
    Act(
        "renames the VM",
        _set(name="web01-old"),
        (K.VM_RENAMED,),
        recorded="web01",
        observed="web01-old",
    ),
    Act(
        "changes the CheckpointType",
        _set(checkpoint_type="Standard"),
        (K.CHECKPOINT_TYPE_CHANGED,),
        recorded="Production",
        observed="Standard",
    ),
    Act(
        "changes processors and memory",
        _configure,
        (K.OFFERING_CHANGED,),
        recorded="2 processors, 4 GiB of memory",
        observed="8 processors, 6 GiB of memory",
    ),
    Act(
        "makes the VM a replica",
        _set(is_replica=True, snapshot_blockers=("REPLICA",)),
        (K.REPLICATION_CHANGED,),
        recorded="not a replica",
        observed="a replica",
    ),
    Act(
        "deletes a checkpoint in the middle",
        lambda w: _remove(w, sid(2)),
        (K.CHECKPOINT_MISSING,),
        recorded="intact",
        observed="",
    ),
    Act("deletes the current checkpoint", lambda w: _remove(w, sid(3)), (K.CHECKPOINT_MISSING,), observed=""),
    Act(
        "damages a checkpoint",
        lambda w: change(w, of(w, sid(1)), checkpoint_type="Missing"),
        (K.CHECKPOINT_DAMAGED,),
        recorded="intact",
    ),
    Act(
        "brings the checkpoints back",
        _bring_back,
        (K.CHECKPOINT_FOUND, K.CHECKPOINT_FOUND, K.CHECKPOINT_FOUND, K.REPARENTED, K.REPARENTED, K.CURRENT_MOVED),
        before=_hide,
        recorded="CHECKPOINT_MISSING",
        observed="intact",
    ),
    Act("takes a checkpoint", _take("by hand"), (K.FOREIGN_CHECKPOINT,), recorded="", observed="by hand"),
    Act(
        "lets Hyper-V take one",
        _take("Automatic Checkpoint", automatic=True),
        (K.AUTOMATIC_CHECKPOINT,),
        observed="Automatic Checkpoint",
    ),
    Act(
        "imports one with our marker",
        _take(UNKNOWN_MARKER),
        (K.UNRECORDED_CHECKPOINT,),
        observed=UNKNOWN_MARKER,
    ),
    Act(
        "removes a foreign checkpoint",
        _remove_foreign,
        (K.FOREIGN_CHECKPOINT_GONE,),
        before=_take_and_notice,
        recorded="a backup's",
        observed="",
    ),
    Act(
        "renames a foreign checkpoint",
        lambda w: change(w, _foreign(w), name="weekly"),
        (K.CHECKPOINT_RENAMED,),
        before=_take_and_notice,
        recorded="a backup's",
        observed="weekly",
    ),
    Act(
        "renames a checkpoint of ours",
        lambda w: change(w, of(w, sid(1)), name="base"),
        (K.CHECKPOINT_RENAMED,),
        recorded=f"s1 #{sid(1)}",
        observed="base",
    ),
    Act(
        "renames one of ours and leaves its marker",
        lambda w: change(w, of(w, sid(1)), name=f"base #{sid(1)}"),
        (K.CHECKPOINT_RENAMED,),
        observed=f"base #{sid(1)}",
    ),
    Act(
        "puts a checkpoint below another",
        lambda w: change(w, of(w, sid(3)), parent_id=of(w, sid(1))),
        (K.REPARENTED,),
        recorded=sid(2),
        observed=sid(1),
    ),
    Act(
        "applies a checkpoint",
        lambda w: _apply(w, sid(1)),
        (K.POWER_STATE_CHANGED, K.CURRENT_MOVED),
        recorded="RUNNING",
        observed="STOPPED",
    ),
)
