"""The host's script is killed, or its connection lost, at an action: all ends well, each effect once.

At every named action of every cmdlet, and around every effect but a rename: what is planned must have happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
import pytest
from google.longrunning.operations_pb2 import CancelOperationRequest, Operation

from snapshotd.api.v1 import snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from tests.e2e.system import System, metadata_of, until

OFF = vm_pb2.StopVirtualMachineRequest.TURN_OFF
PLACES = ("before", "started", "after")
RESTING = {"Resume-VM": "Paused", "Suspend-VM": "Paused", "Save-VM": "Saved"}
"""By cmdlet: what a VM's state is before it; each place has a VM of its own, named as the action."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    durations = ["--duration", "checkpoint=80", "restore=80", "remove=80", "merge=40", "start=40", "turn_off=40"]
    states = {f"{cmdlet}:{place}": state for cmdlet, state in RESTING.items() for place in PLACES}
    with System(tmp_path_factory.mktemp("system"), ("web01", *states), durations, states) as running:
        yield running


def name_of(system: System, vm: str = "web01") -> str:
    """Return a VM's resource name."""
    return f"virtualMachines/{system.ids[vm]}"


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


def start(system: System, vm: str = "web01") -> Operation:
    """Ask for a start."""
    return system.client.vms.StartVirtualMachine(vm_pb2.StartVirtualMachineRequest(name=name_of(system, vm)))


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


def killed(system: System, at: str, ended: Operation) -> Operation:
    """Check that a script was killed at an action on the way to an operation's end."""
    assert system.host.control("kill_script", at=at, count=0) == {"left": 0}, metadata_of(ended)
    return ended


def effects_of(system: System, operation: Operation) -> list[str]:
    """Return the decisive effects of an operation, each of which is of a step of its own."""
    lines = [e for e in system.host.decisive() if e["operation"] == operation.name]
    assert len({e["step"] for e in lines}) == len(lines)
    return [e["effect"] for e in lines]


def check_once(system: System, ended: Operation) -> None:
    """Check that an operation has succeeded, with each effect once."""
    assert not ended.HasField("error"), (ended.error.message, metadata_of(ended))
    assert effects_of(system, ended)
    truth = system.truth_of(system.ids["web01"])
    told = system.client.list_snapshots(system.ids["web01"])
    assert {s.checkpoint_id for s in told} == {c["id"] for c in truth["checkpoints"]}
    assert truth["checkpoint_type"] == "Production"
    names = {s.checkpoint_id: f"{s.display_name} #{s.uid}" for s in told}
    assert {c["id"]: c["name"] for c in truth["checkpoints"]} == names


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("cmdlet", ACTIONS)
def test_a_script_killed_at_a_named_action_leaves_one_effect(system: System, cmdlet: str, place: str) -> None:
    ask, running = ACTIONS[cmdlet]
    newest(system)
    power(system, on=running)
    at = f"{cmdlet}:{place}"
    system.host.control("kill_script", at=at, count=1)
    check_once(system, killed(system, at, system.client.wait(ask(system))))


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_script_killed_while_it_names_an_adopted_checkpoint_leaves_one_of_that_name(
    system: System, place: str
) -> None:
    power(system, on=True)
    at = ("Checkpoint-VM:started", f"Rename-VMSnapshot:{place}")
    for action in at:
        system.host.control("kill_script", at=action, count=1)
    ended = system.client.wait(create(system))
    for action in at:
        killed(system, action, ended)
    check_once(system, ended)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_script_killed_while_it_resumes_a_paused_vm_leaves_one_effect(system: System, place: str) -> None:
    at = f"Resume-VM:{place}"
    system.host.control("kill_script", at=at, count=1)
    ended = killed(system, at, system.client.wait(start(system, at)))
    assert not ended.HasField("error"), (ended.error.message, metadata_of(ended))
    assert effects_of(system, ended) == ["power_changed"]
    assert system.truth_of(system.ids[at])["state"] == "Running"


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("cmdlet", ["Suspend-VM", "Save-VM"])
def test_a_script_killed_while_it_undoes_a_cancelled_start_leaves_one_effect(
    system: System, cmdlet: str, place: str
) -> None:
    at = f"{cmdlet}:{place}"
    system.host.control("durations", start=600_000)
    operation = start(system, at)
    until(lambda: bool(system.truth_of(system.ids[at])["job"]))
    system.client.operations.CancelOperation(CancelOperationRequest(name=operation.name))
    system.host.control("kill_script", at=at, count=1)
    system.host.control("durations", start=40)
    ended = killed(system, at, system.client.wait(operation))
    assert ended.error.code == grpc.StatusCode.CANCELLED.value[0], (ended.error.message, metadata_of(ended))
    assert effects_of(system, ended) == ["power_changed", "power_changed"]
    assert system.truth_of(system.ids[at])["state"] == RESTING[cmdlet]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("action", "cmdlet"),
    [
        ("checkpoint_create", "Checkpoint-VM"),
        ("checkpoint_restore", "Restore-VMSnapshot"),
        ("checkpoint_remove", "Remove-VMSnapshot"),
        ("vm_start", "Start-VM"),
        ("vm_stop", "Stop-VM"),
    ],
)
def test_a_connection_lost_around_an_effect_leaves_one_effect(
    system: System, action: str, cmdlet: str, when: str
) -> None:
    ask, running = ACTIONS[cmdlet]
    newest(system)
    power(system, on=running)
    system.host.control("drop", when=when, kinds=[action], count=1)
    ended = system.client.wait(ask(system))
    assert system.host.control("drop", when=when, kinds=[action], count=0) == {"left": 0}
    check_once(system, ended)
