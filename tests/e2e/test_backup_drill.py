"""The drill: a backup taken amid fifty operations, restored elsewhere with the same host. Nothing happens twice."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from demo.programs import Daemon, Executor
from snapshotd.api.v1 import host_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.admin_pb2 import GetStatusRequest
from snapshotd.upkeep.backup import back_up
from snapshotd.upkeep.restore import restore
from tests.e2e.system import QUICK, Client, System, refusal, until

VMS = tuple(f"vm{n:02}" for n in range(50))
LATER = VMS[40:]
"""What is asked of these is not in the backup at all."""
AGAIN = VMS[::5]
"""These are worked on after the restore: some of each sort."""
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def rolled_back(client: Client) -> set[str]:
    """Return the ids of the VMs that are known to be ahead of the log."""
    vms = client.vms.ListVirtualMachines(vm_pb2.ListVirtualMachinesRequest(page_size=100)).virtual_machines
    return {vm.uid for vm in vms if [c.reason for c in vm.conditions] == ["LOG_ROLLED_BACK"]}


def active(client: Client) -> int:
    """Return how many operations have not ended."""
    counts = client.admin.GetStatus(GetStatusRequest()).operations
    return counts.pending + counts.running


@pytest.mark.slow
def test_a_backup_amid_fifty_operations_is_restored_elsewhere_and_nothing_is_done_twice(tmp_path: Path) -> None:
    storage, elsewhere = tmp_path / "daemon" / "storage", tmp_path / "elsewhere"
    off = dict.fromkeys(VMS, "Off")
    with System(tmp_path, VMS, ("--duration", "checkpoint=30"), states=off) as system:
        ids, client = system.ids, system.client
        asked = [client.create(ids[name], "first") for name in VMS if name not in LATER]
        until(lambda: len(system.host.decisive()) >= 10)
        taken = back_up(storage / "events.db", storage / "tokens.json", tmp_path, NOW)
        asked += [client.create(ids[name], "first") for name in LATER]
        assert all(client.wait(operation).HasField("response") for operation in asked)
        system.executor.stop()
        system.daemon.stop()
        made = system.host.decisive()
        assert Counter(line["vm"] for line in made) == dict.fromkeys(ids.values(), 1)

        restore(taken.path, elsewhere / "storage", elsewhere / "storage" / "tokens.json", NOW, replace=False)
        with (
            Daemon(elsewhere, executor=False, options=QUICK) as daemon,
            Executor(tmp_path / "executor2", daemon.address, ["hv01"]),
        ):
            client = Client(daemon.address)
            until(lambda: bool(client.admin.GetStatus(GetStatusRequest()).executors))
            client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))
            known = {ids[name] for name in VMS if client.list_snapshots(ids[name])}
            ahead = rolled_back(client)
            assert ahead >= {ids[name] for name in LATER}
            assert known - ahead, "what had ended before the backup is as it was"
            code, reason, _ = refusal(lambda: client.create(ids[LATER[0]], "second"))
            assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LOG_ROLLED_BACK")
            assert system.host.decisive() == made

            client.hosts.TakeOverHost(host_pb2.TakeOverHostRequest(name="hosts/hv01", reason="restored a backup"))
            until(lambda: not active(client))
            assert rolled_back(client) == set()
            assert system.host.decisive() == made
            again = [client.create(ids[name], "second") for name in AGAIN]
            assert all(client.wait(operation).HasField("response") for operation in again)
            truth = {vm["id"]: vm["checkpoints"] for vm in system.host.control("state")["vms"]}
            names = {vm: " ".join(sorted(c["name"].partition(" #")[0] for c in found)) for vm, found in truth.items()}
            twice = dict.fromkeys((ids[name] for name in AGAIN), "first second")
            assert names == dict.fromkeys(ids.values(), "first") | twice
            client.channel.close()
