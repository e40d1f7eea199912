"""`vm register HOST --all` and `--match`: what is asked, what is said, and the exit code."""

import pytest

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.api.v1.operation_pb2 import Failure
from tests.unit.client.fake_service import Ctl, FakeService

ANSWER = pb.RegisterHostVirtualMachinesResponse(registered=["virtualMachines/1"], registered_before=3)
REFUSED = pb.RegisterHostVirtualMachinesResponse.Refused(
    vm_id="2", display_name="db01", failure=Failure(reason="UNREADABLE", message="It cannot be read.")
)


def test_all_vms_of_a_host_are_registered_and_counted(ctl: Ctl, service: FakeService) -> None:
    service.answers["RegisterHostVirtualMachines"] = lambda _: ANSWER
    said = ctl("vm", "register", "hv01", "--all", "--owner", "ops")
    assert (said.code, said.out) == (0, "1 registered, 3 registered before, 0 refused.\n")
    assert (service.asked[-1].host, service.asked[-1].owner, list(service.asked[-1].name_patterns)) == (
        "hosts/hv01",
        "ops",
        [],
    )


def test_refused_ones_are_named_and_the_exit_code_says_so(ctl: Ctl, service: FakeService) -> None:
    service.answers["RegisterHostVirtualMachines"] = lambda _: pb.RegisterHostVirtualMachinesResponse(refused=[REFUSED])
    said = ctl("vm", "register", "hv01", "--match", "db*", "--match", "x?", "--dry-run")
    assert said.code == 3
    assert said.out.splitlines() == [
        "0 would be registered, 0 registered before, 1 refused.",
        "db01 (2): It cannot be read. [UNREADABLE]",
    ]
    assert (list(service.asked[-1].name_patterns), service.asked[-1].validate_only) == (["db*", "x?"], True)


@pytest.mark.parametrize("arguments", [[], ["web01", "--all"], ["--all", "--match", "a"], ["web01", "--dry-run"]])
def test_what_is_registered_is_said_in_exactly_one_way(ctl: Ctl, arguments: list[str]) -> None:
    assert ctl("vm", "register", "hv01", *arguments).code == 2
