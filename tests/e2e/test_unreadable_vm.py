"""A VM that its host cannot read, beside one that it can."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from snapshotd.api.v1 import host_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from tests.e2e.system import System, refusal


@pytest.mark.slow
def test_a_vm_that_its_host_cannot_read_is_left_out_of_a_sync_and_shown_as_such(tmp_path: Path) -> None:
    sync = host_pb2.SyncHostRequest(name="hosts/hv01")
    with System(tmp_path, ["web01", "db01"]) as system:
        hosts, bad = system.client.hosts, f"virtualMachines/{system.ids['db01']}"
        failure = {"cmdlet": "Get-VHD", "error_id": "OperationFailed", "message": "corrupted", "vm": "db01"}
        system.host.control("fail", **failure, count=99)
        found = hosts.DiscoverVirtualMachines(host_pb2.DiscoverVirtualMachinesRequest(name="hosts/hv01"))
        assert {vm.display_name: (vm.virtual_machine, list(vm.snapshot_blockers)) for vm in found.virtual_machines} == {
            "db01": (bad, ["UNREADABLE"]),
            "web01": (f"virtualMachines/{system.ids['web01']}", []),
        }
        synced = hosts.SyncHost(sync)
        assert (synced.virtual_machines_compared, list(synced.drifts)) == (1, [])
        assert list(synced.virtual_machines_skipped) == [bad]
        by_name = vm_pb2.RegisterVirtualMachineRequest(host="hosts/hv01", vm_name="db01")
        code, reason, message = refusal(lambda: system.client.vms.RegisterVirtualMachine(by_name))
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "HOST_COMMAND_FAILED")
        assert "corrupted" in message
        system.host.control("fail", **failure, count=0)
        synced = hosts.SyncHost(sync)
        assert (synced.virtual_machines_compared, list(synced.drifts)) == (2, [])
