"""An event log whose disk fails under the running daemon: it ends, says why, and finds its way back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from demo.programs import Daemon
from snapshotd.api.v1 import host_pb2
from tests.e2e.system import Client, refusal

NO_FSYNC = """\
import os, runpy, sqlite3, sys

marker, connect = sys.argv.pop(1), sqlite3.connect

class Cursor(sqlite3.Cursor):
    def execute(self, statement, *values):
        if statement == "COMMIT" and os.path.exists(marker):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return super().execute(statement, *values)

class Connection(sqlite3.Connection):
    def cursor(self, factory=Cursor):
        return super().cursor(factory)

sqlite3.connect = lambda *given, **named: connect(*given, **{"factory": Connection, **named})
runpy.run_module("snapshotd", run_name="__main__", alter_sys=True)
"""
"""`snapshotd`, after the name of a file: while that file is there, no commit of the log reaches the disk."""


def watch(client: Client) -> Any:  # noqa: ANN401  (its types do not know its methods)
    """Watch the health of the whole."""
    stub: Any = HealthStub(client.channel)
    return stub.Watch(HealthCheckRequest())


@pytest.mark.slow
def test_a_daemon_whose_log_breaks_ends_with_a_code_of_its_own_and_can_be_started_again(tmp_path: Path) -> None:
    failing, log = tmp_path / "failing", tmp_path / "storage" / "events.db"
    daemon = Daemon(tmp_path, executor=False)
    daemon._program = (sys.executable, "-c", NO_FSYNC, str(failing))
    with daemon:
        client = Client(daemon.address)
        client.register_host(5985)
        health = watch(client)
        assert next(health).status == HealthCheckResponse.SERVING
        failing.touch()
        code, reason, said = refusal(lambda: client.register_host(5985, host_id="hv02"))
        assert (code, reason) == (grpc.StatusCode.UNKNOWN, "APPEND_UNCERTAIN")
        assert f"{log} failed (disk I/O error)" in said
        assert next(health).status == HealthCheckResponse.NOT_SERVING
        assert daemon.wait() == 3
        last = (tmp_path / "daemon.log").read_text(encoding="utf-8").splitlines()[-1]
        assert last.startswith(f"snapshotd serve: Cannot go on: writing or reading {log} failed (disk I/O error)")
        assert "Check the disk, then start again" in last
        failing.unlink()
        daemon.start()
        client.channel.close()
        client = Client(daemon.address)
        client.register_host(5985, host_id="hv02")
        hosts = client.hosts.ListHosts(host_pb2.ListHostsRequest()).hosts
        assert [host.name for host in hosts] == ["hosts/hv01", "hosts/hv02"]
        client.channel.close()
