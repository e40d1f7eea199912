"""`vm export`, `vm start --host` and the export policy: what is asked for, and how exports are shown."""

from __future__ import annotations

import grpc
import pytest
from google.longrunning.operations_pb2 import Operation
from google.protobuf.message import Message

from snapshotd.api.v1.executor_pb2 import STOPPED
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan
from snapshotd.api.v1.snapshot_pb2 import Snapshot, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import (
    ExportVirtualMachineRequest,
    ExportVirtualMachineResponse,
    StartVirtualMachineRequest,
    UpdateVirtualMachineRequest,
    VirtualMachine,
)
from snapshotd.client.export_parser import POLICIES
from snapshotd.client.exports import POLICIES as KNOWN
from snapshotd.client.vm_diff import State, changes
from tests.unit.client.fake_service import Ctl, FakeService, Refuse
from tests.unit.client.test_watching import END, sends

VM = "virtualMachines/11111111-2222-3333-4444-555555555501"
NAME = "operations/11111111-2222-3333-4444-555555555501.7-0a0b0c0d"
FOLDER = "S:\\exports\\web01 7-0a0b0c0d"
ETAG = "0123456789abcdef"


@pytest.fixture
def exported(service: FakeService) -> VirtualMachine:
    """Have the service know a VM that was exported, and released."""
    vm = VirtualMachine(name=VM, display_name="web01", state=VirtualMachine.STOPPED)
    one = vm.exports.add(directory=FOLDER, size_bytes=3 << 30, host="hosts/hv01", in_use=True)
    one.create_time.FromSeconds(1_790_000_000)
    vm.released.host, vm.released.directory = "hosts/hv01", FOLDER
    vm.released.time.FromSeconds(1_790_000_010)
    vm.export_policy = VirtualMachine.ON_STOP
    node = SnapshotTree.Node(id="s", snapshot=Snapshot(display_name="one", uid="s", state=Snapshot.READY))
    tree = SnapshotTree(virtual_machine=VM, display_name="web01", state=VirtualMachine.STOPPED, nodes=[node])
    service.answers |= {"GetVirtualMachine": lambda _: vm, "GetSnapshotTree": lambda _: tree}
    return vm


@pytest.mark.parametrize(("options", "directory"), [((), ""), (("--to", "S:\\elsewhere"), "S:\\elsewhere")])
def test_an_export_is_asked_for_where_it_was_said(
    ctl: Ctl, service: FakeService, options: tuple[str, ...], directory: str
) -> None:
    service.answers["ExportVirtualMachine"] = lambda _: Operation(name=NAME)
    assert ctl("vm", "export", VM, *options).code == 0
    (asked,) = service.of(ExportVirtualMachineRequest)
    assert (asked.name, asked.directory, asked.validate_only, bool(asked.request_id)) == (VM, directory, False, True)


def test_the_folder_is_said_in_the_end(ctl: Ctl, service: FakeService) -> None:
    ended = Operation(name=NAME, done=True)
    ended.response.Pack(ExportVirtualMachineResponse(directory=FOLDER, size_bytes=3 << 30))
    service.answers |= {"ExportVirtualMachine": lambda _: Operation(name=NAME), "WaitOperation": lambda _: ended}
    said = ctl("vm", "export", VM, "--wait")
    assert said.out.splitlines() == [f"{NAME} succeeded.", f"The export is in {FOLDER} (3.0 GiB)."]


@pytest.mark.parametrize(
    ("command", "method", "kind", "verb"),
    [
        ("export", "ExportVirtualMachine", OperationMetadata.EXPORT_VIRTUAL_MACHINE, "export"),
        ("start", "StartVirtualMachine", OperationMetadata.START_VIRTUAL_MACHINE, "start"),
    ],
)
def test_each_has_a_plan(
    ctl: Ctl, service: FakeService, command: str, method: str, kind: OperationMetadata.Kind.ValueType, verb: str
) -> None:
    planned = Operation(done=True)
    planned.response.Pack(Plan(kind=kind, power_before=STOPPED, power_after=STOPPED, etag=ETAG))
    service.answers[method] = lambda request: planned if request.validate_only else Operation()
    said = ctl("vm", command, VM, "--dry-run").out.splitlines()
    assert (said[0], said[-1]) == (
        f"Would {verb} virtual machine {VM}:",
        f"To do just this: snapshotctl vm {command} {VM} --expect {ETAG}",
    )


@pytest.mark.parametrize(("typed", "sent"), [((), ""), (("--host", "hv02"), "hosts/hv02")])
def test_a_start_names_the_host(ctl: Ctl, service: FakeService, typed: tuple[str, ...], sent: str) -> None:
    service.answers["StartVirtualMachine"] = lambda _: Operation(name=NAME)
    assert ctl("vm", "start", VM, *typed, "--expect", ETAG).code == 0
    assert [(r.host, r.expected_plan) for r in service.of(StartVirtualMachineRequest)] == [(sent, ETAG)]


def test_the_export_policy_is_changed_by_itself(ctl: Ctl, service: FakeService, exported: VirtualMachine) -> None:
    service.answers["UpdateVirtualMachine"] = lambda _: exported
    for word in POLICIES:
        assert ctl("vm", "update", VM, "--export-policy", word).code == 0
    sent = service.of(UpdateVirtualMachineRequest)
    assert [r.virtual_machine.export_policy for r in sent] == [KNOWN[word] for word in POLICIES]
    assert {tuple(r.update_mask.paths) for r in sent} == {("export_policy",)}
    assert ctl("vm", "update", VM).code == 2


def test_the_words_for_policies_are_those_of_the_api() -> None:
    assert tuple(KNOWN) == POLICIES
    assert sorted(KNOWN.values()) == sorted(VirtualMachine.ExportPolicy.values())


@pytest.mark.usefixtures("exported")
def test_a_vm_is_shown_with_its_exports_and_where_it_is_kept(ctl: Ctl) -> None:
    lines = ctl("vm", "show", VM, "--utc").out.splitlines()
    assert "Export policy: after each stop, if it has snapshots" in lines
    assert f"Released:      from hv01 2026-09-21 14:13:30Z; it is kept in {FOLDER}" in lines
    assert [line.split("  ")[-1].strip() for line in lines[-2:]] == ["FOLDER", FOLDER]
    assert lines[-1].split()[:6] == ["2026-09-21", "14:13:20Z", "3.0", "GiB", "hv01", "yes"]


@pytest.mark.usefixtures("exported")
def test_the_exports_stand_beside_the_vm_in_the_tree(ctl: Ctl) -> None:
    assert ctl("snapshot", "tree", VM, "--utc").out.splitlines()[:4] == [
        "web01 (stopped)",
        f"Exported 2026-09-21 14:13:20Z to {FOLDER} (3.0 GiB)",
        f"Released from hv01 2026-09-21 14:13:30Z; it is kept in {FOLDER}",
        "NAME  STATE  KIND  AGE  SIZE  ID",
    ]


def test_the_tree_is_drawn_also_while_the_vm_cannot_be_read_beside_it(
    ctl: Ctl, service: FakeService, exported: VirtualMachine
) -> None:
    asked: list[int] = []

    def now_and_then(_: Message) -> Message:
        asked.append(len(asked))
        if len(asked) > 2:
            raise Refuse(grpc.StatusCode.UNAVAILABLE, "It stands still.", "VIEW_STOPPED")
        return exported

    service.answers["GetVirtualMachine"] = now_and_then
    trees = [SnapshotTree(virtual_machine=VM, display_name=name) for name in ("web01", "web02")]
    sends(service, "WatchSnapshotTree", [*trees, END])
    shown = ctl("snapshot", "tree", VM, "--watch").out.split("\n\n")
    assert [text.splitlines()[0] for text in shown] == ["web01 (state unspecified)", "web02 (state unspecified)"]
    assert all("Exported 2026-" in text for text in shown)


def test_a_diff_tells_exports_and_releases(exported: VirtualMachine) -> None:
    before = State(VirtualMachine(name=VM, display_name="web01"), SnapshotTree())
    found = {c.field: (c.before, c.after) for c in changes(before, State(exported, SnapshotTree()))}
    assert found[f"export {FOLDER}"] == ("", FOLDER)
    assert found["export policy"] == ("", "after each stop, if it has snapshots")
    assert found["released"][1].startswith("from hv01 ")
