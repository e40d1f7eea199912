"""A history as large as they come: one VM with 2,000 removed snapshots, 2,000 operations and 10,000 events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from snapshotd.domain import events as e
from snapshotd.domain.events import Envelope
from snapshotd.domain.host_report import Checkpoint, Disk, DiskFile, VmDescription
from snapshotd.domain.ids import CheckpointId, OperationName, SnapshotId, VmId, operation_name, vm_stream
from snapshotd.domain.lifecycle import OperationState, SnapshotState
from snapshotd.domain.offering import Offering
from snapshotd.domain.state import replace
from tests.fakes import VM_ID
from tests.unit.application.cases import create
from tests.unit.projections.histories import RecordedWorld

SNAPSHOTS: Final = 2000
_EVENTS_EACH: Final = 5
EVENTS: Final = SNAPSHOTS * _EVENTS_EACH
_DISKS: Final = 24
_CHECKPOINTS: Final = 45
_VMS: Final = 25
"""Other VMs, each with as many disks and checkpoints."""
_DESCRIBED: Final = 20
"""How often its host described the VM anew."""


def large_history() -> Sequence[Envelope]:
    """Return its events: each create was accepted and ended, and its snapshot is REMOVED."""
    world = RecordedWorld()
    described = large_description(world.host.report().description)
    planned = next(
        event for event, _ in RecordedWorld().do(create(0)).events if isinstance(event, e.OperationRequested)
    )
    for n in range(_DESCRIBED):
        world.keep(
            vm_stream(VM_ID),
            _next(world),
            e.VmDescribed(description=replace(described, offering=Offering(cpu_count=n, memory_bytes=1 << 30))),
            "ann",
        )
    for event in _standing():
        world.keep(vm_stream(VM_ID), _next(world), event, "ann")
    registered = world.envelopes[0].event
    for n in range(_VMS):
        stream = vm_stream(VmId(f"33333333-3333-4333-8333-{n:012d}"))
        world.keep(stream, 1, registered, "ann")
        world.keep(stream, 2, e.VmDescribed(description=described), "ann")
    ours = next(envelope.version for envelope in reversed(world.envelopes) if envelope.stream == vm_stream(VM_ID))
    for number in range(1, SNAPSHOTS + 1):
        world.now += timedelta(seconds=1)
        for event in _taken_and_gone(number, planned):
            ours += 1
            world.keep(vm_stream(VM_ID), ours, event, "ann", operation(number))
    return world.envelopes


def snapshot_id(number: int) -> SnapshotId:
    """Return the id of a snapshot."""
    return SnapshotId(f"aaaaaaaa-0000-4000-8000-{number:012d}")


def operation(number: int) -> OperationName:
    """Return the name of an operation."""
    return operation_name(VM_ID, number, f"{number:08x}")


def _next(world: RecordedWorld) -> int:
    return world.envelopes[-1].version + 1


def _standing() -> Iterator[e.VmEvent]:
    """Yield what makes the checkpoints of the description snapshots of ours."""
    states = SnapshotState
    for n in range(_CHECKPOINTS):
        own = snapshot_id(SNAPSHOTS + 1 + n)
        yield e.SnapshotRequested(
            snapshot_id=own,
            from_state=states.NEW,
            to_state=states.ALLOCATED,
            name=f"there {n}",
            description="",
            with_memory=False,
        )
        yield e.SnapshotCreationStarted(
            snapshot_id=own, from_state=states.ALLOCATED, to_state=states.CREATING, parent_id=None
        )
        yield e.SnapshotCreated(
            snapshot_id=own,
            from_state=states.CREATING,
            to_state=states.READY,
            checkpoint_id=_checkpoint_id(n),
            with_memory=False,
            parent_id=None,
            size_bytes=1 << 30,
            offering=None,
        )


def _checkpoint_id(n: int) -> CheckpointId:
    return CheckpointId(f"cccccccc-0000-4000-8000-{n:012d}")


def _taken_and_gone(number: int, planned: e.OperationRequested) -> Iterator[e.VmEvent]:
    own, states = snapshot_id(number), SnapshotState
    yield replace(planned, name=operation(number), number=number, snapshot_id=own)
    yield e.SnapshotRequested(
        snapshot_id=own,
        from_state=states.NEW,
        to_state=states.ALLOCATED,
        name=f"s{number}",
        description="taken and deleted",
        with_memory=False,
    )
    running, succeeded = OperationState.RUNNING, OperationState.SUCCEEDED
    yield e.OperationStarted(number=number, from_state=planned.to_state, to_state=running)
    yield e.SnapshotRequestCancelled(snapshot_id=own, from_state=states.ALLOCATED, to_state=states.REMOVED)
    yield e.OperationSucceeded(number=number, from_state=running, to_state=succeeded)


def large_description(described: VmDescription | None, checkpoints: int = _CHECKPOINTS) -> VmDescription:
    """Return a description with many disks, many times."""
    assert described is not None
    folder = "D:\\Hyper-V\\Virtual Machines\\db01\\Virtual Hard Disks"

    def path(disk: int, depth: int) -> str:
        return f"{folder}\\disk{disk}_{depth:08d}-0000-4000-8000-000000000000.avhdx"

    def disks(depth: int) -> tuple[Disk, ...]:
        return tuple(Disk(location=f"SCSI:0:{n}", path=path(n, depth)) for n in range(_DISKS))

    files = tuple(
        DiskFile(path=path(n, depth), parent_path=path(n, depth - 1) if depth else "", file_bytes=1 << 30)
        for n in range(_DISKS)
        for depth in range(checkpoints + 1)
    )
    many = tuple(
        Checkpoint(
            checkpoint_id=_checkpoint_id(n),
            name=f"theirs {n}",
            parent_id=None,
            created_at=None,
            checkpoint_type="Standard",
            has_memory=False,
            automatic=False,
            system_files_bytes=0,
            disks=disks(n),
        )
        for n in range(checkpoints)
    )
    return replace(described, checkpoints=many, disks=disks(checkpoints), files=files)
