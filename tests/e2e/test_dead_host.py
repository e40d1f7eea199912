"""A host that dies in the middle of a create and does not come back for long: a person settles it, and work goes on."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from snapshotd.api.v1 import admin_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.snapshot_pb2 import Snapshot
from tests.e2e.system import System, refusal, until


@pytest.mark.slow
def test_a_vm_of_a_dead_host_is_free_when_its_operation_was_given_up_and_works_when_the_host_is_back(
    tmp_path: Path,
) -> None:
    with System(tmp_path, ("web01",), ["--duration", "checkpoint=600000"]) as system:
        client, vm_id = system.client, system.ids["web01"]
        name = f"virtualMachines/{vm_id}"
        operation = client.create(vm_id, "one")
        until(lambda: system.truth_of(vm_id)["job"] == "CreatingSnapshot")
        said = admin_pb2.SettleOperationRequest(
            name=operation.name, outcome=admin_pb2.SettleOperationRequest.GIVEN_UP, reason="the host burnt"
        )
        code, reason, text = refusal(lambda: client.admin.SettleOperation(said))
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SETTLE_TOO_EARLY")
        assert "Hyper-V is at work on VM web01 (CREATE)" in text

        system.host.kill()
        settled = client.admin.SettleOperation(said)
        assert settled.done
        assert "settled step 1 as GIVEN_UP: the host burnt." in settled.error.message
        (snapshot,) = client.list_snapshots(vm_id)
        assert snapshot.state == Snapshot.ERROR
        client.vms.UnregisterVirtualMachine(vm_pb2.UnregisterVirtualMachineRequest(name=name))

        system.host.start()
        system.host.control("durations", checkpoint=0)
        until(lambda: not system.truth_of(vm_id)["job"])
        client.register_vm(vm_id)
        ended = client.wait(client.create(vm_id, "two"))
        assert not ended.HasField("error"), ended
        ready = {s.display_name: s.checkpoint_id for s in client.list_snapshots(vm_id) if s.state == Snapshot.READY}
        assert ready.keys() == {"two"}
        assert ready["two"] in {c["id"] for c in system.truth_of(vm_id)["checkpoints"]}
    log = system.daemon.log.read_text(encoding="utf-8")
    assert f"step 1 settled: the host burnt vm={vm_id} vm_name=web01 host=hv01 operation={operation.name}" in log
