"""Daemon, executor and host script are killed twenty times each, at random moments: all ends, each effect once.

Half of the scripts are killed within a cmdlet, before, while or after it does its work: its outcome is unknown then.
One VM has no snapshots, and gets and loses volumes, with what its guest has written to them.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from google.longrunning.operations_pb2 import Operation

from projections.rebuild import rebuild
from snapshotd.api.v1 import audit_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.executor_pb2 import RUNNING
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Step
from snapshotd.domain.volume import volume_stream
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.e2e.system import Client, System, metadata_of, until
from tests.unit.projections.comparing import dump

KILLS_EACH = 20
MOST_SNAPSHOTS = 7
MOST_VOLUMES = 4
MIB = 1 << 20
MOMENTS = ("before", "started", "after")
"""Of a cmdlet: when its script is killed."""
EFFECTS = {
    "attach": "drive_added",
    "detach": "drive_removed",
    "resize": "disk_resized",
    "checkpoint": "checkpoint_made",
    "restore": "checkpoint_applied",
    "remove": "checkpoint_removed",
    "start": "power_changed",
    "stop": "power_changed",
    "configure": "vm_configured",
    "remove VM": "vm_removed",
}
DOOMED = tuple(f"old{number:02}" for number in range(1, 13))
"""VMs that are destroyed."""
EACH = 3 * KILLS_EACH // len(DOOMED)
"""In how many kills one of them is."""


def ask_for_something(client: Client, vm_id: str, chance: random.Random, number: int) -> Operation:
    """Ask for a create, a revert, a delete, another offering, a start or a stop, by chance and as the VM allows."""
    name = f"virtualMachines/{vm_id}"
    vm = client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=name))
    running = vm.power == RUNNING
    ready = [s for s in client.list_snapshots(vm_id) if s.state == snapshot_pb2.Snapshot.READY]
    dice = chance.random()
    if not ready or (dice < 0.45 and len(ready) < MOST_SNAPSHOTS):
        return client.create(vm_id, f"s{number}", memory=running and chance.random() < 0.4)
    target = chance.choice(ready).name
    if dice < 0.65:
        return client.snapshots.RevertToSnapshot(snapshot_pb2.RevertToSnapshotRequest(name=target))
    if dice < 0.85:
        return client.snapshots.DeleteSnapshot(snapshot_pb2.DeleteSnapshotRequest(name=target))
    if not running and dice < 0.95:
        offering = vm_pb2.ServiceOffering(cpu_count=chance.randint(1, 8), memory_bytes=chance.randint(1, 8) << 30)
        asked = vm_pb2.ChangeServiceOfferingRequest(name=name, service_offering=offering)
        return client.vms.ChangeServiceOffering(asked)
    if running:
        return client.vms.StopVirtualMachine(vm_pb2.StopVirtualMachineRequest(name=name))
    return client.vms.StartVirtualMachine(vm_pb2.StartVirtualMachineRequest(name=name))


@dataclass
class Drives:
    """The volumes of a VM that has no snapshots."""

    system: System
    vm: str
    shelf: Path
    contents: dict[str, dict[str, str]] = field(default_factory=dict)
    """What is on each volume that was ever attached, by path."""

    def attached(self) -> dict[str, vm_pb2.Disk]:
        """Return the volumes on record, by place, beside the disks that the VM began with."""
        name = f"virtualMachines/{self.system.ids[self.vm]}"
        vm = self.system.client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=name))
        return {disk.location: disk for disk in vm.disks if disk.path.startswith(str(self.shelf))}

    def choose(self, chance: random.Random, number: int) -> tuple[str, Callable[[], Operation]]:
        """Choose a new volume, one that is there, a detachment or another size; return a cmdlet, and the request."""
        client, vm_id, attached = self.system.client, self.system.ids[self.vm], self.attached()
        loose = sorted(self.contents.keys() - {disk.path for disk in attached.values()})
        dice = chance.random()
        if not attached or (dice < 0.3 and len(attached) < MOST_VOLUMES):
            path, cmdlet = f"{self.shelf}/{number}.vhdx", chance.choice(("New-VHD", "Add-VMHardDiskDrive"))
            return cmdlet, lambda: client.attach(vm_id, path, size_bytes=64 * MIB)
        if loose and dice < 0.55:
            path = chance.choice(loose)
            return "Add-VMHardDiskDrive", lambda: client.attach(vm_id, path)
        place = chance.choice(sorted(attached))
        if dice < 0.75:
            return "Remove-VMHardDiskDrive", lambda: client.detach(vm_id, place)
        size = attached[place].size_bytes + chance.choice((MIB, -MIB))
        return "Resize-VHD", lambda: client.resize(vm_id, place, size, allow_shrink=True)

    def write(self, number: int) -> None:
        """Have the guest write to each of its volumes."""
        for location, disk in self.attached().items():
            self.contents.setdefault(disk.path, {})[f"{number % 5}"] = f"{number}"
            data = {"location": location, "block": f"{number % 5}", "data": f"{number}"}
            self.system.host.control("write_disk", vm=self.vm, **data)

    def claims(self) -> Iterator[audit_pb2.Event]:
        """Return which volumes were claimed and released, as far as it is on record."""
        for kind in ("VolumeClaimed", "VolumeReleased"):
            yield from self.system.client.audit.ListEvents(
                audit_pb2.ListEventsRequest(type=kind, page_size=1000)
            ).events

    def compare(self) -> None:
        """Check that the record is what the host has, that all that was written is there, and nothing is left over."""
        there, attached = self.system.truth_of(self.system.ids[self.vm])["disks"], self.attached()
        sizes = {disk.location: (disk.path, disk.size_bytes) for disk in attached.values()}
        own = {at: (d["chain"][0], d["size_bytes"]) for at, d in there.items() if at not in ("SCSI:0:0", "SCSI:0:1")}
        assert sizes == own
        for location, disk in attached.items():
            read = self.system.host.control("read_disk", vm=self.vm, location=location)
            assert read["blocks"] == self.contents[disk.path]
        assert {str(path) for path in self.shelf.iterdir()} == self.contents.keys()
        claims = {event.stream: event.type for event in sorted(self.claims(), key=lambda event: event.position)}
        owned = {stream for stream, last in claims.items() if last == "VolumeClaimed"}
        assert owned == {volume_stream(disk.path) for disk in attached.values()}
        made = Counter(e["detail"]["path"] for e in self.system.host.truth() if e["effect"] == "disk_created")
        assert set(made.values()) == {1}


def plan_kill(system: System, cmdlet: str, chance: random.Random) -> str:
    """Have the next script killed that reaches a cmdlet; return where."""
    at = f"{cmdlet}:{chance.choice(MOMENTS)}"
    system.host.control("kill_script", at=at, count=1)
    return at


class Doomed:
    """VMs with a snapshot each, which are destroyed one after another; every other one with its disks."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._disks = {name: self._disks_of(name) for name in DOOMED}
        for name in DOOMED:
            system.client.wait(system.client.create(system.ids[name], "last"))

    def destroy(self, number: int) -> None:
        """Ask for the destruction of the next one."""
        request = vm_pb2.DestroyVirtualMachineRequest(
            name=f"virtualMachines/{self._system.ids[DOOMED[number]]}", delete_disks=number % 2 == 1
        )
        self._system.client.vms.DestroyVirtualMachine(request)

    def compare(self) -> None:
        """Check that they are gone, and their disks where that was asked for; they are looked at no more."""
        there = {vm["id"] for vm in self._system.host.control("state")["vms"]}
        for number, name in enumerate(DOOMED):
            assert (self._system.ids[name] in there, self._shown(name).state) == (
                False,
                vm_pb2.VirtualMachine.DESTROYED,
            )
            assert [disk.exists() for disk in self._disks[name]] == [number % 2 == 0] * 2, name
            del self._system.ids[name]

    def _disks_of(self, name: str) -> list[Path]:
        return [Path(disk.path) for disk in self._shown(name).disks]

    def _shown(self, name: str) -> vm_pb2.VirtualMachine:
        name = f"virtualMachines/{self._system.ids[name]}"
        return self._system.client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=name))


def revert_into_a_kill(system: System, vm_id: str, chance: random.Random) -> str:
    """Ask for a revert whose script will be killed at its restore; return where, or nothing if there is no snapshot."""
    ready = [s for s in system.client.list_snapshots(vm_id) if s.state == snapshot_pb2.Snapshot.READY]
    if not ready:
        return ""
    at = plan_kill(system, "Restore-VMSnapshot", chance)
    request = snapshot_pb2.RevertToSnapshotRequest(name=chance.choice(ready).name)
    system.client.snapshots.RevertToSnapshot(request)
    return at


def compare_with_truth(system: System) -> None:
    """Check effects against steps, and the trees against the host's."""
    of_vms = [e for e in system.host.decisive() if e["vm"]]
    effects = Counter((e["operation"], e["step"]) for e in of_vms)
    assert max(effects.values()) == 1, effects
    kinds = {(e["operation"], e["step"]): e["effect"] for e in of_vms}
    for operation in system.client.all_operations():
        for step in metadata_of(operation).steps:
            if step.state == Step.DONE and step.name in EFFECTS:
                assert kinds.get((operation.name, step.number)) == EFFECTS[step.name], (operation.name, step)
    for vm_id in system.ids.values():
        tree, truth = system.client.tree(vm_id), system.truth_of(vm_id)
        own = {n.id: n.snapshot.checkpoint_id for n in tree.nodes if n.snapshot.checkpoint_id}
        told = {own[n.id]: own.get(n.parent, "") for n in tree.nodes if n.id in own}
        assert told == {c["id"]: c["parent"] for c in truth["checkpoints"]}
        assert own.get(tree.current_node, "") == truth["current"]
        assert not truth["merging"]


async def compare_views_with_log(storage: Path) -> None:
    """Check that the views, whose follower was killed so often, are what the log gives."""
    followed = dump(storage / "views.db")
    with SqliteEventLog(storage / "events.db") as log:
        assert await rebuild(log, storage / "views.db") == log.head_position()
    assert dump(storage / "views.db") == followed


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.timeout(600)
def test_sixty_kills_leave_no_operation_behind_and_no_effect_twice(tmp_path: Path) -> None:
    seed = int(os.environ.get("SNAPSHOTD_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
    print(f"SNAPSHOTD_TEST_SEED={seed}")  # noqa: T201  (to run this very test again)
    chance = random.Random(seed)
    victims = ["daemon", "executor", "script"] * KILLS_EACH
    chance.shuffle(victims)
    durations = ["--duration", "checkpoint=60", "restore=50", "remove=40", "merge=30", "start=30", "save=20"]
    killed = Counter[str]()
    (shelf := tmp_path / "shelf").mkdir()
    with System(tmp_path, ("web01", "db01", "app01", "data01", *DOOMED), durations) as system:
        drives, doomed = Drives(system, "data01", shelf), Doomed(system)
        for number, victim in enumerate(victims):
            within, (first, *others) = "", (system.ids[name] for name in ("web01", "db01", "app01"))
            cmdlet, change = drives.choose(chance, number)
            if victim == "script" and chance.random() < 0.3:
                within = plan_kill(system, cmdlet, chance)
            elif victim == "script" and chance.random() < 0.5:
                within = revert_into_a_kill(system, first, chance)
            change()
            if number % EACH == 0:
                if victim == "script" and not within:
                    within = plan_kill(system, "Remove-VM", chance)
                doomed.destroy(number // EACH)
            for vm_id in others if within.startswith("Restore") else (first, *others):
                ask_for_something(system.client, vm_id, chance, number)
            if not within:
                time.sleep(chance.random() * 0.4)
                system.kill(victim)
            until(system.client.all_ended)
            if within and system.host.control("kill_script", at=within, count=0)["left"] == 0:
                killed[within.partition(":")[0]] += 1
            drives.write(number)
        assert killed["Restore-VMSnapshot"], "no restore was killed"
        assert killed.keys() - {"Restore-VMSnapshot", "Remove-VM"}, "no change of a volume was killed"
        drives.compare()
        doomed.compare()
        compare_with_truth(system)
        states = Counter(OperationMetadata.State.Name(metadata_of(o).state) for o in system.client.all_operations())
        assert states["SUCCEEDED"] > sum(states.values()) * 0.9, states
    asyncio.run(compare_views_with_log(tmp_path / "daemon" / "storage"))
