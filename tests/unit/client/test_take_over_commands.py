"""`host take-over` and `vm take-over`: the plan, the confirmation, what is said, and the exit code."""

import io

import pytest

from snapshotd.api.v1 import host_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.operation_pb2 import Failure
from tests.unit.client.fake_service import Ctl, FakeService, typed

TAKEN = vm_pb2.TakenOver(
    virtual_machine="virtualMachines/1",
    display_name="web 01",
    journal_token=77,
    operations_ended=["operations/1.4-0a0b0c0d"],
    marked_checkpoints=[vm_pb2.TakenOver.ForeignMarked(checkpoint_id="c1", display_name="nightly #2")],
)
FAILED = vm_pb2.TakenOver(display_name="db01", failure=Failure(reason="UNREADABLE", message="It cannot be read."))
WHOLE = host_pb2.TakeOverHostResponse(
    former_installation_id="their-id", changes_hands=True, virtual_machines=[TAKEN], unregistered_count=2
)


VM = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(autouse=True)
def answers(service: FakeService) -> None:
    """Have the service answer both calls, whether they plan or do."""
    service.answers["TakeOverHost"] = lambda _: WHOLE
    service.answers["TakeOverVirtualMachine"] = lambda _: vm_pb2.TakeOverVirtualMachineResponse(taken_over=TAKEN)


def done(service: FakeService) -> list[bool]:
    """Return of each take-over that was asked for whether it was to be carried out."""
    return [not asked.validate_only for asked in service.asked if hasattr(asked, "validate_only")]


def test_a_host_is_taken_over_when_its_name_was_typed(
    ctl: Ctl, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, "hv01\n")
    said = ctl("host", "take-over", "hv01", "--reason", "hv02 is gone")
    assert said.code == 0
    assert said.err.splitlines() == [
        "Host hv01 belongs to installation their-id. Would take it over: only this installation could work on it.",
        "VM web 01 would be taken over, from token 77 of its journal.",
        "  Would end with an outcome that nobody knows: 1.4-0a0b0c0d",
        "  Not on record, and marked as ours: 'nightly #2'. To adopt it: snapshotctl snapshot adopt 'web 01' c1",
        "2 VMs on it not registered. To register them: snapshotctl vm register hv01 --all",
        "Nothing was done.",
        "To take it over, type its name (hv01): ",
    ]
    assert said.out.splitlines()[:3] == [
        "Host hv01 is taken over from installation their-id. Only this installation can work on it from now on.",
        "VM web 01 is taken over, from token 77 of its journal.",
        "  Ended with an outcome that nobody knows: 1.4-0a0b0c0d",
    ]
    assert done(service) == [False, True]
    assert (service.asked[-1].reason, bool(service.asked[-1].request_id)) == ("hv02 is gone", True)


@pytest.mark.parametrize("command", [("host", "take-over", "hv01"), ("vm", "take-over", VM)])
def test_nothing_is_done_for_another_name(
    command: tuple[str, ...], ctl: Ctl, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, "yes\n")
    said = ctl(*command)
    assert (said.code, said.out, done(service)) == (3, "", [False])
    assert "Nothing was taken over" in said.err


@pytest.mark.parametrize("command", [("host", "take-over", "hv01"), ("vm", "take-over", VM)])
def test_where_nobody_can_be_asked_it_takes_an_option(
    command: tuple[str, ...], ctl: Ctl, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hv01\n"))
    said = ctl(*command)
    assert (said.code, done(service)) == (3, [False])
    assert "add --yes" in said.err
    assert (ctl(*command, "--yes").code, done(service)) == (0, [False, False, True])


def test_a_dry_run_prints_the_plan_and_asks_nothing(ctl: Ctl, service: FakeService) -> None:
    said = ctl("host", "take-over", "hv01", "--dry-run")
    assert (said.code, said.err, done(service)) == (0, "", [False])
    assert said.out.endswith("Nothing was done.\n")


def test_a_vm_that_is_left_is_told_and_the_exit_code_says_so(ctl: Ctl, service: FakeService) -> None:
    service.answers["TakeOverHost"] = lambda _: host_pb2.TakeOverHostResponse(
        changes_hands=True, virtual_machines=[TAKEN, FAILED], virtual_machines_omitted=3
    )
    said = ctl("host", "take-over", "hv01", "--yes")
    assert said.code == 3
    assert said.out.splitlines()[0].startswith("Host hv01 is taken over from nobody that is known.")
    assert "VM db01: It cannot be read. [UNREADABLE]" in said.out
    assert "3 more VMs left out here." in said.out


def test_what_needs_no_take_over_is_not_asked_for(ctl: Ctl, service: FakeService) -> None:
    service.answers["TakeOverHost"] = lambda _: host_pb2.TakeOverHostResponse()
    nothing = vm_pb2.TakenOver(display_name="web01", nothing_to_do=True)
    service.answers["TakeOverVirtualMachine"] = lambda _: vm_pb2.TakeOverVirtualMachineResponse(taken_over=nothing)
    for command in (("host", "take-over", "hv01"), ("vm", "take-over", VM)):
        said = ctl(*command)
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith("Nothing to take over: ")
    assert done(service) == [False, False]


def test_a_request_that_is_repeated_is_made_though_nothing_is_left(ctl: Ctl, service: FakeService) -> None:
    service.answers["TakeOverHost"] = lambda asked: host_pb2.TakeOverHostResponse() if asked.validate_only else WHOLE
    request_id = "0a0b0c0d-1111-4111-8111-111111111111"
    said = ctl("host", "take-over", "hv01", "--request-id", request_id)
    assert (said.code, said.err, service.asked[-1].request_id) == (0, "", request_id)
    assert not service.asked[0].request_id
    assert "is taken over from installation their-id" in said.out
