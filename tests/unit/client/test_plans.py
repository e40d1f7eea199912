"""The plan of a command: it names what is meant, ends with the command that does just this, and that sends its etag."""

from __future__ import annotations

import json
import shlex

import grpc
import pytest
from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1.executor_pb2 import RUNNING, STOPPED
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan, Step
from snapshotd.api.v1.snapshot_pb2 import DeleteSnapshotRequest, ListSnapshotsResponse, Snapshot
from snapshotd.client.__main__ import _parser
from snapshotd.client.parser import Parser
from tests.unit.client.fake_service import Ctl, FakeService, Refuse
from tests.unit.client.test_help import commands_below

VM = "virtualMachines/11111111-2222-3333-4444-555555555501"
ONE, TWO = (f"{VM}/snapshots/aaaaaaaa-0000-4000-8000-00000000000{n}" for n in (1, 2))
NAME = "operations/11111111-2222-3333-4444-555555555501.7-0a0b0c0d"
ETAG = "0123456789abcdef"
DELETE = ("snapshot", "delete", VM)
WITHOUT = ("take-over", "register")
"""The commands whose dry run is no Plan."""


def planned(plan: Plan) -> Operation:
    """Return the answer to a dry run."""
    operation = Operation(done=True)
    operation.response.Pack(plan)
    return operation


@pytest.fixture(autouse=True)
def one_below_two(service: FakeService) -> None:
    """Have the service know two snapshots, and plan and accept deletes."""
    snapshots = [
        Snapshot(name=ONE, uid=ONE[-36:], display_name="one", state=Snapshot.READY),
        Snapshot(name=TWO, uid=TWO[-36:], display_name="two", state=Snapshot.READY, parent=ONE, current=True),
    ]
    plan = Plan(kind=OperationMetadata.DELETE_SNAPSHOT, virtual_machine=VM, snapshot=ONE, etag=ETAG)
    service.answers |= {
        "ListSnapshots": lambda _: ListSnapshotsResponse(snapshots=snapshots),
        "DeleteSnapshot": lambda r: planned(plan) if r.validate_only else Operation(name=NAME),
    }


def commands_with_a_plan() -> list[Parser]:
    """Return the commands that have a dry run of which the service makes the plan."""
    found = []
    for command in commands_below(_parser({})):
        options = {option for action in command._actions for option in action.option_strings}
        if "--dry-run" in options and command.prog.split()[-1] not in WITHOUT:
            assert "--expect" in options, command.prog
            found.append(command)
    return found


def test_each_command_with_a_plan_takes_its_etag() -> None:
    assert len(commands_with_a_plan()) > 7


def test_a_plan_ends_with_the_command_that_does_just_this(ctl: Ctl, service: FakeService) -> None:
    said = ctl(*DELETE, "one", "--dry-run", "--as", "ann of it")
    *_, nothing, last = said.out.splitlines()
    assert nothing == "Nothing was done."
    command = last.removeprefix("To do just this: ")
    assert command == f"snapshotctl snapshot delete {VM} one --as 'ann of it' --expect {ETAG}"
    assert ctl(*shlex.split(command)[1:]).code == 0
    assert [(r.validate_only, r.expected_plan) for r in service.of(DeleteSnapshotRequest)] == [
        (True, ""),
        (False, ETAG),
    ]


def test_an_option_that_was_cut_short_is_left_out_of_it_too(ctl: Ctl) -> None:
    last = ctl("-o", "table", *DELETE, "one", "--dry").out.splitlines()[-1]
    assert last == f"To do just this: snapshotctl -o table snapshot delete {VM} one --expect {ETAG}"


def test_a_dry_run_of_the_plan_that_is_expected_says_that_it_is_that(ctl: Ctl, service: FakeService) -> None:
    said = ctl(*DELETE, "one", "--dry-run", "--expect", ETAG.upper())
    assert said.out.endswith(f"Nothing was done.\nThis is the plan {ETAG}, as expected.\n")
    assert service.of(DeleteSnapshotRequest)[0].expected_plan == ETAG


def test_what_is_done_already_has_no_etag_and_no_command(ctl: Ctl, service: FakeService) -> None:
    service.answers["DeleteSnapshot"] = lambda _: planned(Plan(kind=OperationMetadata.DELETE_SNAPSHOT, snapshot=ONE))
    assert ctl(*DELETE, "one", "--dry-run").out.endswith("Nothing was done.\n")


def test_another_plan_by_now_is_refused_and_not_busy(ctl: Ctl, service: FakeService) -> None:
    def changed(_: DeleteSnapshotRequest) -> Operation:
        raise Refuse(grpc.StatusCode.ABORTED, "Cannot carry out the plan.", "PLAN_CHANGED")

    service.answers["DeleteSnapshot"] = changed
    said = ctl(*DELETE, "one", "--expect", ETAG)
    assert (said.code, said.err) == (3, "snapshotctl: Cannot carry out the plan. [PLAN_CHANGED]\n")


@pytest.mark.parametrize("text", ["", "0123", "0123456789abcdeg", f"{ETAG}0"])
def test_what_is_no_etag_is_refused(ctl: Ctl, service: FakeService, text: str) -> None:
    said = ctl(*DELETE, "one", "--expect", text)
    assert (said.code, "must be the etag of a plan" in said.err, service.asked) == (2, True, [])


@pytest.mark.parametrize("text", ["one", "parent", "aaaaaaaa-0000-4000-8000-000000000001", ONE])
@pytest.mark.parametrize(
    ("options", "what"),
    [
        ((), "delete snapshot one"),
        (("--with-descendants",), "delete snapshot one and all below it"),
        (("--only-descendants",), "delete all below snapshot one"),
    ],
)
def test_a_plan_names_the_snapshot_and_not_the_word_for_it(
    ctl: Ctl, text: str, options: tuple[str, ...], what: str
) -> None:
    assert ctl(*DELETE, text, *options, "--dry-run").out.startswith(f"Would {what} on {VM}:\n")


def test_programs_get_the_etag_in_the_plan(ctl: Ctl) -> None:
    assert json.loads(ctl(*DELETE, "one", "--dry-run", "-o", "json").out)["etag"] == ETAG


def test_a_plan_about_the_whole_vm_names_the_snapshots_that_go(ctl: Ctl, service: FakeService) -> None:
    plan = Plan(
        kind=OperationMetadata.STOP_VIRTUAL_MACHINE,
        virtual_machine=VM,
        power_before=RUNNING,
        power_after=STOPPED,
        snapshots_discarded=[TWO],
        etag=ETAG,
    )
    service.answers["StopVirtualMachine"] = lambda _: planned(plan)
    said = ctl("vm", "stop", VM, "--dry-run").out.splitlines()
    assert said == [
        f"Would stop virtual machine {VM}:",
        "  nothing is asked of the host",
        "Power:   RUNNING -> STOPPED",
        "Gone:    two",
        "Nothing was done.",
        f"To do just this: snapshotctl vm stop {VM} --expect {ETAG}",
    ]


def test_what_the_steps_do_begins_in_one_column(ctl: Ctl, service: FakeService) -> None:
    steps = [Step(number=n, name=name, description="Do it.") for n, name in ((1, "copy"), (2, "wait for the copy"))]
    service.answers["DeleteSnapshot"] = lambda _: planned(Plan(kind=OperationMetadata.DELETE_SNAPSHOT, steps=steps))
    lines = [line for line in ctl(*DELETE, "one", "--dry-run").out.splitlines() if "Do it." in line]
    assert [line.index("Do it.") for line in lines] == [len("  2. wait for the copy ")] * 2
