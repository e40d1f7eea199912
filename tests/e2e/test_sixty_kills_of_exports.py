"""Sixty kills amid exports, after a stop and on request, releases, and starts that import or end an export.

Daemon, executor and host script are killed twenty times each at random moments, half of the scripts within what they
ask of the hypervisor. All ends, each effect happens once, nothing that was not complete is released, no folder is left
behind, and the guests find what they have written.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.api.v1.executor_pb2 import RUNNING
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Step
from tests.e2e.system import Client, System, metadata_of, until

KILLS_EACH = 20
MOMENTS = tuple(
    f"{at}:{when}"
    for at in ("ExportSystemDefinition", "RequestStateChange", "Remove-VM", "Import-VM")
    for when in ("before", "started", "after")
)
"""Where a script is killed."""
EFFECTS = {"release": "vm_removed", "import": "vm_imported", "start": "power_changed", "stop": "power_changed"}


class Guests:
    """What the guests have written, by VM: a block each time that they ran."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._written = {vm_id: dict[str, str]() for vm_id in system.ids.values()}

    def work(self, vm_id: str, number: int) -> None:
        """Have a guest that runs write."""
        self._system.host.control("write_disk", vm=vm_id, location="SCSI:0:1", block=f"b{number}", data=str(number))
        self._written[vm_id][f"b{number}"] = str(number)

    def compare(self) -> None:
        """Compare what each guest sees with what it has written."""
        for vm_id, written in self._written.items():
            assert self._system.host.control("read_disk", vm=vm_id, location="SCSI:0:1")["blocks"] == written


def vm_of(client: Client, vm_id: str) -> pb.VirtualMachine:
    """Return a VM as it is on record."""
    return client.vms.GetVirtualMachine(pb.GetVirtualMachineRequest(name=f"virtualMachines/{vm_id}"))


def ask_for_something(client: Client, vm_id: str, chance: random.Random) -> Operation:
    """Ask for a stop, which an export and a release follow; an export; or a start, which may import."""
    vm = vm_of(client, vm_id)
    if vm.power != RUNNING:
        return client.vms.StartVirtualMachine(pb.StartVirtualMachineRequest(name=vm.name))
    if chance.random() < 0.3:
        return client.vms.ExportVirtualMachine(pb.ExportVirtualMachineRequest(name=vm.name))
    stop = pb.StopVirtualMachineRequest(name=vm.name, mode=pb.StopVirtualMachineRequest.TURN_OFF)
    return client.vms.StopVirtualMachine(stop)


def start_over(client: Client, vm_id: str) -> None:
    """Start a VM that is off, whatever is at work on it, as soon as that may be."""
    request = pb.StartVirtualMachineRequest(name=f"virtualMachines/{vm_id}")

    def asked() -> bool:
        if vm_of(client, vm_id).power == RUNNING:
            return True
        client.vms.StartVirtualMachine(request)
        return True

    until(lambda: client.all_ended() and asked())


def compare_with_truth(system: System, exports: Path) -> None:
    """Compare effects with steps, and what is on record with the host and the folders."""
    decisive = [line for line in system.host.decisive() if line["operation"]]
    counted = Counter((line["operation"], line["step"]) for line in decisive)
    assert max(counted.values()) == 1, counted
    effects = {(line["operation"], line["step"]): line["effect"] for line in decisive}
    for operation in system.client.all_operations():
        for step in metadata_of(operation).steps:
            if step.state == Step.DONE and step.name in EFFECTS:
                assert effects.get((operation.name, step.number)) == EFFECTS[step.name], (operation.name, step)
    there = {vm["id"] for vm in system.host.control("state")["vms"]}
    for vm_id in system.ids.values():
        vm = vm_of(system.client, vm_id)
        assert (vm_id in there) is not vm.HasField("released")
        assert {str(path) for path in (exports / vm_id).glob("*")} == {export.directory for export in vm.exports}
    jobs = [vm["job"] for vm in system.host.control("state")["vms"]]
    assert jobs == [""] * len(jobs)


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.timeout(600)
def test_sixty_kills_amid_exports_lose_nothing_and_leave_no_folder_behind(tmp_path: Path) -> None:
    seed = int(os.environ.get("SNAPSHOTD_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
    print(f"SNAPSHOTD_TEST_SEED={seed}")  # noqa: T201  (to run this very test again)
    chance = random.Random(seed)
    victims = ["daemon", "executor", "script"] * KILLS_EACH
    chance.shuffle(victims)
    exports = tmp_path / "exports"
    exports.mkdir()
    durations = ["--duration", "checkpoint=20", "export=150", "start=30"]
    policy = ["--export-policy", "ON_STOP", "--export-release", "true", "--export-directory", str(exports)]
    killed_within = 0
    with System(tmp_path, ("web01", "db01", "app01"), durations, daemon_options=policy) as system:
        guests = Guests(system)
        for vm_id in system.ids.values():
            system.client.wait(system.client.create(vm_id, "base"))
        for number, victim in enumerate(victims):
            at = chance.choice(MOMENTS) if victim == "script" and chance.random() < 0.5 else ""
            if at:
                system.host.control("kill_script", at=at, count=1)
            for vm_id in system.ids.values():
                if vm_of(system.client, vm_id).power == RUNNING:
                    guests.work(vm_id, number)
                ask_for_something(system.client, vm_id, chance)
            time.sleep(chance.random() * 0.5)
            if not at:
                system.kill(victim)
            elif chance.random() < 0.5:
                time.sleep(chance.random() * 0.5)
            until(system.client.all_ended)
            if at:
                killed_within += system.host.control("kill_script", at=at, count=0)["left"] == 0
        assert killed_within, "no script was killed at what it asked for"
        compare_with_truth(system, exports)
        operations = [metadata_of(operation) for operation in system.client.all_operations()]
        states = Counter(OperationMetadata.State.Name(operation.state) for operation in operations)
        assert states["SUCCEEDED"] > sum(states.values()) * 0.9, states
        assert sum(step.name == "release" and step.state == Step.DONE for o in operations for step in o.steps) > 5
        for vm_id in system.ids.values():
            start_over(system.client, vm_id)
        until(system.client.all_ended)
        guests.compare()
