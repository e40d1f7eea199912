"""Errors about VMs that were unregistered and snapshots that were deleted: they say when, and where to read on."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.message import Message

from snapshotd.api.v1.snapshot_pb2 import ListSnapshotsRequest, ListSnapshotsResponse, Snapshot, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import (
    ListVirtualMachinesRequest,
    ListVirtualMachinesResponse,
    VirtualMachine,
)
from tests.unit.client.fake_service import Ctl, FakeService, Refuse

WEB, OLD = (f"11111111-2222-3333-4444-55555555550{n}" for n in (1, 2))
NIGHTLY, EARLIER = (f"virtualMachines/{WEB}/snapshots/99999999-2222-3333-4444-55555555550{n}" for n in (1, 2))
SAID = (
    f"it was unregistered 2026-09-21 14:13:20Z. See `snapshotctl audit list --vm {OLD}` for what became of it, or "
    f"`snapshotctl vm show {OLD} --at 41` for what it was."
)


@pytest.fixture(autouse=True)
def record(service: FakeService) -> None:
    """Have the service know a VM, one that was unregistered, and two snapshots that were deleted."""
    web = VirtualMachine(name=f"virtualMachines/{WEB}", uid=WEB, display_name="web01")
    old = VirtualMachine(name=f"virtualMachines/{OLD}", uid=OLD, display_name="old01", version=42)
    old.unregister_time.FromSeconds(1_790_000_000)
    deleted = [Snapshot(name=n, display_name="nightly", state=Snapshot.REMOVED) for n in (NIGHTLY, EARLIER)]
    for time, snapshot in zip((1_790_000_000, 1_780_000_000), deleted, strict=True):
        snapshot.update_time.FromSeconds(time)

    def listed(request: ListVirtualMachinesRequest) -> Message:
        known = [web, old] if request.show_unregistered else [web]
        return ListVirtualMachinesResponse(
            virtual_machines=[vm for vm in known if not request.filter or f'"{vm.display_name}"' in request.filter]
        )

    def snapshots(request: ListSnapshotsRequest) -> Message:
        return ListSnapshotsResponse(snapshots=deleted if request.show_deleted else [])

    def vm(request: Message) -> Message:
        if OLD in str(request):
            raise Refuse(grpc.StatusCode.NOT_FOUND, "It is not on record.", "VIRTUAL_MACHINE_NOT_FOUND", {"name": OLD})
        return web

    service.answers |= {
        "GetVirtualMachine": vm,
        "StopVirtualMachine": vm,
        "ListVirtualMachines": listed,
        "ListSnapshots": snapshots,
        "GetSnapshotTree": lambda _: SnapshotTree(),
    }


@pytest.mark.parametrize("command", [("vm", "show"), ("vm", "stop"), ("snapshot", "list")])
@pytest.mark.parametrize("name", ["old01", "OLD01"])
def test_a_vm_that_was_unregistered_is_told_with_where_to_read_on(
    ctl: Ctl, command: tuple[str, ...], name: str
) -> None:
    said = ctl(*command, name, "--utc")
    assert said.code == 4
    assert said.err == f"snapshotctl: Cannot find VM '{name}': {SAID}\n"


@pytest.mark.parametrize("command", ["show", "stop"])
def test_so_is_one_that_is_named_by_its_id(ctl: Ctl, command: str) -> None:
    said = ctl("vm", command, OLD, "--utc")
    assert (said.code, said.err) == (
        4,
        f"snapshotctl: It is not on record. [VIRTUAL_MACHINE_NOT_FOUND]\nI{SAID[1:]}\n",
    )


def test_of_one_that_never_was_nothing_more_is_said(ctl: Ctl) -> None:
    assert "it is not registered. See `snapshotctl vm list`.\n" in ctl("vm", "show", "nobody").err


def test_the_error_is_told_also_if_nothing_can_be_found_out(ctl: Ctl, service: FakeService) -> None:
    def broken(_: Message) -> Message:
        raise Refuse(grpc.StatusCode.UNAVAILABLE, "It stands still.", "VIEW_STOPPED")

    service.answers["ListVirtualMachines"] = broken
    # Its id may be a name, so the list is asked first.
    assert "It stands still. [VIEW_STOPPED]" in ctl("vm", "show", OLD).err


def test_a_snapshot_that_was_deleted_is_told_with_where_to_read_on(ctl: Ctl) -> None:
    said = ctl("snapshot", "revert", "web01", "nightly", "--utc")
    assert said.code == 4
    assert said.err == (
        f"snapshotctl: Cannot find snapshot 'nightly': it was deleted 2026-09-21 14:13:20Z. See `snapshotctl snapshot "
        f"list {WEB} --deleted`, or `snapshotctl audit list --vm {WEB} --snapshot {NIGHTLY.rpartition('/')[2]}` for "
        "what became of it.\n"
    )
    assert "none of that name" in ctl("snapshot", "revert", "web01", "weekly").err
