"""`vm destroy`: the plan, the confirmation, what is asked for, and what is said of a VM that is gone."""

from __future__ import annotations

import pytest
from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1.executor_pb2 import ABSENT, RUNNING
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan
from snapshotd.api.v1.virtual_machine_pb2 import (
    DestroyVirtualMachineRequest,
    ListVirtualMachinesRequest,
    ListVirtualMachinesResponse,
    VirtualMachine,
)
from tests.unit.client.fake_service import Ctl, FakeService, typed

VM = "virtualMachines/11111111-2222-3333-4444-555555555501"
NAME = "operations/11111111-2222-3333-4444-555555555501.7-0a0b0c0d"
ETAG = "0123456789abcdef"


@pytest.fixture(autouse=True)
def answers(service: FakeService) -> None:
    """Have the service plan it, and accept it."""
    planned = Operation(done=True)
    kind = OperationMetadata.DESTROY_VIRTUAL_MACHINE
    planned.response.Pack(
        Plan(kind=kind, power_before=RUNNING, power_after=ABSENT, etag=ETAG, warnings=["It is lost."])
    )
    service.answers["DestroyVirtualMachine"] = lambda r: planned if r.validate_only else Operation(name=NAME)


def done(service: FakeService) -> list[DestroyVirtualMachineRequest]:
    """Return the requests that were to be carried out."""
    return [asked for asked in service.of(DestroyVirtualMachineRequest) if not asked.validate_only]


def test_the_plan_is_shown_and_what_was_agreed_to_is_done(
    ctl: Ctl, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, f"{VM}\n")
    said = ctl("vm", "destroy", VM, "--delete-disks")
    assert said.code == 0
    assert said.err.splitlines()[0] == f"Would destroy virtual machine {VM}:"
    assert "Note:    It is lost." in said.err
    assert said.err.endswith(f"To destroy it, type its name ({VM}): ")
    (asked,) = done(service)
    assert (asked.name, asked.delete_disks, asked.expected_plan) == (VM, True, ETAG)
    assert asked.request_id


@pytest.mark.parametrize("text", ["\n", "yes\n", ""])
def test_nothing_is_done_unless_the_name_was_typed(
    ctl: Ctl, service: FakeService, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    typed(monkeypatch, text)
    said = ctl("vm", "destroy", VM)
    assert (said.code, done(service)) == (3, [])
    assert f"Nothing was destroyed: {text.strip()!r} is not 'virtualMachines/" in said.err


def test_a_program_has_to_say_yes_or_name_the_plan(ctl: Ctl, service: FakeService) -> None:
    said = ctl("vm", "destroy", VM)
    assert (said.code, done(service)) == (3, [])
    assert f"Cannot destroy {VM} without a confirmation: standard input is no terminal." in said.err
    assert ctl("vm", "destroy", VM, "--yes").code == 0
    assert ctl("vm", "destroy", VM, "--expect", ETAG).code == 0
    assert [asked.expected_plan for asked in done(service)] == ["", ETAG]


def test_checkpoints_of_others_are_named_each(ctl: Ctl, service: FakeService) -> None:
    assert ctl("vm", "destroy", VM, "--yes", "--lose-checkpoint", "by hand", "--lose-checkpoint", "c2").code == 0
    (asked,) = done(service)
    assert (list(asked.foreign_checkpoints), asked.delete_disks) == (["by hand", "c2"], False)


def test_a_dry_run_asks_nobody_and_does_nothing(ctl: Ctl, service: FakeService) -> None:
    said = ctl("vm", "destroy", VM, "--dry-run")
    assert said.out.splitlines()[-1] == f"To do just this: snapshotctl vm destroy {VM} --expect {ETAG}"
    assert (said.code, said.err, done(service)) == (0, "", [])


def test_in_the_end_it_is_said_what_stays(ctl: Ctl, service: FakeService) -> None:
    ended = Operation(name=NAME, done=True)
    ended.response.Pack(VirtualMachine(name=VM, display_name="web01", state=VirtualMachine.DESTROYED, power=ABSENT))
    kind = OperationMetadata.DESTROY_VIRTUAL_MACHINE
    ended.metadata.Pack(OperationMetadata(kind=kind, outcome_detail="Its disks were left as they are."))
    service.answers["WaitOperation"] = lambda _: ended
    assert ctl("vm", "destroy", VM, "--yes", "--wait").out.splitlines() == [
        f"{NAME} succeeded.",
        "VM web01 is destroyed. Its history, and the copies of its disks, stay.",
        "Its disks were left as they are.",
    ]


def test_a_vm_that_was_destroyed_is_told_by_name(ctl: Ctl, service: FakeService) -> None:
    gone = VirtualMachine(name=VM, uid=VM[16:], display_name="old01", state=VirtualMachine.DESTROYED, version=42)
    gone.unregister_time.FromSeconds(1_790_000_000)

    def listed(request: ListVirtualMachinesRequest) -> ListVirtualMachinesResponse:
        return ListVirtualMachinesResponse(virtual_machines=[gone] if request.show_unregistered else [])

    service.answers["ListVirtualMachines"] = listed
    said = ctl("vm", "stop", "old01", "--utc")
    assert (said.code, "it was destroyed 2026-09-21 14:13:20Z." in said.err) == (4, True), said.err
