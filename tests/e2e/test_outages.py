"""Outages beside kills: a frozen executor, a host that restarts, a lost journal, a second installation."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path

import grpc
import pytest
from google.longrunning.operations_pb2 import GetOperationRequest

from demo.programs import Daemon, Executor
from snapshotd.api.v1 import admin_pb2, host_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.api.v1.snapshot_pb2 import Snapshot
from tests.e2e.system import QUICK, Client, System, metadata_of, refusal, until


@pytest.mark.slow
def test_a_frozen_executor_is_replaced_and_what_it_does_when_it_thaws_counts_once(tmp_path: Path) -> None:
    with System(tmp_path, ("web01",), ["--duration", "checkpoint=600000"]) as system:
        vm_id = system.ids["web01"]
        with Executor(tmp_path / "second", system.daemon.address, ["hv01"]):
            operation = system.client.create(vm_id, "one")
            until(lambda: system.truth_of(vm_id)["job"] == "CreatingSnapshot")
            os.kill(system.executor.pid, signal.SIGSTOP)
            system.host.control("durations", checkpoint=0)
            try:
                ended = system.client.wait(operation)
            finally:
                os.kill(system.executor.pid, signal.SIGCONT)
            assert not ended.HasField("error")
            again = system.client.wait(system.client.create(vm_id, "two"))
            assert not again.HasField("error")
        effects = [(e["operation"], e["effect"]) for e in system.host.decisive()]
        assert effects == [(operation.name, "checkpoint_made"), (again.name, "checkpoint_made")]


@pytest.mark.slow
def test_a_host_that_restarts_in_the_middle_of_a_create_has_one_checkpoint_in_the_end(tmp_path: Path) -> None:
    with System(tmp_path, ("web01",), ["--duration", "checkpoint=600000"]) as system:
        vm_id = system.ids["web01"]
        operation = system.client.create(vm_id, "one")
        until(lambda: system.truth_of(vm_id)["job"] == "CreatingSnapshot")
        system.host.control("restart_host")
        system.host.control("durations", checkpoint=0)
        # The VM is off now, so the first attempt's `before` is not what is there; disks can be taken all the same.
        ended = system.client.wait(operation)
        assert not ended.HasField("error"), (ended.error.message, metadata_of(ended))
        truth = system.truth_of(vm_id)
        assert truth["state"] == "Off"
        assert [e["effect"] for e in system.host.decisive()] == ["checkpoint_made"]
        (snapshot,) = system.client.list_snapshots(vm_id)
        assert snapshot.state == Snapshot.READY
        assert [c["id"] for c in truth["checkpoints"]] == [snapshot.checkpoint_id]


@pytest.mark.slow
def test_a_lost_journal_is_made_anew_and_nothing_is_done_twice(tmp_path: Path) -> None:
    with System(tmp_path, ("web01",)) as system:
        vm_id = system.ids["web01"]
        system.client.wait(system.client.create(vm_id, "one"))
        system.host.control("lose_journal", vm="web01")
        ended = system.client.wait(system.client.create(vm_id, "two"))
        assert not ended.HasField("error"), ended
        assert len(system.host.decisive()) == len(system.truth_of(vm_id)["checkpoints"]) == 2


def installation_of(client: Client) -> str:
    """Return the id of the installation that a client talks to."""
    return client.admin.GetStatus(admin_pb2.GetStatusRequest()).installation_id


@pytest.mark.slow
def test_a_second_installation_is_kept_from_acting_and_says_why(tmp_path: Path) -> None:
    with System(tmp_path, ("web01",)) as system, Daemon(tmp_path / "other", options=QUICK) as other:
        vm_id, ids = system.ids["web01"], [installation_of(system.client), ""]
        client = Client(other.address)
        ids[1] = installation_of(client)
        client.register_host(system.host.port)
        client.register_vm(vm_id)
        # As long as neither has done anything on the host, its journals are nobody's.
        assert not client.hosts.GetHost(host_pb2.GetHostRequest(name="hosts/hv01")).HasField("wait")
        system.client.wait(system.client.create(vm_id, "one"))
        client.create(vm_id, "two")
        until(lambda: metadata_of(next(client.all_operations())).wait.reason == "FOREIGN_INSTALLATION")
        said = metadata_of(next(client.all_operations())).wait.message
        assert all(text in said for text in (*ids, "host.json"))
        discover = host_pb2.DiscoverVirtualMachinesRequest(name="hosts/hv01")
        assert client.hosts.DiscoverVirtualMachines(discover).wait.reason == "FOREIGN_INSTALLATION"
        assert not system.client.hosts.DiscoverVirtualMachines(discover).HasField("wait")
        shown = client.hosts.GetHost(host_pb2.GetHostRequest(name="hosts/hv01"))
        (told,) = client.admin.GetStatus(admin_pb2.GetStatusRequest()).hosts
        assert (shown.state, told.reachable) == (host_pb2.Host.REACHABLE, True)
        for wait in (shown.wait, told.wait):
            assert wait.reason == "FOREIGN_INSTALLATION"
            assert all(text in wait.message for text in (*ids, "host.json"))
        for identity in ({"vm_id": str(uuid.uuid4())}, {"vm_name": "web01"}):
            request = vm_pb2.RegisterVirtualMachineRequest(host="hosts/hv01", **identity)  # type: ignore[arg-type]
            code, reason, message = refusal(lambda request=request: client.vms.RegisterVirtualMachine(request))  # type: ignore[misc]
            assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FOREIGN_INSTALLATION")
            assert all(text in message for text in (*ids, "host.json"))
        system.client.wait(system.client.create(vm_id, "three"))
        names = [c["name"].partition(" #")[0] for c in system.truth_of(vm_id)["checkpoints"]]
        assert (names, len(system.host.decisive())) == (["one", "three"], 2)
        client.channel.close()


@pytest.mark.slow
def test_a_second_installation_takes_a_host_over_while_the_first_still_runs(tmp_path: Path) -> None:
    with System(tmp_path, ("web01",)) as system, Daemon(tmp_path / "other", options=QUICK) as other:
        vm_id, first = system.ids["web01"], system.client
        first.wait(first.create(vm_id, "one"))
        client = Client(other.address)
        client.register_host(system.host.port)
        register = vm_pb2.RegisterVirtualMachineRequest(host="hosts/hv01", vm_id=vm_id)
        until(lambda: bool(client.admin.GetStatus(admin_pb2.GetStatusRequest()).executors))
        assert refusal(lambda: client.vms.RegisterVirtualMachine(register))[1] == "FOREIGN_INSTALLATION"
        taken = client.hosts.TakeOverHost(host_pb2.TakeOverHostRequest(name="hosts/hv01", reason="moved"))
        assert (taken.former_installation_id, taken.unregistered_count) == (installation_of(first), 1)
        assert not client.vms.RegisterVirtualMachine(register).conditions

        effects = len(system.host.decisive())
        refused = first.create(vm_id, "two")
        until(
            lambda: metadata_of(first.operations.GetOperation(GetOperationRequest(name=refused.name))).wait.reason != ""
        )
        wait = metadata_of(first.operations.GetOperation(GetOperationRequest(name=refused.name))).wait
        assert wait.reason in ("FOREIGN_INSTALLATION", "LOG_ROLLED_BACK")
        first.hosts.DiscoverVirtualMachines(host_pb2.DiscoverVirtualMachinesRequest(name="hosts/hv01"))
        (told,) = first.admin.GetStatus(admin_pb2.GetStatusRequest()).hosts
        assert told.wait.reason == "FOREIGN_INSTALLATION"
        assert installation_of(client) in told.wait.message
        assert len(system.host.decisive()) == effects

        assert client.wait(client.create(vm_id, "three")).HasField("response")
        names = [c["name"].partition(" #")[0] for c in system.truth_of(vm_id)["checkpoints"]]
        assert (names, len(system.host.decisive())) == (["one", "three"], effects + 1)

        # The first one takes the host back: what it had under way ends, and is not done.
        back = first.hosts.TakeOverHost(host_pb2.TakeOverHostRequest(name="hosts/hv01"))
        (vm,) = back.virtual_machines
        assert list(vm.operations_ended) == [refused.name]
        assert first.wait(first.create(vm_id, "five")).HasField("response")
        names = [c["name"].partition(" #")[0] for c in system.truth_of(vm_id)["checkpoints"]]
        assert names == ["one", "three", "five"]
        client.channel.close()


@pytest.mark.slow
def test_what_was_done_by_hand_while_nobody_looked_is_found_when_an_executor_comes_back(tmp_path: Path) -> None:
    with System(tmp_path, ("web01",)) as system:
        vm_id = system.ids["web01"]
        system.client.wait(system.client.create(vm_id, "one"))
        (snapshot,) = system.client.list_snapshots(vm_id)
        system.executor.stop()
        system.host.control("admin", do="remove", vm="web01", checkpoint=snapshot.checkpoint_id)
        system.executor.start()
        until(lambda: system.client.list_snapshots(vm_id)[0].state == Snapshot.ERROR)
        (found,) = system.client.list_snapshots(vm_id)
        assert found.failure.reason == "CHECKPOINT_MISSING"
        synced = system.client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))
        assert list(synced.drifts) == []


@pytest.mark.slow
def test_a_turn_off_goes_past_a_shutdown_that_hangs_in_its_guest(tmp_path: Path) -> None:
    with System(tmp_path, ("web01",), ["--duration", "shutdown=600000"]) as system:
        vm_id = system.ids["web01"]
        stop = system.client.vms.StopVirtualMachine
        name = f"virtualMachines/{vm_id}"
        hanging = stop(vm_pb2.StopVirtualMachineRequest(name=name, mode=vm_pb2.StopVirtualMachineRequest.SHUTDOWN))
        until(lambda: system.truth_of(vm_id)["job"] is not None)
        turn_off = stop(vm_pb2.StopVirtualMachineRequest(name=name, mode=vm_pb2.StopVirtualMachineRequest.TURN_OFF))
        ended = system.client.wait(turn_off)
        assert not ended.HasField("error"), (ended.error.message, metadata_of(ended))
        assert metadata_of(system.client.wait(hanging)).state == OperationMetadata.CANCELLED
        assert system.truth_of(vm_id)["state"] == "Off"
        assert [(e["operation"], e["effect"]) for e in system.host.decisive()] == [(turn_off.name, "power_changed")]
