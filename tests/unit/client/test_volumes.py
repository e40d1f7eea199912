"""`vm attach`, `detach`, `resize` and `offering`: what is asked for, the plans, and what is said in the end."""

from __future__ import annotations

import pytest
from google.longrunning.operations_pb2 import Operation
from google.protobuf.message import Message

from snapshotd.api.v1.executor_pb2 import STOPPED
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan, Step
from snapshotd.api.v1.snapshot_pb2 import ListSnapshotsResponse, Snapshot, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import (
    AttachVolumeRequest,
    ChangeServiceOfferingRequest,
    DetachVolumeRequest,
    Disk,
    ResizeVolumeRequest,
    ServiceOffering,
    VirtualMachine,
)
from tests.unit.client.fake_service import Ctl, FakeService

VM = "virtualMachines/11111111-2222-3333-4444-555555555501"
MEMORY = f"{VM}/snapshots/aaaaaaaa-0000-4000-8000-000000000001"
NAME = "operations/11111111-2222-3333-4444-555555555501.7-0a0b0c0d"
FILE = "D:\\VMs\\data.vhdx"
ETAG = "0123456789abcdef"
GB = 1 << 30
CALLS = ("AttachVolume", "DetachVolume", "ResizeVolume", "ChangeServiceOffering")


@pytest.fixture(autouse=True)
def accepted(service: FakeService) -> None:
    """Have the service accept all four."""
    service.answers |= dict.fromkeys(CALLS, lambda _: Operation(name=NAME))


def ended(kind: OperationMetadata.Kind.ValueType, response: Message, **more: object) -> Operation:
    """Return an operation that has succeeded."""
    operation = Operation(name=NAME, done=True)
    operation.metadata.Pack(OperationMetadata(kind=kind, state=OperationMetadata.SUCCEEDED, **more))  # type: ignore[arg-type]  # as they are named
    operation.response.Pack(response)
    return operation


def planned(plan: Plan) -> Operation:
    """Return the answer to a dry run."""
    operation = Operation(done=True)
    operation.response.Pack(plan)
    return operation


def test_the_command_that_waits_goes_to_the_same_server(ctl: Ctl, service: FakeService) -> None:
    said = ctl("vm", "attach", VM, FILE, "--server", service.address)
    assert said.out.endswith(f"To wait: snapshotctl operation wait {NAME} --server {service.address}\n")


def test_a_new_disk_is_asked_for_at_its_place(ctl: Ctl, service: FakeService) -> None:
    said = ctl("vm", "attach", VM, FILE, "--new", "20GB", "--at", "scsi:0:2", "--expect", ETAG)
    assert (said.code, said.out) == (0, f"{NAME} accepted. To wait: snapshotctl operation wait {NAME}\n")
    (asked,) = service.of(AttachVolumeRequest)
    assert (asked.name, asked.path, asked.location, asked.size_bytes) == (VM, FILE, "SCSI:0:2", 20 * GB)
    assert (asked.expected_plan, asked.validate_only, bool(asked.request_id)) == (ETAG, False, True)


def test_a_file_that_is_there_goes_to_the_first_free_place(ctl: Ctl, service: FakeService) -> None:
    assert ctl("vm", "attach", VM, FILE).code == 0
    (asked,) = service.of(AttachVolumeRequest)
    assert (asked.location, asked.size_bytes) == ("", 0)


def test_a_detach_and_a_resize_name_the_place(ctl: Ctl, service: FakeService) -> None:
    assert ctl("vm", "detach", VM, "SCSI:0:1").code == 0
    assert [r.location for r in service.of(DetachVolumeRequest)] == ["SCSI:0:1"]
    for shrink in ((), ("--allow-shrink",)):
        assert ctl("vm", "resize", VM, "ide:0:1", "1.5TB", *shrink).code == 0
    asked = [(r.location, r.size_bytes, r.allow_shrink) for r in service.of(ResizeVolumeRequest)]
    assert asked == [("IDE:0:1", 1536 * GB, False), ("IDE:0:1", 1536 * GB, True)]


@pytest.mark.parametrize(
    ("call", "command", "kind", "what"),
    [
        ("AttachVolume", ("attach", VM, FILE), OperationMetadata.ATTACH_VOLUME, f"attach {FILE} to {VM}"),
        (
            "AttachVolume",
            ("attach", VM, FILE, "--new", "20GB"),
            OperationMetadata.ATTACH_VOLUME,
            f"attach {FILE}, a new disk of 20.0 GiB, to {VM}",
        ),
        (
            "DetachVolume",
            ("detach", VM, "SCSI:0:1"),
            OperationMetadata.DETACH_VOLUME,
            f"detach the disk at SCSI:0:1 from {VM}",
        ),
        (
            "ResizeVolume",
            ("resize", VM, "SCSI:0:1", "20GB"),
            OperationMetadata.RESIZE_VOLUME,
            f"resize the disk at SCSI:0:1 of {VM} to 20.0 GiB",
        ),
    ],
)
def test_the_plan_of_each_says_what_it_is_of_and_how_to_do_just_that(
    ctl: Ctl,
    service: FakeService,
    call: str,
    command: tuple[str, ...],
    kind: OperationMetadata.Kind.ValueType,
    what: str,
) -> None:
    step = Step(number=1, name="attach", step_class=Step.UNDOABLE, description="Do it.", host="hosts/hv01")
    plan = Plan(kind=kind, steps=[step], power_before=STOPPED, power_after=STOPPED, etag=ETAG)
    service.answers[call] = lambda request: planned(plan) if request.validate_only else Operation()
    said = ctl("vm", *command, "--dry-run").out.splitlines()
    assert said[:2] == [f"Would {what}:", "  1. attach     Do it. [undoable, on hv01]"]
    assert said[-2] == "Nothing was done."
    assert said[-1].endswith(f" --expect {ETAG}")


def test_what_comes_of_it_are_the_disks_of_the_vm(ctl: Ctl, service: FakeService) -> None:
    disks = [Disk(location="SCSI:0:0", path="D:\\web01.vhdx", size_bytes=40 * GB), Disk(location="SCSI:0:1", path=FILE)]
    vm = VirtualMachine(name=VM, display_name="web01", disks=disks)
    service.answers["WaitOperation"] = lambda _: ended(OperationMetadata.ATTACH_VOLUME, vm)
    said = ctl("vm", "attach", VM, FILE, "--wait")
    assert said.out.splitlines() == [
        f"{NAME} succeeded.",
        f"Disks of VM web01: SCSI:0:0 D:\\web01.vhdx (40.0 GiB), SCSI:0:1 {FILE}.",
    ]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--cpus", "4"), ServiceOffering(cpu_count=4)),
        (("--memory", "8GB", "--dynamic-memory", "off"), ServiceOffering(memory_bytes=8 * GB, dynamic_memory=False)),
        (
            ("--dynamic-memory", "on", "--minimum", "1GB", "--maximum", "16GB"),
            ServiceOffering(dynamic_memory=True, minimum_bytes=GB, maximum_bytes=16 * GB),
        ),
    ],
)
def test_only_what_was_typed_of_the_offering_is_changed(
    ctl: Ctl, service: FakeService, options: tuple[str, ...], wanted: ServiceOffering
) -> None:
    assert ctl("vm", "offering", VM, *options).code == 0
    assert [r.service_offering for r in service.of(ChangeServiceOfferingRequest)] == [wanted]


def test_an_offering_without_a_change_is_an_error_of_usage(ctl: Ctl, service: FakeService) -> None:
    said = ctl("vm", "offering", VM)
    assert (said.code, "Say what to change: --cpus" in said.err, service.asked) == (2, True, [])
    assert ctl("vm", "offering", VM, "--dynamic-memory", "maybe").code == 2
    assert ctl("vm", "offering", VM, "--cpus", "0").code == 2


def test_the_plan_of_an_offering_names_the_snapshots_that_go(ctl: Ctl, service: FakeService) -> None:
    plan = Plan(
        kind=OperationMetadata.CHANGE_SERVICE_OFFERING,
        virtual_machine=VM,
        power_before=STOPPED,
        power_after=STOPPED,
        snapshots_discarded=[MEMORY],
    )
    known = Snapshot(name=MEMORY, display_name="with-memory", state=Snapshot.READY)
    service.answers |= {
        "ChangeServiceOffering": lambda _: planned(plan),
        "ListSnapshots": lambda _: ListSnapshotsResponse(snapshots=[known]),
    }
    said = ctl("vm", "offering", VM, "--cpus", "1", "--maximum", "16GB", "--dry-run").out.splitlines()
    assert said[0] == f"Would change the offering of {VM} to 1 CPU, to 16.0 GiB:"
    assert "Gone:    with-memory" in said


def test_a_changed_offering_is_told_with_what_went(ctl: Ctl, service: FakeService) -> None:
    offering = ServiceOffering(
        cpu_count=4, memory_bytes=8 * GB, dynamic_memory=True, minimum_bytes=GB, maximum_bytes=16 * GB
    )
    vm = VirtualMachine(name=VM, display_name="web01", service_offering=offering)
    kind = OperationMetadata.CHANGE_SERVICE_OFFERING
    service.answers |= {
        "WaitOperation": lambda _: ended(kind, vm, snapshots_removed=[MEMORY]),
        "GetSnapshot": lambda r: Snapshot(name=r.name, display_name="with-memory"),
    }
    said = ctl("vm", "offering", VM, "--cpus", "4", "--wait")
    assert said.out.splitlines()[1:] == [
        "VM web01 has 4 CPUs, 8.0 GiB, dynamic from 1.0 GiB to 16.0 GiB.",
        f"Deleted: with-memory ({MEMORY.rpartition('/')[2]}).",
    ]


def test_a_vm_is_shown_with_its_disks_and_its_offering(ctl: Ctl, service: FakeService) -> None:
    vm = VirtualMachine(
        name=VM,
        display_name="web01",
        disks=[
            Disk(location="SCSI:0:0", path="D:\\web01.vhdx", size_bytes=40 * GB, file_bytes=GB),
            Disk(location="SCSI:0:1", path=FILE),
        ],
        service_offering=ServiceOffering(
            cpu_count=2, memory_bytes=4 * GB, dynamic_memory=False, minimum_bytes=GB, maximum_bytes=GB
        ),
    )
    service.answers |= {"GetVirtualMachine": lambda _: vm, "GetSnapshotTree": lambda _: SnapshotTree()}
    lines = [line.rstrip() for line in ctl("vm", "show", VM).out.splitlines()]
    assert "CPUs:      2" in lines
    assert "Memory:    4.0 GiB, not dynamic" in lines
    assert lines[-3:] == [
        "DISK      SIZE      ON DISK  FILE",
        "SCSI:0:0  40.0 GiB  1.0 GiB  D:\\web01.vhdx",
        f"SCSI:0:1                     {FILE}",
    ]
