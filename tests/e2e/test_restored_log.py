"""A storage directory that was restored from a backup: nothing is taken for done that was not, and all is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import pytest
from google.longrunning.operations_pb2 import CancelOperationRequest

from snapshotd.api.v1 import host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.admin_pb2 import GetStatusRequest
from tests.e2e.system import Client, System, refusal, until


@pytest.mark.slow
def test_after_a_restore_from_a_backup_nothing_is_reported_done_and_the_vm_can_be_unregistered(tmp_path: Path) -> None:
    with System(tmp_path, states={"web01": "Off"}) as system:
        vm_id = system.ids["web01"]
        storage, backup = tmp_path / "daemon" / "storage", tmp_path / "backup"
        first = system.client.wait(system.client.create(vm_id, "a"))
        assert first.HasField("response")
        system.daemon.stop()
        shutil.copytree(storage, backup)
        system.daemon.start()
        client = again(system)
        lost = client.wait(client.create(vm_id, "b"))
        assert lost.HasField("response")
        effects = len(system.host.decisive())
        system.daemon.stop()
        shutil.rmtree(storage)
        shutil.copytree(backup, storage)
        system.daemon.start()

        client = again(system)
        name = f"virtualMachines/{vm_id}"
        until(lambda: bool(client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=name)).conditions))
        (told,) = client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=name)).conditions
        assert told.reason == "LOG_ROLLED_BACK"
        (a,) = client.list_snapshots(vm_id)
        revert = snapshot_pb2.RevertToSnapshotRequest(name=a.name)
        for call in (lambda: client.snapshots.RevertToSnapshot(revert), lambda: client.create(vm_id, "d")):
            assert refusal(call)[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "LOG_ROLLED_BACK")
        cancel = CancelOperationRequest(name=lost.name)
        assert refusal(lambda: client.operations.CancelOperation(cancel))[0] is grpc.StatusCode.NOT_FOUND
        assert len(system.host.decisive()) == effects
        client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))
        client.vms.UnregisterVirtualMachine(vm_pb2.UnregisterVirtualMachineRequest(name=name))


@pytest.mark.slow
def test_after_a_restore_the_vm_can_be_taken_over_and_worked_on(tmp_path: Path) -> None:
    with System(tmp_path, states={"web01": "Off"}) as system:
        vm_id = system.ids["web01"]
        storage, backup = tmp_path / "daemon" / "storage", tmp_path / "backup"
        system.client.wait(system.client.create(vm_id, "a"))
        system.daemon.stop()
        shutil.copytree(storage, backup)
        system.daemon.start()
        client = again(system)
        client.wait(client.create(vm_id, "b"))
        system.daemon.stop()
        shutil.rmtree(storage)
        shutil.copytree(backup, storage)
        system.daemon.start()

        client = again(system)
        name = f"virtualMachines/{vm_id}"
        client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))
        assert refusal(lambda: client.create(vm_id, "c"))[1] == "LOG_ROLLED_BACK"
        plan = vm_pb2.TakeOverVirtualMachineRequest(name=name, validate_only=True)
        (marked,) = client.vms.TakeOverVirtualMachine(plan).taken_over.marked_checkpoints
        assert marked.display_name.startswith("b #")
        whole = client.hosts.TakeOverHost(host_pb2.TakeOverHostRequest(name="hosts/hv01", reason="restored"))
        assert (whole.changes_hands, [vm.virtual_machine for vm in whole.virtual_machines]) == (False, [name])
        shown = client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=name))
        assert not shown.conditions

        effects = len(system.host.decisive())
        (a,) = client.list_snapshots(vm_id)
        assert client.wait(client.create(vm_id, "c")).HasField("response")
        revert = snapshot_pb2.RevertToSnapshotRequest(name=a.name)
        assert client.wait(client.snapshots.RevertToSnapshot(revert)).HasField("response")
        delete = snapshot_pb2.DeleteSnapshotRequest(name=a.name)
        assert client.wait(client.snapshots.DeleteSnapshot(delete)).HasField("response")
        done = system.host.decisive()[effects:]
        assert [line["effect"] for line in done] == ["checkpoint_made", "checkpoint_applied", "checkpoint_removed"], (
            done
        )
        names = sorted(c["name"].partition(" #")[0] for c in system.truth_of(vm_id)["checkpoints"])
        assert names == ["b", "c"]
        client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))
        assert not client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=name)).conditions


def again(system: System) -> Client:
    """Return a client of the daemon that was started again, once an executor has attached."""
    system.client.channel.close()
    system.client = Client(system.daemon.address)
    until(lambda: bool(system.client.admin.GetStatus(GetStatusRequest()).executors))
    return system.client
