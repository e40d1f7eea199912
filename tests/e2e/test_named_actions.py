"""The host's script is killed, or its connection lost, at every named action: all ends well, each effect once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from tests.e2e.system import System, metadata_of

OFF = vm_pb2.StopVirtualMachineRequest.TURN_OFF


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    durations = ["--duration", "checkpoint=80", "restore=80", "remove=80", "merge=40", "start=40", "turn_off=40"]
    with System(tmp_path_factory.mktemp("system"), ("web01",), durations) as running:
        yield running


def name_of(system: System) -> str:
    """Return the VM's resource name."""
    return f"virtualMachines/{system.ids['web01']}"


def newest(system: System) -> str:
    """Return the newest snapshot's resource name; one is taken if there is none."""
    vm_id = system.ids["web01"]
    if not system.client.list_snapshots(vm_id):
        system.client.wait(system.client.create(vm_id, "first"))
    return system.client.list_snapshots(vm_id)[-1].name


def power(system: System, *, on: bool) -> None:
    """Bring the VM to a power, if it is not there."""
    if on != (system.truth_of(system.ids["web01"])["state"] == "Running"):
        operation = start(system) if on else stop(system)
        assert not system.client.wait(operation).HasField("error")


def create(system: System) -> Operation:
    """Ask for a snapshot."""
    vm_id = system.ids["web01"]
    names = {s.display_name for s in system.client.list_snapshots(vm_id)}
    while len(names) > 6:
        delete_newest = system.client.wait(delete(system))
        assert not delete_newest.HasField("error")
        names = {s.display_name for s in system.client.list_snapshots(vm_id)}
    number = next(n for n in range(100) if f"s{n}" not in names)
    return system.client.create(vm_id, f"s{number}")


def revert(system: System) -> Operation:
    """Ask for a revert."""
    return system.client.snapshots.RevertToSnapshot(snapshot_pb2.RevertToSnapshotRequest(name=newest(system)))


def delete(system: System) -> Operation:
    """Ask for a delete."""
    return system.client.snapshots.DeleteSnapshot(snapshot_pb2.DeleteSnapshotRequest(name=newest(system)))


def start(system: System) -> Operation:
    """Ask for a start."""
    return system.client.vms.StartVirtualMachine(vm_pb2.StartVirtualMachineRequest(name=name_of(system)))


def stop(system: System) -> Operation:
    """Ask for a turn-off."""
    return system.client.vms.StopVirtualMachine(vm_pb2.StopVirtualMachineRequest(name=name_of(system), mode=OFF))


Ask = Callable[[System], Operation]

ACTIONS: dict[str, tuple[Ask, bool]] = {
    "Set-VM": (create, True),
    "Checkpoint-VM": (create, True),
    "Restore-VMSnapshot": (revert, False),
    "Remove-VMSnapshot": (delete, True),
    "Start-VM": (start, False),
    "Stop-VM": (stop, True),
}
"""By cmdlet: what leads to it, and whether the VM runs before."""


def check_once(system: System, operation: Operation) -> None:
    """Check that an operation has succeeded, with each effect once."""
    ended = system.client.wait(operation)
    assert not ended.HasField("error"), (ended.error.message, metadata_of(ended))
    steps = [e["step"] for e in system.host.decisive() if e["operation"] == operation.name]
    assert len(steps) == len(set(steps)) >= 1
    truth = system.truth_of(system.ids["web01"])
    told = system.client.list_snapshots(system.ids["web01"])
    assert {s.checkpoint_id for s in told} == {c["id"] for c in truth["checkpoints"]}
    assert truth["checkpoint_type"] == "Production"
    names = {s.checkpoint_id: f"{s.display_name} #{s.uid}" for s in told}
    assert {c["id"]: c["name"] for c in truth["checkpoints"]} == names


@pytest.mark.slow
@pytest.mark.parametrize("place", ["before", "started", "after"])
@pytest.mark.parametrize("cmdlet", ACTIONS)
def test_a_script_killed_at_a_named_action_leaves_one_effect(system: System, cmdlet: str, place: str) -> None:
    ask, running = ACTIONS[cmdlet]
    newest(system)
    power(system, on=running)
    system.host.control("kill_script", at=f"{cmdlet}:{place}", count=1)
    check_once(system, ask(system))
    system.host.control("kill_script", at=f"{cmdlet}:{place}", count=0)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["CREATE", "RESTORE", "REMOVE", "START", "STOP"])
def test_a_connection_lost_around_an_effect_leaves_one_effect(system: System, kind: str, when: str) -> None:
    cmdlet = {"CREATE": "Checkpoint-VM", "RESTORE": "Restore-VMSnapshot", "REMOVE": "Remove-VMSnapshot"}
    ask, running = ACTIONS[cmdlet.get(kind, f"{kind.title()}-VM")]
    newest(system)
    power(system, on=running)
    system.host.control("drop", when=when, kinds=[kind], count=1)
    check_once(system, ask(system))
    system.host.control("drop", when=when, kinds=[kind], count=0)
