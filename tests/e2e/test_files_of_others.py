"""Files on a storage that two hosts share: what snapshotd removes by one host is in use by no VM of the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from tests.e2e.exporting import Hosts, Place, two_hosts
from tests.e2e.system import refusal
from tests.e2e.test_volume_snapshots import delete, result, take


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    at = tmp_path_factory.mktemp("two")
    (at / "copies").mkdir()
    with two_hosts(at, 4, settings=("--volume-snapshots-directory", str(at / "copies"))) as opened:
        yield opened


def pair(hosts: Hosts) -> tuple[Place, Place]:
    """Return a VM on the first host, and one that was moved to the second one; both are off, without snapshots."""
    here, there = (
        Place(hosts.one, hosts.two, hosts.exports, hosts.daemon, hosts.client, hosts.ids.pop()) for _ in range(2)
    )
    hosts.two.control("move_in", machine=hosts.one.control("move_out", vm=there.vm_id)["machine"])
    there.sync("hv02")
    assert there.vm().host == "hosts/hv02"
    return here, there


@pytest.mark.slow
def test_a_copy_that_a_vm_of_another_host_has_is_not_deleted(hosts: Hosts) -> None:
    here, there = pair(hosts)
    copy = result(hosts.client.wait(take(hosts.client, here.vm_id)))
    attached = hosts.client.wait(hosts.client.attach(there.vm_id, copy.path))
    assert not attached.HasField("error"), attached.error.message
    code, reason, text = refusal(lambda: delete(hosts.client, copy.name))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VOLUME_IN_USE")
    assert f"it is a file of VM {there.vm().display_name} on host hv02" in text
    planned = pb.DeleteVolumeSnapshotRequest(name=copy.name, validate_only=True)
    assert refusal(lambda: hosts.client.vms.DeleteVolumeSnapshot(planned))[1] == "VOLUME_IN_USE"
    assert Path(copy.path).exists()
    (place,) = [disk.location for disk in there.vm().disks if disk.path == copy.path]
    hosts.client.wait(hosts.client.detach(there.vm_id, place))
    deleted = hosts.client.wait(delete(hosts.client, copy.name))
    assert not deleted.HasField("error"), deleted.error.message
    assert not Path(copy.path).exists()


@pytest.mark.slow
def test_a_file_inside_an_export_is_attached_to_no_vm_of_another_host(hosts: Hosts) -> None:
    here, there = pair(hosts)
    assert not hosts.client.wait(here.export()).HasField("error")
    (export,) = here.vm().exports
    file = min(Path(export.directory).rglob("*.vhdx"))
    code, reason, text = refusal(lambda: hosts.client.attach(there.vm_id, str(file)))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VOLUME_IN_EXPORT")
    assert f"{export.directory} is an export of VM {here.vm().display_name}, and is removed" in text
    copied = file.rename(hosts.exports / "copied.vhdx")
    attached = hosts.client.wait(hosts.client.attach(there.vm_id, str(copied)))
    assert not attached.HasField("error"), attached.error.message
