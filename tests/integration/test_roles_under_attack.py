"""Ways around the gate: calls that go on, names in other fields, metadata that is there twice, errors that tell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.longrunning import operations_pb2
from google.longrunning.operations_pb2_grpc import OperationsStub
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.access.local_tokens import TokenFile
from snapshotd.api.v1 import audit_pb2, operation_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.audit_pb2_grpc import AuditServiceStub
from snapshotd.api.v1.operation_pb2_grpc import OperationServiceStub
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceStub
from snapshotd.api.v1.virtual_machine_pb2_grpc import VirtualMachineServiceStub
from tests.integration.fuzzed_access import ONE, Person, World, snapshot_ids, world
from tests.integration.test_fuzzed_calls import reason

MINE, FOREIGN = f"virtualMachines/{ONE}", "virtualMachines/33333333-1111-4111-8111-333333333333"
ELSEWHERE = "hosts/hv02"
READY = snapshot_ids()[0]


@pytest_asyncio.fixture
async def one(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as built:
        yield built


def by(one: World, role: str, scope: str) -> dict[str, Any]:
    """Return the arguments of a call of somebody."""
    (person,) = (p for p in one.people if (p.role, p.scope) == (role, scope))
    return {"metadata": _signed(person), "timeout": 20}


def _signed(person: Person) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {person.token}"),)


async def refused(call: Any) -> str:  # noqa: ANN401  (a call, or the reading of a stream, of any type)
    """Return the reason why a call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return reason(error.value)


async def give_away(one: World) -> None:
    """Give a VM of an account to the other one."""
    vm = vm_pb2.VirtualMachine(name=MINE, owner="umbra")
    update: Any = VirtualMachineServiceStub(one.served.channel).UpdateVirtualMachine
    await update(vm_pb2.UpdateVirtualMachineRequest(virtual_machine=vm), **by(one, "admin", "all"))


async def test_watches_and_waits_end_when_their_vm_leaves_what_the_caller_may_see(one: World) -> None:
    channel = one.served.channel
    stop: Any = VirtualMachineServiceStub(channel).StopVirtualMachine
    request = vm_pb2.StopVirtualMachineRequest(name=MINE, mode=vm_pb2.StopVirtualMachineRequest.TURN_OFF)
    operation = await stop(request, **by(one, "admin", "all"))
    position = one.served.log.head_position()
    events: Any = AuditServiceStub(channel).WatchEvents(
        audit_pb2.WatchEventsRequest(virtual_machine=MINE, after_position=position), **by(one, "auditor", "account")
    )
    assert not (await events.read()).type
    trees: Any = SnapshotServiceStub(channel).WatchSnapshotTree(
        snapshot_pb2.WatchSnapshotTreeRequest(name=MINE), **by(one, "viewer", "account")
    )
    await trees.read()
    wait: Any = OperationsStub(channel).WaitOperation
    waiting = asyncio.create_task(
        refused(wait(operations_pb2.WaitOperationRequest(name=operation.name), **by(one, "viewer", "account")))
    )
    await give_away(one)
    assert await refused(events.read()) == "VIRTUAL_MACHINE_NOT_FOUND"
    hold: Any = SnapshotServiceStub(channel).HoldSnapshot
    await hold(snapshot_pb2.HoldSnapshotRequest(name=f"{MINE}/snapshots/{READY}"), **by(one, "admin", "all"))
    assert await refused(trees.read()) == "VIRTUAL_MACHINE_NOT_FOUND"
    cancel: Any = OperationsStub(channel).CancelOperation
    await cancel(operations_pb2.CancelOperationRequest(name=operation.name), **by(one, "admin", "all"))
    assert await waiting == "OPERATION_NOT_FOUND"


async def test_a_watch_of_a_list_ends_when_its_callers_roles_change_which_is_logged_once(
    one: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "snapshotd")
    watch: Any = OperationServiceStub(one.served.channel).WatchOperations
    everywhere = watch(operation_pb2.WatchOperationsRequest(), **by(one, "viewer", "all"))
    narrow = watch(operation_pb2.WatchOperationsRequest(), **by(one, "viewer", "account"))
    for stream in (everywhere, narrow):
        while not (await stream.read()).complete:
            pass
    roles = tmp_path / "roles.toml"
    roles.write_text(roles.read_text().replace('["token:viewer-account"]', '["token:somebody-else"]'))
    stop: Any = VirtualMachineServiceStub(one.served.channel).StopVirtualMachine
    request = vm_pb2.StopVirtualMachineRequest(name=MINE, mode=vm_pb2.StopVirtualMachineRequest.TURN_OFF)
    operation = await stop(request, **by(one, "admin", "all"))
    assert await refused(narrow.read()) == "NOT_ALLOWED"
    assert len([record for record in caplog.records if "call refused" in record.getMessage()]) == 1
    assert (await everywhere.read()).operation.name == operation.name


async def test_a_stream_ends_when_its_callers_token_is_revoked(one: World, tmp_path: Path) -> None:
    watch: Any = AuditServiceStub(one.served.channel).WatchEvents
    events = watch(audit_pb2.WatchEventsRequest(virtual_machine=MINE), **by(one, "auditor", "vm"))
    await events.read()
    TokenFile(tmp_path / "tokens.json").revoke("auditor-vm", datetime.now(UTC))
    await asyncio.sleep(1)  # how often that is found out
    await give_away(one)

    async def to_the_end() -> None:
        while await events.read() is not grpc.aio.EOF:
            pass

    assert await refused(to_the_end()) == "TOKEN_REVOKED"


@pytest.mark.parametrize(
    "fields",
    [
        {"snapshot": f"{FOREIGN}/snapshots/{ONE}", "virtual_machine": MINE},
        {"operation": f"operations/{FOREIGN[16:]}.1-00000002", "virtual_machine": MINE},
        {"operation": f"operations/{FOREIGN[16:]}.1-00000002", "snapshot": f"{MINE.upper()}/SNAPSHOTS/{ONE}"},
    ],
)
async def test_a_second_vm_in_a_request_for_events_shows_nothing_of_it(one: World, fields: dict[str, str]) -> None:
    events: Any = AuditServiceStub(one.served.channel).ListEvents
    found = await events(audit_pb2.ListEventsRequest(**fields), **by(one, "auditor", "vm"))  # type: ignore[arg-type]
    assert not found.events


async def test_what_reaches_beyond_a_vm_takes_an_admin_of_the_host(one: World) -> None:
    vms: Any = VirtualMachineServiceStub(one.served.channel)
    mask = FieldMask(paths=["owner"])
    path = vm_pb2.AttachVolumeRequest(name=MINE, path=r"D:\others.vhdx", location="SCSI:0:9")
    export = vm_pb2.ExportVirtualMachineRequest(name=MINE, directory=r"\\elsewhere\share", validate_only=True)
    there = vm_pb2.StartVirtualMachineRequest(name=MINE, host=ELSEWHERE, validate_only=True)
    calls = [
        (vms.AttachVolume, path),
        (vms.ExportVirtualMachine, export),
        (vms.StartVirtualMachine, there),
    ]
    for method, request in calls:
        for scope in ("account", "vm"):
            assert await refused(method(request, **by(one, "admin", scope))) == "NOT_ALLOWED"
        assert await refused(method(request, **by(one, "operator", "all"))) == "NOT_ALLOWED"
    assert await refused(vms.StartVirtualMachine(there, **by(one, "admin", "host"))) == "NOT_ALLOWED"
    assert await refused(vms.AttachVolume(path, **by(one, "admin", "host"))) != "NOT_ALLOWED"
    owner = vm_pb2.UpdateVirtualMachineRequest(virtual_machine=vm_pb2.VirtualMachine(name=MINE), update_mask=mask)
    assert await refused(vms.UpdateVirtualMachine(owner, **by(one, "operator", "account"))) == "NOT_ALLOWED"
    owner.update_mask.paths[:] = ["virtual_machine.owner"]
    assert await refused(vms.UpdateVirtualMachine(owner, **by(one, "operator", "account"))) == "INVALID_ARGUMENT"


async def test_metadata_that_tells_who_calls_counts_only_once_and_only_as_it_should_be(one: World) -> None:
    get: Any = VirtualMachineServiceStub(one.served.channel).GetVirtualMachine
    request = vm_pb2.GetVirtualMachineRequest(name=MINE)
    viewer, nobody = (by(one, role, "all")["metadata"] for role in ("viewer", "none"))
    token = viewer[0][1].removeprefix("Bearer ")

    async def outcome(*metadata: tuple[str, str | bytes]) -> str:
        try:
            await get(request, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return "told" if token in str(error.details()) else reason(error)
        return ""

    assert await outcome(("authorization", f"bEARER {token}")) == ""
    assert await outcome(*viewer, ("authorization-bin", b"Bearer x"), ("x-snapshotd-actor", "snapshotd")) == ""
    assert await outcome(*nobody, *viewer) == "INVALID_ARGUMENT"
    assert await outcome(*viewer, *nobody) == "INVALID_ARGUMENT"
    for other in (f"Bearer{token}", f"Basic {token}", token, ""):
        assert await outcome(("authorization", other)) == "TOKEN_MALFORMED", other
    assert await outcome(("authorization", f"Bearer {token.upper()}")) == "TOKEN_MALFORMED"
    assert await outcome(("authorization-bin", f"Bearer {token}".encode())) == "SIGN_IN_MISSING"
    assert await outcome(("x-snapshotd-executor-secret", ""), *viewer) == "SIGN_IN_MISSING"
    assert await outcome(*viewer, ("x-snapshotd-on-behalf-of", "bob")) == "NOT_ALLOWED"


async def test_a_filter_tells_nothing_of_what_it_is_compared_with_and_hidden(one: World) -> None:
    snapshots: Any = SnapshotServiceStub(one.served.channel).ListSnapshots
    mine = snapshot_pb2.ListSnapshotsRequest(parent="virtualMachines/-", show_deleted=True)
    expiring = Timestamp(seconds=4_000_000_000)
    update: Any = SnapshotServiceStub(one.served.channel).UpdateSnapshot
    hidden = snapshot_pb2.Snapshot(name=f"{FOREIGN}/snapshots/{READY}", expire_time=expiring)
    await update(snapshot_pb2.UpdateSnapshotRequest(snapshot=hidden), **by(one, "admin", "all"))
    mine.filter = "expire_time > x"
    assert await refused(snapshots(mine, **by(one, "viewer", "all"))) == "FILTER_INVALID"
    assert not (await snapshots(mine, **by(one, "viewer", "vm"))).snapshots


async def test_a_page_token_of_another_caller_shows_no_more_than_an_own_one(one: World) -> None:
    vms: Any = VirtualMachineServiceStub(one.served.channel).ListVirtualMachines
    first = await vms(vm_pb2.ListVirtualMachinesRequest(page_size=1), **by(one, "viewer", "all"))
    rest = vm_pb2.ListVirtualMachinesRequest(page_size=9, page_token=first.next_page_token)
    assert len((await vms(rest, **by(one, "viewer", "all"))).virtual_machines) == 3
    assert {vm.owner for vm in (await vms(rest, **by(one, "viewer", "account"))).virtual_machines} == {"acme"}
