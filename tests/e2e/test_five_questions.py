"""The five questions that the design of exports leaves open, each answered by a test of its name, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshotd.api.v1.executor_pb2 import RUNNING, STOPPED
from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.api.v1.snapshot_pb2 import Snapshot
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine
from tests.e2e.exporting import Hosts, Place, two_hosts
from tests.e2e.system import metadata_of, until

FOREVER = 600_000
"""Milliseconds."""
ENGINES = ["builtin", pytest.param("pwsh", marks=pytest.mark.powershell)]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def hosts(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with two_hosts(tmp_path_factory.mktemp("two"), 9, engine) as opened:
        yield opened


@pytest.mark.slow
def test_does_stop_get_slower(hosts: Hosts) -> None:
    """No: it ends when the VM is off; the export follows as an operation of its own, if the VM has snapshots."""
    on_stop = hosts.take(VirtualMachine.ON_STOP, running=True)
    on_stop.one.control("durations", export=FOREVER)
    stopped = on_stop.stop()
    assert not stopped.HasField("error"), stopped.error.message
    assert [step.name for step in metadata_of(stopped).steps] == ["stop"]
    export = on_stop.newest()
    assert metadata_of(export).kind == OperationMetadata.EXPORT_VIRTUAL_MACHINE
    on_stop.copying(export)
    assert not on_stop.now(export).done
    on_stop.one.control("durations", export=0)
    assert not on_stop.client.wait(export).HasField("error")
    (told,) = on_stop.vm().exports
    assert on_stop.folders() == [Path(told.directory).name]


@pytest.mark.slow
def test_what_if_the_vm_is_started_before_the_export_is_done(hosts: Hosts) -> None:
    """Start wins: the export is CANCELLED, its partial folder is removed, and the next stop exports again."""
    on_stop = hosts.take(VirtualMachine.ON_STOP, running=True)
    on_stop.one.control("durations", export=FOREVER)
    on_stop.stop()
    export = on_stop.newest()
    on_stop.copying(export)
    (partial_folder,) = on_stop.folders()
    assert partial_folder.endswith(".partial")
    started = on_stop.start()
    assert not started.HasField("error"), started.error.message
    assert metadata_of(on_stop.now(export)).state == OperationMetadata.CANCELLED
    assert on_stop.folders() == []
    told = on_stop.vm()
    assert (told.power, list(told.exports)) == (RUNNING, [])
    ended = [line for line in on_stop.one.truth() if line["effect"] == "export_ended"]
    assert [line["vm"] for line in ended] == [on_stop.vm_id]
    on_stop.one.control("durations", export=0)
    on_stop.stop()
    assert not on_stop.client.wait(on_stop.newest()).HasField("error")
    assert len(on_stop.vm().exports) == 1


def storage_down(place: Place) -> None:
    """Take the storage away."""
    place.one.control("share", path=str(place.exports), up=False)


def storage_up(place: Place) -> None:
    """Bring it back."""
    place.one.control("share", path=str(place.exports), up=True)


def host_down(place: Place) -> None:
    """Let the host go down, as by a power cut."""
    place.one.control("restart_host")
    place.one.kill()


def host_up(place: Place) -> None:
    """Let it come up."""
    place.one.start()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["in the middle", "before it began"])
@pytest.mark.parametrize("what", ["primary storage", "the host", "primary storage and the host"])
def test_what_if_primary_storage_or_the_host_goes_down(hosts: Hosts, what: str, moment: str) -> None:
    """Whichever comes up first, the operation goes on: the old attempt is ended, and another one complete."""
    place = hosts.take()
    place.one.control("durations", export=FOREVER)
    export = place.export() if moment == "in the middle" else None
    if export is not None:
        place.copying(export)
    if "storage" in what:
        place.one.control("share", path=str(place.exports), up=False)
        place.one.control("durations", export=0)
    if "host" in what:
        place.one.control("restart_host")
        place.one.kill()
    export = export or place.export()
    until(lambda: metadata_of(place.now(export)).wait.reason not in ("", "JOB_IN_PROGRESS"))
    assert not place.now(export).done
    if "host" in what:
        place.one.start()
        place.one.control("durations", export=0)
    if "storage" in what:
        place.one.control("share", path=str(place.exports), up=True)
    place.one.control("durations", export=0)
    ended = place.client.wait(export)
    assert not ended.HasField("error"), ended.error.message
    (told,) = place.vm().exports
    assert place.folders() == [Path(told.directory).name], "nothing is left of an attempt that was ended"
    assert (place.vm().power, place.vm().state) == (STOPPED, VirtualMachine.STOPPED)
    assert place.truth(place.one) is not None


@pytest.mark.slow
def test_what_does_the_hosts_vm_state_report_say(engine: str, tmp_path: Path) -> None:
    """STOPPED, with the export beside it. A released VM is expected to be absent, and its absence is no event."""
    release = ("--export-policy", "ON_STOP", "--export-release", "true")
    with two_hosts(tmp_path, 1, engine, release) as hosts:
        place = hosts.take(running=True)
        place.one.control("durations", export=FOREVER)
        place.stop()
        export = place.newest()
        place.copying(export)
        told = place.vm()
        assert (told.power, told.state) == (STOPPED, VirtualMachine.EXPORTING)
        assert place.sync("hv01") == []
        place.one.control("durations", export=0)
        assert not place.client.wait(export).HasField("error")
        assert place.truth(place.one) is None
        told = place.vm()
        assert (told.power, told.state) == (STOPPED, VirtualMachine.STOPPED)
        assert told.released.host == "hosts/hv01"
        assert [export.directory for export in told.exports] == [told.released.directory]
        assert place.sync("hv01") == []
        assert place.vm().version == told.version, "its absence is no event"


@pytest.mark.slow
def test_what_if_it_is_exported_at_every_snapshot(hosts: Hosts) -> None:
    """The create is slower, and the stop is as it was; the snapshot is READY before the copy begins."""
    place = hosts.take(VirtualMachine.ON_SNAPSHOT)
    place.one.control("durations", export=FOREVER)
    create = place.client.create(place.vm_id, "second")
    place.copying(create)
    assert [s.state for s in place.client.list_snapshots(place.vm_id)] == [Snapshot.READY] * 2
    assert not place.now(create).done
    place.one.control("durations", export=0)
    assert not place.client.wait(create).HasField("error")
    (export,) = place.vm().exports
    assert place.folders() == [Path(export.directory).name]
    place.start()
    stopped = place.stop()
    assert [step.name for step in metadata_of(stopped).steps] == ["stop"]
    assert place.newest().name == stopped.name
