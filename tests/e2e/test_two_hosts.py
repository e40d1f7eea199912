"""VMs that administrators move between two hosts, and two hosts that have one VM: idle, and amid operations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.longrunning.operations_pb2 import GetOperationRequest

from demo.programs import Daemon, SimulatedHost
from snapshotd.api.v1 import host_pb2, operation_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.executor_pb2 import RUNNING, STOPPED
from snapshotd.api.v1.snapshot_pb2 import Snapshot
from tests.e2e.system import QUICK, Client, inventory, metadata_of, refusal, until

HOSTS = ("hv01", "hv02")
NAMES = tuple(f"vm{n}" for n in range(1, 10))


@dataclass
class Pair:
    """Two hosts over one storage, and a daemon that serves both."""

    hosts: dict[str, SimulatedHost]
    client: Client
    ids: dict[str, str]

    def take(self) -> str:
        """Return a VM that no test has used, with a snapshot."""
        vm_id = self.ids.pop(next(iter(self.ids)))
        self.client.wait(self.client.create(vm_id, "base"))
        return vm_id

    def leave(self, vm_id: str, host: str = "hv01") -> Any:  # noqa: ANN401  (what the simulated host knows of it)
        """Have a VM leave its host, as soon as nothing is at work on it there."""
        until(lambda: self.truth(vm_id, host)["job"] == "")
        return self.hosts[host].control("move_out", vm=vm_id)["machine"]

    def move(self, vm_id: str) -> None:
        """Move a VM from the first host to the second."""
        self.hosts["hv02"].control("move_in", machine=self.leave(vm_id))

    def truth(self, vm_id: str, host: str) -> dict[str, Any]:
        """Return a VM as a host has it."""
        (found,) = [vm for vm in self.hosts[host].control("state")["vms"] if vm["id"] == vm_id]
        return dict(found)

    def sync(self, host: str) -> list[tuple[str, str, str]]:
        """Sync a host; return the drifts."""
        synced = self.client.hosts.SyncHost(host_pb2.SyncHostRequest(name=f"hosts/{host}"))
        return [(drift.kind, drift.recorded, drift.observed) for drift in synced.drifts]

    def vm(self, vm_id: str) -> vm_pb2.VirtualMachine:
        """Return a VM as it is on record."""
        return self.client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=f"virtualMachines/{vm_id}"))

    def compare(self, vm_id: str, host: str) -> None:
        """Compare the record of a VM with its host: where it is, its power, its tree and its current snapshot."""
        told, truth = self.vm(vm_id), self.truth(vm_id, host)
        assert told.host == f"hosts/{host}"
        assert told.power == {"Running": RUNNING, "Off": STOPPED}[truth["state"]]
        own = {s.checkpoint_id: s for s in self.client.list_snapshots(vm_id)}
        assert {s.state for s in own.values()} == {Snapshot.READY}
        assert {c["id"]: c["parent"] for c in truth["checkpoints"]} == {
            s.checkpoint_id: next((p.checkpoint_id for p in own.values() if p.name == s.parent), "")
            for s in own.values()
        }
        (current,) = [s.checkpoint_id for s in own.values() if s.current]
        assert current == truth["current"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    at = tmp_path_factory.mktemp("two")
    described, ids = inventory(NAMES, {})
    shared = ("--storage", str(at / "storage"))
    (at / "storage").mkdir()
    options = (*QUICK, "--hosts-sync-interval", "1 h")
    with (
        SimulatedHost(at / "hv01", described, shared) as one,
        SimulatedHost(at / "hv02", {"host": {"name": "hv02"}, "vms": []}, shared) as two,
        Daemon(at / "daemon", options=options) as daemon,
    ):
        client = Client(daemon.address)
        for host_id, host in zip(HOSTS, (one, two), strict=True):
            client.register_host(host.port, host_id=host_id)
        for vm_id in ids.values():
            client.register_vm(vm_id)
        yield Pair({"hv01": one, "hv02": two}, client, ids)
        client.channel.close()


@pytest.mark.slow
@pytest.mark.parametrize("order", [("hv02", "hv01"), ("hv01", "hv02")])
def test_a_vm_that_is_moved_at_rest_is_followed_whichever_host_is_synced_first(
    pair: Pair, order: tuple[str, str]
) -> None:
    vm_id = pair.take()
    pair.move(vm_id)
    told = [drift for host in order for drift in pair.sync(host)]
    moved = ("VM_MOVED", "hv01", "hv02")
    missing = [("VM_MISSING", "RUNNING", "ABSENT"), moved, ("VM_FOUND", "ABSENT", "RUNNING")]
    assert told == ([moved] if order[0] == "hv02" else missing)
    pair.compare(vm_id, "hv02")
    made = pair.client.wait(pair.client.create(vm_id, "there"))
    assert not made.HasField("error"), made.error.message
    pair.compare(vm_id, "hv02")


@pytest.mark.slow
@pytest.mark.parametrize("first", ["the new host is synced while the old one is away", "the old one is back"])
def test_a_create_whose_vm_is_moved_while_its_answer_is_lost_ends_on_the_other_host(pair: Pair, first: str) -> None:
    vm_id = pair.take()
    one = pair.hosts["hv01"]
    one.control("durations", checkpoint=600_000)
    operation = pair.client.create(vm_id, "moved")
    until(lambda: pair.truth(vm_id, "hv01")["job"] == "CreatingSnapshot")
    one.control("network", up=False)
    one.control("durations", checkpoint=0)
    pair.move(vm_id)
    if first.startswith("the new host"):
        assert pair.sync("hv02") == [("VM_CLAIMED_BY_TWO_HOSTS", "hv01", "hv01, hv02")]
        (condition,) = pair.vm(vm_id).conditions
        assert "hv01, where it was, cannot be asked" in condition.message
        one.control("network", up=True)
        assert pair.sync("hv02") == [("VM_MOVED", "hv01", "hv02")]
    else:
        one.control("network", up=True)
    ended = pair.client.wait(operation)
    assert not ended.HasField("error"), ended.error.message
    pair.compare(vm_id, "hv02")
    made = [line for host in pair.hosts.values() for line in host.decisive() if line["operation"] == operation.name]
    assert [line["effect"] for line in made] == ["checkpoint_made"]


@pytest.mark.slow
@pytest.mark.parametrize("order", [("hv02",), ("hv01", "hv02")])
def test_a_delete_whose_vm_is_moved_while_its_disks_merge_ends_on_the_other_host(
    pair: Pair, order: tuple[str, ...]
) -> None:
    vm_id = pair.take()
    one, two = pair.hosts.values()
    pair.client.wait(pair.client.create(vm_id, "second"))
    (base,) = [s for s in pair.client.list_snapshots(vm_id) if s.display_name == "base"]
    for host in (one, two):
        host.control("durations", merge=600_000)
    operation = pair.client.snapshots.DeleteSnapshot(snapshot_pb2.DeleteSnapshotRequest(name=base.name))
    waiting = operation_pb2.Step.WAITING

    def merging() -> bool:
        steps = metadata_of(pair.client.operations.GetOperation(GetOperationRequest(name=operation.name))).steps
        return any(step.state == waiting for step in steps)

    until(merging)
    pair.move(vm_id)
    for host_id in order:
        pair.sync(host_id)
    two.control("durations", merge=0)
    ended = pair.client.wait(operation)
    one.control("durations", merge=0)
    assert not ended.HasField("error"), ended.error.message
    pair.compare(vm_id, "hv02")


@pytest.mark.slow
def test_a_vm_that_two_hosts_have_is_left_alone_until_one_has_it(pair: Pair) -> None:
    vm_id = pair.take()
    machine = pair.leave(vm_id)
    for host in pair.hosts.values():
        host.control("move_in", machine=machine)
    assert pair.sync("hv02") == [("VM_CLAIMED_BY_TWO_HOSTS", "hv01", "hv01, hv02")]
    assert pair.sync("hv01") == []
    code, reason, text = refusal(lambda: pair.client.create(vm_id, "refused"))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CLAIMED_BY_TWO_HOSTS")
    assert "hv01 and hv02 each have it" in text
    pair.leave(vm_id, "hv02")
    made = pair.client.wait(pair.client.create(vm_id, "again"))
    assert not made.HasField("error"), "the look at a refusal finds that one has it"
    pair.compare(vm_id, "hv01")


@pytest.mark.slow
def test_a_vm_whose_host_is_gone_for_good_is_unregistered_and_registered_where_it_is(pair: Pair) -> None:
    vm_id = pair.take()
    one = pair.hosts["hv01"]
    pair.move(vm_id)
    one.control("network", up=False)
    try:
        assert pair.sync("hv02") == [("VM_CLAIMED_BY_TWO_HOSTS", "hv01", "hv01, hv02")]
        name = f"virtualMachines/{vm_id}"
        pair.client.vms.UnregisterVirtualMachine(vm_pb2.UnregisterVirtualMachineRequest(name=name))
        request = vm_pb2.RegisterVirtualMachineRequest(host="hosts/hv02", vm_id=vm_id)
        assert not pair.client.vms.RegisterVirtualMachine(request).conditions
        made = pair.client.wait(pair.client.create(vm_id, "there"))
        assert not made.HasField("error"), made.error.message
        pair.compare(vm_id, "hv02")
    finally:
        one.control("network", up=True)
