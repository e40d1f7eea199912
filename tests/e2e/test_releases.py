"""VMs that are released after an export, and imported where they are started; and what a host's death does to that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo

from snapshotd.api.v1.executor_pb2 import RUNNING, STOPPED
from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.api.v1.snapshot_pb2 import RevertToSnapshotRequest, Snapshot
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine
from tests.e2e.exporting import BLOCKS, Hosts, Place, two_hosts
from tests.e2e.system import Client, metadata_of, refusal, until

RELEASE = ("--export-policy", "ON_STOP", "--export-release", "true")
FOREVER = 600_000
ENGINES = ["builtin", pytest.param("pwsh", marks=pytest.mark.powershell)]


@pytest.fixture(scope="module", params=ENGINES)
def hosts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with two_hosts(tmp_path_factory.mktemp("two"), 6, str(request.param), RELEASE, switch="production") as opened:
        yield opened


def released(place: Place) -> str:
    """Stop a VM, and wait until it was exported and released; return where it is kept."""
    place.stop()
    ended = place.client.wait(place.newest())
    assert not ended.HasField("error"), ended.error.message
    told = place.vm()
    assert (told.power, place.truth(place.one)) == (STOPPED, None), metadata_of(ended).outcome_detail
    return told.released.directory


def checkpoints(place: Place) -> dict[str, str]:
    """Return the VM's checkpoints as its snapshots have them, each with its parent."""
    own = {s.name: s for s in place.client.list_snapshots(place.vm_id)}
    assert {s.state for s in own.values()} == {Snapshot.READY}
    return {s.checkpoint_id: own[s.parent].checkpoint_id if s.parent else "" for s in own.values()}


@pytest.mark.slow
def test_a_missing_switch_is_told_and_the_vm_stays_released_until_it_is_started_elsewhere(hosts: Hosts) -> None:
    place = hosts.take(running=True)
    directory = released(place)
    failed = place.start("hv02")
    info = ErrorInfo()
    assert any(detail.Unpack(info) for detail in failed.error.details)
    assert info.reason == "IMPORT_INCOMPATIBLE"
    assert "33012" in failed.error.message
    assert "'production'" in failed.error.message
    told = place.vm()
    assert (told.power, told.host, told.released.directory) == (STOPPED, "hosts/hv01", directory)
    assert place.truth(place.two) is None
    assert not place.start("hv01").HasField("error")
    assert place.vm().power == RUNNING


@pytest.mark.slow
def test_a_released_vm_runs_on_another_host_with_its_snapshots_and_what_its_guest_has_written(hosts: Hosts) -> None:
    place = hosts.take(running=True)
    before = place.read(place.one)
    directory = released(place)
    code, reason, text = refusal(lambda: place.client.create(place.vm_id, "refused"))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VM_RELEASED")
    assert directory in text
    started = place.start("hv02")
    assert not started.HasField("error"), started.error.message
    told, there = place.vm(), place.truth(place.two)
    assert there is not None
    assert (told.host, told.power, told.HasField("released")) == ("hosts/hv02", RUNNING, False)
    assert place.read(place.two) == before == BLOCKS
    assert checkpoints(place) == {c["id"]: c["parent"] for c in there["checkpoints"]}
    assert [export.in_use for export in told.exports] == [True]
    (base,) = place.client.list_snapshots(place.vm_id)
    reverted = place.client.wait(place.client.snapshots.RevertToSnapshot(RevertToSnapshotRequest(name=base.name)))
    assert not reverted.HasField("error"), reverted.error.message
    assert place.read(place.two) == {"boot": BLOCKS["boot"]}
    assert place.sync("hv01") == place.sync("hv02") == []


@pytest.mark.slow
def test_a_vm_that_was_on_meanwhile_with_nobody_looking_is_not_released(hosts: Hosts) -> None:
    place = hosts.take(running=True)
    place.one.control("durations", export=FOREVER)
    place.stop()
    export = place.newest()
    place.copying(export)
    place.daemon.kill()
    place.one.control("durations", export=0)
    until(lambda: (place.truth(place.one) or {})["job"] == "")
    place.one.control("admin", do="start", vm=place.vm_id)
    place.write("unseen", "by hand")
    place.one.control("admin", do="turn_off", vm=place.vm_id)
    place.daemon.start()
    place.client = hosts.client = Client(place.daemon.address)
    ended = place.client.wait(export)
    assert metadata_of(ended).state == OperationMetadata.SUCCEEDED
    assert "written to since" in metadata_of(ended).outcome_detail
    assert not place.vm().HasField("released")
    assert place.read(place.one)["unseen"] == "by hand"


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["in the middle of an export", "before it began"])
def test_the_host_with_the_vm_dies(hosts: Hosts, moment: str) -> None:
    """Only what is complete is released. When the host is back, all goes on, and the VM runs on the other one."""
    place = hosts.take(running=True)
    place.one.control("durations", export=FOREVER)
    if moment == "before it began":
        place.one.control("kill_script", at="ExportSystemDefinition:before", count=1)
    place.stop()
    export = place.newest()
    if moment == "before it began":
        until(lambda: place.one.control("kill_script", at="ExportSystemDefinition:before", count=0)["left"] == 0)
    else:
        place.copying(export)
    place.one.control("restart_host")
    place.one.kill()
    assert place.sync("hv02") == []
    refused = refusal(lambda: place.client.vms.StartVirtualMachine(place.asked_start("hv02")))
    assert refused[1] == "VM_NOT_RELEASED"
    assert place.truth(place.two) is None
    assert not place.now(export).done
    place.one.start()
    ended = place.client.wait(export)
    assert not ended.HasField("error"), ended.error.message
    (told,) = place.vm().exports
    assert place.folders() == [Path(told.directory).name]
    assert not place.start("hv02").HasField("error")
    assert place.read(place.two) == BLOCKS
    assert place.vm().state == VirtualMachine.RUNNING


@pytest.mark.slow
def test_a_storage_that_is_full_amid_an_export_fails_it_and_leaves_no_folder(hosts: Hosts) -> None:
    place = hosts.take(running=True)
    place.one.control("free_space", volume=str(place.exports), free_bytes=1)
    place.stop()
    failed = place.client.wait(place.newest())
    place.one.control("free_space", volume=str(place.exports), free_bytes=None)
    assert metadata_of(failed).state == OperationMetadata.FAILED
    assert "0x80070070" in failed.error.message
    assert "snapshotctl vm export" in failed.error.message
    assert place.folders() == []
    assert (place.vm().power, place.vm().HasField("released")) == (STOPPED, False)
    assert not place.client.wait(place.export()).HasField("error")
    assert len(place.vm().exports) == 1
