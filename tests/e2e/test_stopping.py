"""What stopping means for calls and for what is under way on a host."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import grpc
import pytest
from google.longrunning.operations_pb2 import GetOperationRequest

from demo.programs import Daemon, Executor, SimulatedHost
from tests.e2e.system import QUICK, Client, inventory, refusal, until


def working(host: SimulatedHost) -> bool:
    """Return whether the hypervisor is at work on a VM."""
    return any(vm["job"] for vm in host.control("state")["vms"])


@pytest.mark.slow
def test_a_stopping_service_refuses_changes_answers_reads_and_ends_at_once_at_a_second_signal(tmp_path: Path) -> None:
    described, ids = inventory(["web01", "web02"], {})
    slow = ["--duration", "checkpoint=60000"]
    with SimulatedHost(tmp_path / "hv01", described, slow) as host, Daemon(tmp_path / "d", options=QUICK) as daemon:
        client = Client(daemon.address)
        client.register_host(host.port)
        for vm_id in ids.values():
            client.register_vm(vm_id)
        under_way = client.create(ids["web01"], "slow")
        until(lambda: working(host))
        os.kill(daemon.pid, signal.SIGTERM)
        until(lambda: "stopping: nothing new begins" in daemon.log.read_text(encoding="utf-8"))
        code, reason, said = refusal(lambda: client.create(ids["web02"], "late"))
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "STOPPING")
        assert "Try again when it is back" in said
        assert not client.operations.GetOperation(GetOperationRequest(name=under_way.name)).done
        os.kill(daemon.pid, signal.SIGTERM)
        assert daemon.wait(timeout_s=10) == 0
        assert working(host)
        host.control("durations", checkpoint=0)
        daemon.start()
        client.channel.close()
        client = Client(daemon.address)
        assert client.wait(under_way).HasField("response")
        assert len(host.decisive()) == 1
        client.channel.close()


@pytest.mark.slow
def test_an_executor_ends_at_once_at_a_second_signal(tmp_path: Path) -> None:
    described, ids = inventory(["web01"], {})
    slow = ["--duration", "checkpoint=60000"]
    with SimulatedHost(tmp_path / "hv01", described, slow) as host, Daemon(tmp_path / "d", executor=False) as daemon:
        executor = Executor(tmp_path / "x", daemon.address)
        executor.start()
        client = Client(daemon.address)
        client.register_host(host.port)
        client.register_vm(ids["web01"])
        client.create(ids["web01"], "slow")
        until(lambda: working(host))
        os.kill(executor.pid, signal.SIGTERM)
        until(lambda: "stopping: 1 commands still run" in executor.log.read_text(encoding="utf-8"))
        os.kill(executor.pid, signal.SIGTERM)
        assert executor.wait(timeout_s=10) == 0
        client.channel.close()
