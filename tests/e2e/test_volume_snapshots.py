"""Copies of disks by running programs: what they hold, what a reader sees of the tree meanwhile, and sixty kills."""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.longrunning.operations_pb2 import CancelOperationRequest, GetOperationRequest, Operation

from snapshotd.api.v1 import audit_pb2, host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan, Step
from tests.e2e.system import Client, System, metadata_of, refusal, until

DISKS = ("SCSI:0:0", "SCSI:0:1")
DURATIONS = [
    *("--duration", "checkpoint=60", "remove=40", "merge=120", "start=30", "save=20"),
    *("export=300", "convert=300"),
]
KILLS_EACH = 20
_BETWEEN_LOOKS_S = 0.01
"""Without a pause, the reader alone keeps a processor busy."""
POINTS = ("Checkpoint-VM", "ExportSystemDefinition", "Remove-VMSnapshot", "ConvertVirtualHardDisk")
"""Where scripts are killed, before, while or after the host does it."""


def take(client: Client, vm_id: str, location: str = DISKS[0], name: str = "") -> Operation:
    """Ask for a copy of a disk."""
    wanted = pb.VolumeSnapshot(location=location, display_name=name)
    return client.vms.TakeVolumeSnapshot(
        pb.TakeVolumeSnapshotRequest(parent=f"virtualMachines/{vm_id}", volume_snapshot=wanted)
    )


def delete(client: Client, name: str) -> Operation:
    """Ask for the deletion of a copy."""
    return client.vms.DeleteVolumeSnapshot(pb.DeleteVolumeSnapshotRequest(name=name))


def copies(client: Client, vm_id: str = "-") -> list[pb.VolumeSnapshot]:
    """Return the copies that are not REMOVED."""
    asked = pb.ListVolumeSnapshotsRequest(parent=f"virtualMachines/{vm_id}", page_size=1000)
    return list(client.vms.ListVolumeSnapshots(asked).volume_snapshots)


def result(operation: Operation) -> pb.VolumeSnapshot:
    """Return the copy that an operation has made."""
    assert not operation.HasField("error"), operation.error
    copy = pb.VolumeSnapshot()
    assert operation.response.Unpack(copy)
    return copy


def blocks(path: str) -> dict[str, str]:
    """Return what a guest would see of a copy, which stands on nothing."""
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    assert document["parent"] == ""
    return dict(document["blocks"])


class Copying(System):
    """A system that has a folder for copies.

    Args:
        directory: for everything.
    """

    def __init__(self, directory: Path) -> None:
        self.folder = directory / "copies"
        self.folder.mkdir(parents=True)
        options = ["--volume-snapshots-directory", str(self.folder)]
        super().__init__(directory, ("web01", "db01"), DURATIONS, {"db01": "Off"}, options)


@contextmanager
def system_in(directory: Path) -> Iterator[Copying]:
    """Start a system whose VMs have a tree of snapshots each: one that runs, and one that is off."""
    with Copying(directory) as system:
        client = system.client
        for vm, vm_id in system.ids.items():
            for name in ("a", "b", "c"):
                for location in DISKS:
                    write(system, vm, location, name, f"{vm} {name}")
                client.wait(client.create(vm_id, name))
            first = next(s for s in client.list_snapshots(vm_id) if s.display_name == "a")
            client.wait(client.snapshots.RevertToSnapshot(snapshot_pb2.RevertToSnapshotRequest(name=first.name)))
        web = pb.StartVirtualMachineRequest(name=f"virtualMachines/{system.ids['web01']}")
        client.wait(client.vms.StartVirtualMachine(web))
        until(system.client.all_ended)
        yield system


def write(system: System, vm: str, location: str, block: str, data: str) -> None:
    """Have the guest write to a disk."""
    system.host.control("write_disk", vm=vm, location=location, block=block, data=data)


def read(system: System, vm: str, location: str) -> dict[str, str]:
    """Return what the guest sees."""
    return dict(system.host.control("read_disk", vm=vm, location=location)["blocks"])


class Reader(threading.Thread):
    """Somebody who looks at the trees all the time, and keeps what differs."""

    def __init__(self, system: System) -> None:
        super().__init__(daemon=True)
        self._system = system
        self._over = threading.Event()
        self.seen: dict[str, set[str]] = {name: set() for name in system.ids}
        self.looks = 0

    def run(self) -> None:
        """Look until it is over. While the daemon is away, there is nothing to see."""
        while not self._over.is_set():
            for name, vm_id in self._system.ids.items():
                try:
                    tree = self._system.client.tree(vm_id)
                except (grpc.RpcError, ValueError):
                    time.sleep(0.02)
                    continue
                nodes = [(n.id, n.parent, n.snapshot.display_name, n.snapshot.state) for n in tree.nodes]
                self.seen[name].add(repr((sorted(nodes), tree.current_node, tree.current_snapshot)))
                self.looks += 1
            self._over.wait(_BETWEEN_LOOKS_S)

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self.join()


@contextmanager
def read_all_the_time(system: System) -> Iterator[Reader]:
    """Have the trees looked at meanwhile, and check that each was the same at every look."""
    reader = Reader(system)
    reader.start()
    try:
        yield reader
        until(lambda: reader.looks > 20)
    finally:
        reader.stop()
    assert {name: len(seen) for name, seen in reader.seen.items()} == dict.fromkeys(system.ids, 1)


def sync(system: System) -> None:
    """Have the host compared with the record."""
    system.client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))


def drifts(system: System) -> list[str]:
    """Return the drift on record."""
    asked = audit_pb2.ListEventsRequest(type="DriftDetected", page_size=1000)
    return [event.summary for event in system.client.audit.ListEvents(asked).events]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copying]:
    with system_in(tmp_path_factory.mktemp("system")) as running:
        yield running


@pytest.fixture
def slow(system: Copying) -> Iterator[None]:
    """Have the host take minutes for a copy, as long as a test runs."""
    system.host.control("durations", export=600_000, convert=600_000)
    yield
    system.host.control("durations", export=300, convert=300)


def waits_for_job(client: Client, operation: Operation) -> bool:
    """Return whether an operation waits for the host's job."""
    steps = metadata_of(client.operations.GetOperation(GetOperationRequest(name=operation.name))).steps
    return any(step.name == "wait for copy" and step.state == Step.WAITING for step in steps)


@pytest.mark.parametrize(("vm", "consistency"), [("web01", "APPLICATION"), ("db01", "OFF")])
@pytest.mark.parametrize("location", DISKS)
def test_a_copy_holds_what_the_guest_saw_and_the_tree_stands_still(
    system: System, vm: str, consistency: str, location: str
) -> None:
    client, vm_id = system.client, system.ids[vm]
    before, drift = read(system, vm, location), drifts(system)
    with read_all_the_time(system):
        operation = take(client, vm_id, location, "nightly")
        until(lambda: waits_for_job(client, operation))
        if vm == "web01":
            write(system, vm, location, "late", "written since")
        sync(system)
        copy = result(client.wait(operation))
        until(system.client.all_ended)
    assert blocks(copy.path) == before
    assert read(system, vm, location) == before | ({"late": "written since"} if vm == "web01" else {})
    assert (copy.state, copy.display_name, copy.location) == (pb.VolumeSnapshot.READY, "nightly", location)
    assert pb.VolumeSnapshot.Consistency.Name(copy.consistency) == consistency
    assert (copy.size_bytes, copy.host) == (Path(copy.path).stat().st_size, "hosts/hv01")
    assert client.vms.GetVolumeSnapshot(pb.GetVolumeSnapshotRequest(name=copy.name)) == copy
    assert copy in copies(client, vm_id)
    assert drifts(system) == drift
    assert not client.wait(delete(client, copy.name)).HasField("error")
    assert not Path(copy.path).exists()
    assert copy.name not in [other.name for other in copies(client)]


@pytest.mark.parametrize(
    ("vm", "steps"),
    [
        ("web01", ["checkpoint", "copy", "wait for copy", "place copy", "remove", "merge"]),
        ("db01", ["copy", "wait for copy", "place copy"]),
    ],
)
def test_a_plan_is_carried_out_as_it_was_shown(system: System, vm: str, steps: list[str]) -> None:
    client, parent = system.client, f"virtualMachines/{system.ids[vm]}"
    asked = pb.TakeVolumeSnapshotRequest(parent=parent, volume_snapshot=pb.VolumeSnapshot(location=DISKS[0]))
    asked.validate_only = True
    plan = Plan()
    shown = client.vms.TakeVolumeSnapshot(asked)
    assert shown.response.Unpack(plan)
    assert [step.name for step in plan.steps] == steps
    assert copies(client, system.ids[vm]) == []
    asked.validate_only, asked.expected_plan = False, "another plan"
    assert refusal(lambda: client.vms.TakeVolumeSnapshot(asked))[1] == "PLAN_CHANGED"
    asked.expected_plan = plan.etag
    ended = client.wait(client.vms.TakeVolumeSnapshot(asked))
    assert [step.name for step in metadata_of(ended).steps] == steps
    client.wait(delete(client, result(ended).name))
    until(system.client.all_ended)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("vm", ["web01", "db01"])
def test_a_copy_is_cancelled_while_the_host_is_at_it_and_leaves_nothing(system: Copying, vm: str) -> None:
    client, vm_id = system.client, system.ids[vm]
    with read_all_the_time(system):
        operation = take(client, vm_id)
        until(lambda: waits_for_job(client, operation))
        assert refusal(lambda: client.create(vm_id, "x"))[:2] == (grpc.StatusCode.ABORTED, "OPERATION_ACTIVE")
        assert refusal(lambda: take(client, vm_id))[:2] == (grpc.StatusCode.ABORTED, "OPERATION_ACTIVE")
        client.operations.CancelOperation(CancelOperationRequest(name=operation.name))
        ended = client.wait(operation)
        until(system.client.all_ended)
    assert metadata_of(ended).state == OperationMetadata.CANCELLED
    assert list(system.folder.iterdir()) == []
    assert copies(client, vm_id) == []
    assert not any("#copy-" in c["name"] for c in system.truth_of(vm_id)["checkpoints"])


def test_a_file_that_is_another_disk_by_now_is_not_deleted(system: System) -> None:
    client, vm_id = system.client, system.ids["db01"]
    first, second = (result(client.wait(take(client, vm_id))) for _ in range(2))
    Path(second.path).replace(first.path)
    ended = client.wait(delete(client, first.name))
    assert "another virtual disk" in ended.error.message
    assert Path(first.path).exists()
    (kept,) = [c for c in copies(client, vm_id) if c.name == first.name]
    assert (kept.state, kept.failure.reason != "") == (pb.VolumeSnapshot.READY, True)
    Path(first.path).unlink()  # what is gone is no obstacle
    for copy in (first, second):
        assert not client.wait(delete(client, copy.name)).HasField("error")
    assert copies(client, vm_id) == []


def test_a_volume_that_is_full_fails_the_copy_and_nothing_is_left(system: Copying) -> None:
    client, vm_id = system.client, system.ids["web01"]
    system.host.control("free_space", volume=str(system.folder), free_bytes=10)
    with read_all_the_time(system):
        ended = client.wait(take(client, vm_id))
        until(system.client.all_ended)
    system.host.control("free_space", volume=str(system.folder), free_bytes=None)
    assert "0x80070070" in ended.error.message
    assert list(system.folder.iterdir()) == []
    (failed,) = copies(client, vm_id)
    assert (failed.state, failed.failure.reason) == (pb.VolumeSnapshot.ERROR, "JOB_FAILED")
    assert not client.wait(delete(client, failed.name)).HasField("error")
    assert copies(client, vm_id) == []


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.timeout(400)
def test_sixty_kills_amid_copies_show_no_reader_another_tree_and_leave_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("SNAPSHOTD_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
    print(f"SNAPSHOTD_TEST_SEED={seed}")  # noqa: T201  (to run this very test again)
    chance = random.Random(seed)
    victims = ["daemon", "executor", "script"] * KILLS_EACH
    chance.shuffle(victims)
    expected: dict[str, dict[str, str]] = {}
    with system_in(tmp_path) as system, read_all_the_time(system):
        for number, victim in enumerate(victims):
            location = chance.choice(DISKS)
            write(system, "web01", location, str(number % 4), f"round {number}")
            within = ""
            if victim == "script" and chance.random() < 0.7:
                within = f"{chance.choice(POINTS)}:{chance.choice(('before', 'started', 'after'))}"
                system.host.control("kill_script", at=within, count=1)
            for vm, vm_id in system.ids.items():
                ask_for_a_copy(system, vm_id, location, read(system, vm, location), chance, expected)
            if not within:
                time.sleep(chance.random() * 0.8)
                system.kill(victim)
            if chance.random() < 0.3:
                sync_if_it_can_be(system)
            until(system.client.all_ended)
            if within:
                system.host.control("kill_script", at=within, count=0)
        check_copies(system, expected)
        assert drifts(system) == []


def ask_for_a_copy(
    system: System,
    vm_id: str,
    location: str,
    content: dict[str, str],
    chance: random.Random,
    expected: dict[str, dict[str, str]],
) -> None:
    """Ask for a copy, or for the deletion of one, by chance; keep what is to be in it, by its operation's name."""
    there = copies(system.client, vm_id)
    if len(there) > 3 or (there and chance.random() < 0.4):
        delete(system.client, chance.choice(there).name)
    else:
        expected[metadata_of(take(system.client, vm_id, location)).volume_snapshot] = content


def sync_if_it_can_be(system: System) -> None:
    """Have the host compared with the record, unless nobody can do that just now."""
    with contextlib.suppress(grpc.RpcError):
        sync(system)


def check_copies(system: Copying, expected: dict[str, dict[str, str]]) -> None:
    """Check that the copies hold what the guests saw, and that nothing else is left of those that are not there."""
    states = Counter(OperationMetadata.State.Name(metadata_of(o).state) for o in system.client.all_operations())
    assert states["SUCCEEDED"] > sum(states.values()) * 0.9, states
    there = copies(system.client)
    for copy in there:
        if copy.state == pb.VolumeSnapshot.READY:
            assert blocks(copy.path) == expected[copy.name], copy
    for copy in (c for c in there if c.state != pb.VolumeSnapshot.READY):
        assert copy.state == pb.VolumeSnapshot.ERROR, copy
        assert not system.client.wait(delete(system.client, copy.name)).HasField("error")
    ready = {copy.path for copy in there if copy.state == pb.VolumeSnapshot.READY}
    assert {str(path) for path in system.folder.iterdir()} == ready
    effects = Counter((e["operation"], e["step"]) for e in system.host.decisive() if e["effect"].startswith("check"))
    assert max(effects.values()) == 1, effects
    for vm_id in system.ids.values():
        assert not any("#copy-" in c["name"] for c in system.truth_of(vm_id)["checkpoints"])
        assert not system.truth_of(vm_id)["merging"]
