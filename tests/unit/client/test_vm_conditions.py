"""A VM that needs somebody's attention shows in the list, and when it is registered."""

from __future__ import annotations

import pytest

from snapshotd.api.v1.virtual_machine_pb2 import ListVirtualMachinesResponse, VirtualMachine
from tests.unit.client.fake_service import Ctl, FakeService

ROLLED_BACK = VirtualMachine.Condition(reason="LOG_ROLLED_BACK", message="Put the newer log back.")
CRITICAL = VirtualMachine.Condition(reason="VM_CRITICAL", message="Its volume is full.")


def test_the_list_has_a_column_of_reasons_if_any_vm_has_one(ctl: Ctl, service: FakeService) -> None:
    well = VirtualMachine(display_name="web01", uid="1")
    ill = VirtualMachine(display_name="web02", uid="2", conditions=[ROLLED_BACK, CRITICAL])
    service.answers["ListVirtualMachines"] = lambda _: ListVirtualMachinesResponse(virtual_machines=[well, ill])
    heads, first, second = ctl("vm", "list").out.splitlines()
    at = heads.index("ATTENTION")
    assert second[at:].startswith("LOG_ROLLED_BACK, VM_CRITICAL  ")
    assert first[at : heads.index("SNAPSHOTS")].strip() == ""
    service.answers["ListVirtualMachines"] = lambda _: ListVirtualMachinesResponse(virtual_machines=[well])
    assert ctl("vm", "list").out.splitlines()[0].split() == [
        "VM",
        "HOST",
        "STATE",
        "SNAPSHOTS",
        "OWNER",
        "OPERATION",
        "ID",
    ]


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_vm_that_is_registered_in_such_a_state_says_so_on_stderr(ctl: Ctl, service: FakeService, output: str) -> None:
    ill = VirtualMachine(display_name="web02", conditions=[ROLLED_BACK])
    service.answers["RegisterVirtualMachine"] = lambda _: ill
    said = ctl("vm", "register", "hv01", "web02", "-o", output)
    assert said.code == 0
    text = "VM web02 is registered, and needs attention: Put the newer log back. [LOG_ROLLED_BACK]"
    assert said.err == f"snapshotctl: {text}\n"
    service.answers["RegisterVirtualMachine"] = lambda _: VirtualMachine(display_name="web01")
    assert ctl("vm", "register", "hv01", "web01").err == ""
