"""Daemon, executor and host script are killed twenty times each, at random moments: all ends, each effect once.

Half of the scripts are killed within a restore, before, while or after it is applied: its outcome is unknown then.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from google.longrunning.operations_pb2 import Operation

from projections.rebuild import rebuild
from snapshotd.api.v1 import snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.executor_pb2 import RUNNING
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Step
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.e2e.system import Client, System, metadata_of, until
from tests.unit.projections.comparing import dump

KILLS_EACH = 20
MOST_SNAPSHOTS = 7
MOMENTS = ("before", "started", "after")
"""Of a restore: when its script is killed."""
EFFECTS = {
    "checkpoint": "checkpoint_made",
    "restore": "checkpoint_applied",
    "remove": "checkpoint_removed",
    "start": "power_changed",
    "stop": "power_changed",
    "configure": "vm_configured",
}


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


def revert_into_a_kill(system: System, vm_id: str, chance: random.Random) -> str:
    """Ask for a revert whose script will be killed at its restore; return where, or nothing if there is no snapshot."""
    ready = [s for s in system.client.list_snapshots(vm_id) if s.state == snapshot_pb2.Snapshot.READY]
    if not ready:
        return ""
    at = f"Restore-VMSnapshot:{chance.choice(MOMENTS)}"
    system.host.control("kill_script", at=at, count=1)
    request = snapshot_pb2.RevertToSnapshotRequest(name=chance.choice(ready).name)
    system.client.snapshots.RevertToSnapshot(request)
    return at


def kill(system: System, victim: str) -> None:
    """Kill something, and start it again where it does not do so by itself."""
    if victim == "script":
        system.host.control("kill_scripts")
    elif victim == "executor":
        system.executor.restart()
    else:
        system.daemon.restart()
        system.client = Client(system.daemon.address)


def all_ended(system: System) -> bool:
    """Return whether no operation is active."""
    return all(operation.done for operation in system.client.all_operations())


def compare_with_truth(system: System) -> None:
    """Check effects against steps, and the trees against the host's."""
    effects = Counter((e["operation"], e["step"]) for e in system.host.decisive())
    assert max(effects.values()) == 1, effects
    kinds = {(e["operation"], e["step"]): e["effect"] for e in system.host.decisive()}
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
@pytest.mark.timeout(400)
def test_sixty_kills_leave_no_operation_behind_and_no_effect_twice(tmp_path: Path) -> None:
    seed = int(os.environ.get("SNAPSHOTD_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
    print(f"SNAPSHOTD_TEST_SEED={seed}")  # noqa: T201  (to run this very test again)
    chance = random.Random(seed)
    victims = ["daemon", "executor", "script"] * KILLS_EACH
    chance.shuffle(victims)
    durations = ["--duration", "checkpoint=60", "restore=50", "remove=40", "merge=30", "start=30", "save=20"]
    killed_within = 0
    with System(tmp_path, ("web01", "db01", "app01"), durations) as system:
        for number, victim in enumerate(victims):
            first, *others = system.ids.values()
            within = revert_into_a_kill(system, first, chance) if victim == "script" and chance.random() < 0.5 else ""
            for vm_id in others if within else (first, *others):
                ask_for_something(system.client, vm_id, chance, number)
            if not within:
                time.sleep(chance.random() * 0.4)
                kill(system, victim)
            until(lambda: all_ended(system))
            if within:
                killed_within += system.host.control("kill_script", at=within, count=0)["left"] == 0
        assert killed_within, "no restore was killed"
        compare_with_truth(system)
        states = Counter(OperationMetadata.State.Name(metadata_of(o).state) for o in system.client.all_operations())
        assert states["SUCCEEDED"] > sum(states.values()) * 0.9, states
    asyncio.run(compare_views_with_log(tmp_path / "daemon" / "storage"))
