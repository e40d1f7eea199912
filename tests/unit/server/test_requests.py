"""Names and ids of requests are read strictly, and what is wrong is refused with its value."""

from datetime import UTC, datetime

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.api.v1.snapshot_pb2 import CreateSnapshotRequest, DeleteSnapshotRequest, RevertToSnapshotRequest
from snapshotd.domain.errors import InvalidArgument
from snapshotd.server.requests import (
    digest_of,
    host_id_of,
    operation_of,
    request_id_of,
    snapshot_id_of,
    time_of,
    timeout_of,
    vm_id_of,
)

VM = "11111111-2222-3333-4444-555555555555"


def test_ids_are_read_in_any_case() -> None:
    assert vm_id_of(f"virtualMachines/{VM.upper()}") == VM
    assert snapshot_id_of(f"virtualMachines/{VM}/snapshots/{VM.upper()}") == (VM, VM)
    assert operation_of(f"operations/{VM.upper()}.12-0A0B0C0D") == f"operations/{VM}.12-0a0b0c0d"
    assert host_id_of("hosts/hv-01") == "hv-01"
    assert request_id_of(VM.upper()) == VM
    assert request_id_of("") == ""


def test_a_host_in_upper_case_is_told_so() -> None:
    with pytest.raises(InvalidArgument, match="in lower case"):
        host_id_of("hosts/HV01")


@pytest.mark.parametrize("name", ["", VM, "virtualMachines/web01", f"hosts/{VM}", f"virtualMachines/{VM}/snapshots"])
def test_what_names_no_vm_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        vm_id_of(name, "parent")
    assert refused.value.field == "parent"


@pytest.mark.parametrize(
    "name", ["", f"virtualMachines/{VM}", f"virtualMachines/{VM}/snapshots/x", f"virtualMachines/{VM}/disks/{VM}"]
)
def test_what_names_no_snapshot_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        snapshot_id_of(name)


@pytest.mark.parametrize(
    "name", ["", VM, f"operations/{VM}", f"operations/{VM}.12", f"operations/{VM}.0-0a0b0c0d", f"operations/{VM}.1-x"]
)
def test_what_names_no_operation_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        operation_of(name)


@pytest.mark.parametrize("text", ["x", VM[:-1], "00000000-0000-0000-0000-000000000000"])
def test_a_request_id_that_is_no_uuid_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        request_id_of(text)


@pytest.mark.parametrize(("seconds", "nanos"), [(10**15, 0), (-(10**15), 0), (0, 2 * 10**9), (0, -1)])
def test_a_time_that_is_none_is_refused_with_its_field(seconds: int, nanos: int) -> None:
    with pytest.raises(InvalidArgument) as refused:
        time_of(Timestamp(seconds=seconds, nanos=nanos), "start_time")
    assert (refused.value.field, refused.value.value) == ("start_time", f"{seconds} s, {nanos} ns")


def test_a_time_is_read_in_utc() -> None:
    assert time_of(Timestamp(seconds=0, nanos=1_500_000), "start_time") == datetime(1970, 1, 1, 0, 0, 0, 1500, UTC)


@pytest.mark.parametrize(("seconds", "nanos"), [(10**15, 0), (0, -5), (-1, 0), (1, -5), (0, 10**9)])
def test_a_timeout_that_is_negative_or_none_is_refused_with_its_field(seconds: int, nanos: int) -> None:
    with pytest.raises(InvalidArgument) as refused:
        timeout_of(Duration(seconds=seconds, nanos=nanos), "timeout")
    assert refused.value.field == "timeout"
    assert timeout_of(Duration(seconds=2, nanos=500_000_000), "timeout") == 2.5


def test_a_digest_leaves_the_request_id_out_and_nothing_else() -> None:
    one = CreateSnapshotRequest(parent="p", request_id="a")
    one.snapshot.display_name = "n"
    same = CreateSnapshotRequest(parent="p", request_id="b")
    same.snapshot.display_name = "n"
    other = CreateSnapshotRequest(parent="p", request_id="a")
    other.snapshot.display_name = "m"
    assert digest_of(one) == digest_of(same)
    assert digest_of(one) != digest_of(other)
    assert one.request_id == "a"


def test_requests_of_two_methods_never_share_a_digest() -> None:
    assert digest_of(RevertToSnapshotRequest(name="x")) != digest_of(DeleteSnapshotRequest(name="x"))
