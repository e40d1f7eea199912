"""Reverts with options, stops and restarts, compared with what the simulated host's guests see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from snapshotd.api.v1 import snapshot_pb2
from snapshotd.api.v1.operation_pb2 import OperationMetadata
from tests.e2e.command_line import Ctl
from tests.e2e.system import System, metadata_of, until

VMS = ("keep01", "off01", "cold01", "need01", "stop01", "hang01")


@pytest.fixture(scope="module")
def ctl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ctl]:
    with System(tmp_path_factory.mktemp("system"), VMS) as running:
        yield Ctl(running)


def truth(ctl: Ctl, vm: str) -> dict[str, Any]:
    """Return a VM as the host has it."""
    return ctl.system.truth_of(ctl.system.ids[vm])


def written(ctl: Ctl, vm: str, data: str) -> None:
    """Have the guest write to its disk."""
    ctl.system.host.control("write_disk", vm=vm, location="SCSI:0:0", block="1", data=data)


def guest(ctl: Ctl, vm: str) -> tuple[str, str, str]:
    """Return what a guest has: its power, its memory and the content of its disk."""
    there = truth(ctl, vm)
    disk = ctl.system.host.control("read_disk", vm=vm, location="SCSI:0:0")
    return there["state"], there["memory"], disk["sha256"]


@pytest.mark.slow
def test_a_revert_of_a_running_guest_is_undone_with_its_memory_and_its_disks(ctl: Ctl) -> None:
    assert ctl("snapshot", "create", "keep01", "--name", "one", "--wait").code == 0
    written(ctl, "keep01", "precious")
    before = guest(ctl, "keep01")
    plan = ctl("snapshot", "revert", "keep01", "one", "--safety-snapshot", "--power-after", "as-before", "--dry-run")
    assert "The safety snapshot stays, and counts towards the limit: 2 of 10 then." in plan.out
    assert "Power:   RUNNING -> RUNNING" in plan.out
    reverted = ctl("snapshot", "revert", "keep01", "one", "--safety-snapshot", "--power-after", "as-before", "--wait")
    assert reverted.code == 0, reverted
    assert "VM keep01 is back at snapshot one (" in reverted.out
    assert "), and RUNNING." in reverted.out
    assert "The state before is in snapshot before-revert-one (" in reverted.out
    state, memory, disk = guest(ctl, "keep01")
    assert state == "Running"
    assert memory not in ("", before[1]), "it was started from its disks"
    assert disk != before[2]
    undone = ctl("snapshot", "undo-revert", "keep01", "--require-memory", "--wait")
    assert undone.code == 0, undone
    assert guest(ctl, "keep01") == before
    assert ctl("snapshot", "undo-revert", "keep01", "--wait").code == 0
    assert guest(ctl, "keep01") == before


@pytest.mark.slow
def test_a_revert_of_a_stopped_vm_is_undone_with_its_disks(ctl: Ctl) -> None:
    assert ctl("vm", "stop", "off01", "--turn-off", "--wait").out.endswith("VM off01 is STOPPED.\n")
    assert ctl("snapshot", "create", "off01", "--name", "one", "--wait").code == 0
    written(ctl, "off01", "precious")
    before = guest(ctl, "off01")
    assert ctl("snapshot", "revert", "off01", "one", "--safety-snapshot-name", "mine", "--wait").code == 0
    assert guest(ctl, "off01")[2] != before[2]
    assert ctl("snapshot", "undo-revert", "off01", "--wait").code == 0
    assert guest(ctl, "off01") == before
    assert "*mine" in ctl("snapshot", "tree", "off01").out


def turned_off_before_it_went_on(ctl: Ctl, vm: str, *options: str) -> OperationMetadata:
    """Revert a VM to its memory; have somebody turn it off when the memory is there. Return what came of it."""
    system, vm_id = ctl.system, ctl.system.ids[vm]
    assert ctl("snapshot", "create", vm, "--name", "one", "--memory", "--wait").code == 0
    system.host.control("durations", restore=1500)
    assert ctl("snapshot", "revert", vm, "one", *options).code == 0
    until(lambda: bool(truth(ctl, vm)["job"]))
    system.executor.kill()
    until(lambda: any(e["effect"] == "checkpoint_applied" and e["vm"] == vm_id for e in system.host.decisive()))
    until(lambda: not truth(ctl, vm)["job"] and truth(ctl, vm)["state"] == "Running")
    system.host.control("admin", do="turn_off", vm=vm)
    system.host.control("durations", restore=0)
    system.executor.start()
    last = next(o for o in system.client.all_operations() if metadata_of(o).virtual_machine.endswith(vm_id))
    return metadata_of(system.client.wait(last))


@pytest.mark.slow
def test_memory_that_somebody_took_on_the_way_is_said_to_be_lost(ctl: Ctl) -> None:
    metadata = turned_off_before_it_went_on(ctl, "cold01")
    assert metadata.state == OperationMetadata.SUCCEEDED
    assert metadata.outcome_detail.endswith("the VM was off by then, and was started from its disks.")
    assert truth(ctl, "cold01")["state"] == "Running"
    (operation,) = [o for o in ctl.system.client.all_operations() if metadata_of(o) == metadata]
    response = snapshot_pb2.RevertToSnapshotResponse()
    assert ctl.system.client.wait(operation).response.Unpack(response)
    assert response.memory_lost
    assert metadata.outcome_detail in ctl("operation", "wait", operation.name).out


@pytest.mark.slow
def test_a_revert_that_requires_the_memory_starts_nothing_without_it(ctl: Ctl) -> None:
    metadata = turned_off_before_it_went_on(ctl, "need01", "--require-memory")
    assert metadata.state == OperationMetadata.FAILED
    assert truth(ctl, "need01")["state"] == "Off"
    again = ctl("snapshot", "revert", "need01", "one", "--require-memory", "--wait")
    assert again.code == 0, again
    assert truth(ctl, "need01")["state"] == "Running"


@pytest.mark.slow
def test_a_vm_is_saved_paused_and_restarted(ctl: Ctl) -> None:
    before = guest(ctl, "stop01")
    assert ctl("vm", "stop", "stop01", "--save", "--wait").out.endswith("VM stop01 is SAVED.\n")
    assert truth(ctl, "stop01")["state"] == "Saved"
    assert ctl("vm", "restart", "stop01").code == 3
    assert ctl("vm", "start", "stop01", "--wait").out.endswith("VM stop01 is RUNNING.\n")
    assert ctl("vm", "stop", "stop01", "--pause", "--wait").out.endswith("VM stop01 is PAUSED.\n")
    assert truth(ctl, "stop01")["state"] == "Paused"
    assert ctl("vm", "start", "stop01", "--wait").code == 0
    assert guest(ctl, "stop01") == before, "the guest has noticed nothing"
    restarted = ctl("vm", "restart", "stop01", "--wait")
    assert restarted.out.endswith("VM stop01 is RUNNING.\n")
    state, memory, disk = guest(ctl, "stop01")
    assert (state, disk, memory == before[1]) == ("Running", before[2], False)


@pytest.mark.slow
def test_a_guest_that_does_not_shut_down_is_turned_off_after_the_timeout_and_started_by_a_restart(ctl: Ctl) -> None:
    ctl.system.host.control("set_guest", vm="hang01", shuts_down=False)
    stopped = ctl("vm", "stop", "hang01", "--shutdown-timeout", "2", "--wait")
    assert stopped.code == 0, stopped
    assert "Its guest did not shut down (DEADLINE_EXCEEDED), so the VM was turned off." in stopped.out
    assert truth(ctl, "hang01")["state"] == "Off"
    assert ctl("vm", "start", "hang01", "--wait").code == 0
    restarted = ctl("vm", "restart", "hang01", "--shutdown-timeout", "2", "--wait")
    assert restarted.code == 0, restarted
    assert truth(ctl, "hang01")["state"] == "Running"
