"""A disk that is full under the running daemon: it is told everywhere, and all of it ends by itself with room."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from demo.programs import Daemon, SimulatedHost
from snapshotd.api.v1 import admin_pb2
from tests.e2e.system import QUICK, Client, inventory, refusal, until


def health(client: Client, service: str) -> str:
    """Return the health of a service."""
    stub: Any = HealthStub(client.channel)  # its types do not know its methods
    return HealthCheckResponse.ServingStatus.Name(stub.Check(HealthCheckRequest(service=service)).status)


def followed(client: Client) -> bool:
    """Return whether the views hold the whole log."""
    status = client.admin.GetStatus(admin_pb2.GetStatusRequest())
    return all(view.position >= status.log_head_position for view in status.projections)


def shown(client: Client, *arguments: str) -> str:
    """Return what snapshotctl prints."""
    command = [sys.executable, "-m", "snapshotd.client", "--server", client.address, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout


@pytest.mark.slow
def test_a_full_disk_is_told_by_health_status_and_what_waits_and_ends_by_itself(tmp_path: Path) -> None:
    described, ids = inventory(["web01"], {})
    slow = ["--duration", "checkpoint=3000"]
    with SimulatedHost(tmp_path / "hv01", described, slow) as host, Daemon(tmp_path / "d", options=QUICK) as daemon:
        client = Client(daemon.address)
        client.register_host(host.port)
        client.register_vm(ids["web01"])
        under_way = client.create(ids["web01"], "first")
        until(lambda: bool(host.control("state")["vms"][0]["job"]))
        until(lambda: followed(client))  # else reads would wait for views that cannot be written
        # No file of the daemon may grow beyond this: as SQLite reports it, a quota that is used up.
        most, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (4096, hard))
        code, reason, said = refusal(lambda: client.register_host(host.port, host_id="hv02"))
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "LOG_UNAVAILABLE")
        assert f"there is no room for {tmp_path / 'd' / 'storage' / 'events.db'} (" in said
        until(lambda: health(client, "") == "NOT_SERVING")
        assert health(client, "snapshotd.api.v1.SnapshotService") == "NOT_SERVING"
        assert health(client, "snapshotd.api.v1.AdminService") == "SERVING"
        until(lambda: len(host.decisive()) == 1)
        status, waiting = shown(client, "status"), shown(client, "operation", "list", "--active")
        assert "Free some; snapshotd then goes on by itself." in status
        (problem,) = [line for line in status.splitlines() if line.startswith("event log")]
        assert "DISK_FULL" in problem
        assert "DISK_FULL" in waiting
        assert daemon.running
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (most, hard))
        until(lambda: health(client, "") == "SERVING")
        assert client.wait(under_way).HasField("response")
        assert len(host.decisive()) == 1
        client.register_host(host.port, host_id="hv02")
        assert "Problems" not in shown(client, "status")
        client.channel.close()
