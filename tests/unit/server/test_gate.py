"""The gate: who is let in, what is told to whom, and what is recorded of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from google.longrunning.operations_pb2 import GetOperationRequest, ListOperationsRequest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from snapshotd.access.bindings import Binding, Granted
from snapshotd.access.errors import TokenRevoked
from snapshotd.access.roles import Role
from snapshotd.api.v1 import audit_pb2, host_pb2, snapshot_pb2, virtual_machine_pb2
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine
from snapshotd.domain import virtual_machine as domain
from snapshotd.domain.errors import InvalidArgument, NotFound, SnapshotdError
from snapshotd.domain.ids import HostId, VmId
from snapshotd.server.access_errors import NotAllowed, SignInMissing, TooManyCalls
from snapshotd.server.callers import Caller
from snapshotd.server.crowd import CallLimits, Crowd
from snapshotd.server.gate import Gate

MINE = VmId("6a3d52ae-7a24-4c5e-8f0b-4d6a1f2b3c4d")
FOREIGN = VmId("7b3d52ae-7a24-4c5e-8f0b-4d6a1f2b3c4d")
UNKNOWN = VmId("8c3d52ae-7a24-4c5e-8f0b-4d6a1f2b3c4d")
OWNERS = {MINE: "acme", FOREIGN: "other"}
VMS = "/snapshotd.api.v1.VirtualMachineService/"
SNAPSHOTS = "/snapshotd.api.v1.SnapshotService/"
HOSTS = "/snapshotd.api.v1.HostService/"
ATTACH = "/snapshotd.api.v1.ExecutorService/Attach"
EVENTS = "/snapshotd.api.v1.AuditService/ListEvents"
CALL: Any = type("Call", (), {"peer": lambda _: "ipv4:10.0.0.9:1"})()


@dataclass
class Recorded:
    """What was refused."""

    refused_: list[tuple[str, str]] = field(default_factory=list)

    def refused(self, subject: str, method: str, error: SnapshotdError, peer: str) -> None:
        """Take note."""
        assert peer == "ipv4:10.0.0.9:1"
        self.refused_.append((subject, error.reason))


async def load(vm_id: VmId) -> domain.VirtualMachine:
    """Return a VM; one that is not on record has version 0."""
    known = vm_id in OWNERS
    return domain.VirtualMachine(vm_id=vm_id, version=int(known), owner=OWNERS.get(vm_id, ""), host_id=HostId("hv01"))


def granted(role: Role, **on: str) -> Granted:
    """Return one binding."""
    return Granted((Binding(role=role, subjects=frozenset(), groups=frozenset(), **on),))


@dataclass
class Passing:
    """A gate, with what it has recorded."""

    grants: Granted
    behalf: str = ""
    known: bool = True
    crowd: Crowd = field(default_factory=lambda: Crowd(CallLimits()))
    recorded: Recorded = field(default_factory=Recorded)

    async def call(self, method: str, request: Message) -> str:
        """Make a call; return the reason why it is refused, or nothing."""
        gate = self.gate()
        try:
            with await gate.admit(method, CALL) as caller:
                await gate.check(caller, request, CALL.peer())
        except SnapshotdError as error:
            return error.reason
        return ""

    async def goes_on(self, caller: Caller) -> bool:
        """Return whether a stream goes on."""
        try:
            await self.gate().still(caller, None, CALL.peer())
        except NotAllowed:
            return False
        return True

    def gate(self) -> Gate:
        """Return the gate."""

        async def sign_in(_: object, method: str) -> Caller | None:
            own = Caller(subject="token:a", granted=self.grants, method=method, on_behalf_of=self.behalf)
            return own if self.known else None

        return Gate(sign_in, load, self.crowd, self.recorded)


def get(vm_id: str) -> virtual_machine_pb2.GetVirtualMachineRequest:
    """Return a request for a VM."""
    return virtual_machine_pb2.GetVirtualMachineRequest(name=f"virtualMachines/{vm_id}")


def delete(vm_id: str) -> snapshot_pb2.DeleteSnapshotRequest:
    """Return a request to delete a snapshot of a VM."""
    return snapshot_pb2.DeleteSnapshotRequest(name=f"virtualMachines/{vm_id}/snapshots/{MINE}")


NOT_FOUND = "VIRTUAL_MACHINE_NOT_FOUND"
ACME = {"account": "acme"}


@pytest.mark.parametrize(
    ("grants", "method", "request_", "refused"),
    [
        (granted(Role.VIEWER), f"{VMS}GetVirtualMachine", get(FOREIGN), ""),
        (granted(Role.VIEWER, **ACME), f"{VMS}GetVirtualMachine", get(MINE), ""),
        (granted(Role.VIEWER, **ACME), f"{VMS}GetVirtualMachine", get(FOREIGN), NOT_FOUND),
        (granted(Role.VIEWER, **ACME), f"{VMS}GetVirtualMachine", get(UNKNOWN), NOT_FOUND),
        (granted(Role.VIEWER, host="hv01"), f"{VMS}GetVirtualMachine", get(FOREIGN), ""),
        (granted(Role.VIEWER, vm=MINE), f"{VMS}GetVirtualMachine", get(FOREIGN), NOT_FOUND),
        (granted(Role.VIEWER, **ACME), f"{SNAPSHOTS}DeleteSnapshot", delete(MINE), "NOT_ALLOWED"),
        (granted(Role.OPERATOR, **ACME), f"{SNAPSHOTS}DeleteSnapshot", delete(MINE), ""),
        (granted(Role.OPERATOR, **ACME), f"{SNAPSHOTS}DeleteSnapshot", delete(FOREIGN), NOT_FOUND),
        (granted(Role.OPERATOR), f"{HOSTS}RegisterHost", host_pb2.RegisterHostRequest(host_id="hv02"), "NOT_ALLOWED"),
        (granted(Role.ADMIN), f"{HOSTS}RegisterHost", host_pb2.RegisterHostRequest(host_id="hv02"), ""),
        (
            granted(Role.ADMIN, host="hv02"),
            f"{HOSTS}RegisterHost",
            host_pb2.RegisterHostRequest(host_id="hv02", host=host_pb2.Host(address="hv01.example.com")),
            "NOT_ALLOWED",
        ),
        (
            granted(Role.ADMIN, host="hv01"),
            f"{HOSTS}UpdateHost",
            host_pb2.UpdateHostRequest(host=host_pb2.Host(name="hosts/hv01", address="hv02.example.com")),
            "NOT_ALLOWED",
        ),
        (granted(Role.VIEWER, **ACME), f"{HOSTS}GetHost", host_pb2.GetHostRequest(name="hosts/hv01"), "HOST_NOT_FOUND"),
        (
            granted(Role.VIEWER, **ACME),
            "/google.longrunning.Operations/GetOperation",
            GetOperationRequest(name=f"operations/{FOREIGN}.1-0a0b0c0d"),
            "OPERATION_NOT_FOUND",
        ),
        (granted(Role.VIEWER, **ACME), "/google.longrunning.Operations/ListOperations", ListOperationsRequest(), ""),
        (
            granted(Role.VIEWER, **ACME),
            f"{SNAPSHOTS}ListSnapshots",
            snapshot_pb2.ListSnapshotsRequest(parent="virtualMachines/-"),
            "",
        ),
        (
            granted(Role.VIEWER, **ACME),
            f"{SNAPSHOTS}ListSnapshots",
            snapshot_pb2.ListSnapshotsRequest(parent=f"virtualMachines/{FOREIGN}"),
            NOT_FOUND,
        ),
        (granted(Role.AUDITOR, **ACME), EVENTS, audit_pb2.ListEventsRequest(), "NOT_ALLOWED"),
        (
            granted(Role.AUDITOR, **ACME),
            EVENTS,
            audit_pb2.ListEventsRequest(virtual_machine=f"virtualMachines/{MINE}"),
            "",
        ),
        (
            granted(Role.AUDITOR, **ACME),
            EVENTS,
            audit_pb2.ListEventsRequest(virtual_machine=f"virtualMachines/{MINE}", host="hosts/hv01"),
            "",
        ),
        (granted(Role.OPERATOR), EVENTS, audit_pb2.ListEventsRequest(), "NOT_ALLOWED"),
        (granted(Role.DELEGATE), f"{VMS}GetVirtualMachine", get(MINE), "NOT_ALLOWED"),
        (Granted(), f"{VMS}GetVirtualMachine", get(MINE), "NOT_ALLOWED"),
        (granted(Role.ADMIN), "/snapshotd.api.v1.AdminService/Nonsense", get(MINE), "NOT_ALLOWED"),
    ],
)
async def test_each_call_is_let_in_or_refused_as_the_table_has_it(
    grants: Granted, method: str, request_: Message, refused: str
) -> None:
    passing = Passing(grants)
    assert await passing.call(method, request_) == refused
    unknown = request_ == get(UNKNOWN)  # nobody has tried to see what is not theirs
    assert passing.recorded.refused_ == ([("token:a", refused)] if refused and not unknown else [])


@pytest.mark.parametrize(
    ("request_", "refused"),
    [
        (virtual_machine_pb2.UpdateVirtualMachineRequest(virtual_machine=VirtualMachine(labels={"a": "b"})), ""),
        (virtual_machine_pb2.UpdateVirtualMachineRequest(virtual_machine=VirtualMachine(owner="other")), "NOT_ALLOWED"),
        (virtual_machine_pb2.UpdateVirtualMachineRequest(update_mask=FieldMask(paths=["owner"])), "NOT_ALLOWED"),
        (virtual_machine_pb2.UpdateVirtualMachineRequest(update_mask=FieldMask(paths=["*"])), "NOT_ALLOWED"),
    ],
)
async def test_an_operator_of_an_account_cannot_give_its_vms_to_another(
    request_: virtual_machine_pb2.UpdateVirtualMachineRequest, refused: str
) -> None:
    request_.virtual_machine.name = f"virtualMachines/{MINE}"
    method = f"{VMS}UpdateVirtualMachine"
    assert await Passing(granted(Role.OPERATOR, **ACME)).call(method, request_) == refused
    assert not await Passing(granted(Role.ADMIN, **ACME)).call(method, request_)


async def test_a_caller_who_has_not_signed_in_gets_health_and_nothing_else() -> None:
    passing = Passing(granted(Role.ADMIN), known=False)
    assert await passing.call("/grpc.health.v1.Health/Check", get(MINE)) == ""
    assert passing.recorded.refused_ == []
    assert await passing.call(f"{VMS}GetVirtualMachine", get(MINE)) == SignInMissing.reason
    assert passing.recorded.refused_ == [("", SignInMissing.reason)]


async def test_only_a_delegate_acts_for_somebody_and_names_are_names() -> None:
    viewer = granted(Role.VIEWER)
    both = Granted((*viewer.bindings, *granted(Role.DELEGATE).bindings))
    assert await Passing(viewer, behalf="bob").call(f"{VMS}GetVirtualMachine", get(MINE)) == NotAllowed.reason
    assert await Passing(both, behalf="bob").call(f"{VMS}GetVirtualMachine", get(MINE)) == ""
    bad = Passing(both, behalf="bob\n")
    assert await bad.call(f"{VMS}GetVirtualMachine", get(MINE)) == InvalidArgument("", "", "").reason
    assert bad.recorded.refused_ == []


@pytest.mark.parametrize("barred", [True, False])
async def test_a_stream_ends_when_its_caller_is_barred_which_is_recorded(*, barred: bool) -> None:
    passing = Passing(granted(Role.EXECUTOR))

    async def now() -> Granted:
        return Granted() if barred else granted(Role.EXECUTOR)

    caller = Caller(subject="executor:ex1", granted=passing.grants, method=ATTACH, granted_now=now)
    assert await passing.goes_on(caller) is not barred
    assert passing.recorded.refused_ == ([("executor:ex1", NotAllowed.reason)] if barred else [])


async def test_a_stream_ends_when_its_callers_token_counts_no_more_which_is_recorded() -> None:
    passing = Passing(granted(Role.EXECUTOR))

    async def now() -> Granted:
        raise TokenRevoked("id", "ann", "now")

    caller = Caller(subject="token:ann", granted=passing.grants, method=ATTACH, granted_now=now)
    with pytest.raises(TokenRevoked):
        await passing.goes_on(caller)
    assert passing.recorded.refused_ == [("token:ann", TokenRevoked.reason)]


async def test_what_is_no_name_is_told_as_that_to_whoever_may_not_see_it() -> None:
    method, passing = f"{VMS}GetVirtualMachine", Passing(granted(Role.VIEWER, **ACME))
    assert await passing.call(method, get("web01")) == InvalidArgument("", "", "").reason
    assert NotFound("virtual machine", "").reason == NOT_FOUND


async def test_calls_beyond_the_limits_are_refused_until_others_have_ended() -> None:
    crowd = Crowd(CallLimits(under_way=2, under_way_each=2), lambda: 0.0)
    passing = Passing(granted(Role.VIEWER), crowd=crowd)
    other = Caller(subject="token:b", granted=Granted())
    with crowd.enter(other), crowd.enter(other):
        assert await passing.call(f"{VMS}GetVirtualMachine", get(MINE)) == TooManyCalls.reason
    assert await passing.call(f"{VMS}GetVirtualMachine", get(MINE)) == ""
    assert passing.recorded.refused_ == []


@pytest.mark.parametrize("limits", [CallLimits(under_way_each=40), CallLimits(per_s_each=20)])
async def test_who_need_not_sign_in_leaves_places_to_such_callers_on_other_machines(limits: CallLimits) -> None:
    passing = Passing(Granted(), crowd=Crowd(limits, lambda: 0.0))
    check, gate = "/grpc.health.v1.Health/Check", passing.gate()
    elsewhere: Any = type("Call", (), {"peer": lambda _: "ipv4:10.0.0.10:1"})()
    with await gate.admit(check, CALL), await gate.admit(check, CALL):
        with pytest.raises(TooManyCalls):
            await gate.admit(check, CALL)
        with await gate.admit(check, elsewhere):
            pass


async def test_a_caller_that_calls_too_often_waits_for_its_share_and_no_other_does() -> None:
    now = [0.0]
    crowd = Crowd(CallLimits(per_s_each=2), lambda: now[0])
    passing = Passing(granted(Role.VIEWER), crowd=crowd)

    async def calls(count: int) -> list[str]:
        return [await passing.call(f"{VMS}GetVirtualMachine", get(MINE)) for _ in range(count)]

    assert await calls(5) == [""] * 4 + [TooManyCalls.reason]
    crowd.check(Caller(subject="token:b", granted=Granted()))
    now[0] = 0.5
    assert await calls(2) == ["", TooManyCalls.reason]


async def test_an_account_s_admin_reaches_no_host_and_no_path_on_it() -> None:
    path = virtual_machine_pb2.AttachVolumeRequest(name=f"virtualMachines/{MINE}", path="D:\\a.vhdx")
    there = virtual_machine_pb2.StartVirtualMachineRequest(name=f"virtualMachines/{MINE}", host="hosts/hv02")
    host = granted(Role.ADMIN, host="hv01")
    both = Granted((*granted(Role.OPERATOR, **ACME).bindings, *granted(Role.ADMIN, host="hv02").bindings))
    for grants, attach, start in (
        (granted(Role.ADMIN, **ACME), NotAllowed.reason, NotAllowed.reason),
        (granted(Role.ADMIN, vm=MINE), NotAllowed.reason, NotAllowed.reason),
        (granted(Role.OPERATOR), NotAllowed.reason, NotAllowed.reason),
        (host, "", NotAllowed.reason),
        (both, NotAllowed.reason, ""),
        (granted(Role.ADMIN), "", ""),
    ):
        assert await Passing(grants).call(f"{VMS}AttachVolume", path) == attach
        assert await Passing(grants).call(f"{VMS}StartVirtualMachine", there) == start
