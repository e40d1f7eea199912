"""What somebody else does on a host is found at the next comparison, without anybody asking for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapshotd.api.v1 import audit_pb2, host_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from tests.e2e.system import System, until

HOST = host_pb2.GetHostRequest(name="hosts/hv01")


@pytest.mark.slow
def test_what_an_administrator_does_is_followed_and_a_host_where_nothing_happens_leaves_no_events(
    tmp_path: Path,
) -> None:
    with System(tmp_path, daemon_options=("--hosts-sync-interval", "1 s")) as system:
        client, vm_id = system.client, system.ids["web01"]

        def compared_again() -> None:
            last = client.hosts.GetHost(HOST).last_sync_time
            until(lambda: client.hosts.GetHost(HOST).last_sync_time.ToNanoseconds() > last.ToNanoseconds())

        for _ in ("the executor has attached", "at an interval"):
            compared_again()
        before = client.events()
        for _ in range(2):
            compared_again()
        assert client.events() == before
        system.host.control("admin", do="turn_off", vm=vm_id)
        get = vm_pb2.GetVirtualMachineRequest(name=f"virtualMachines/{vm_id}")
        until(lambda: client.vms.GetVirtualMachine(get).state == vm_pb2.VirtualMachine.STOPPED)
        drifts = client.audit.ListEvents(audit_pb2.ListEventsRequest(type="DriftDetected")).events
        assert [(e.actor, e.data["kind"]) for e in drifts] == [("hv01", "POWER_STATE_CHANGED")]
