"""One view that has stopped: what reads it is refused, everything else goes on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from google.longrunning.operations_pb2 import CancelOperationRequest, ListOperationsRequest

from demo.programs import Daemon, SimulatedHost
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.audit_pb2 import ListEventsRequest
from tests.e2e.system import QUICK, Client, inventory, metadata_of, refusal, until


@pytest.mark.slow
@pytest.mark.parametrize(("table", "view"), [("vms", "inventory"), ("snapshots", "tree"), ("operations", "operations")])
def test_commands_are_carried_out_and_answered_whichever_view_has_stopped(
    tmp_path: Path, table: str, view: str
) -> None:
    described, ids = inventory(["web01", "web02"], {})
    with SimulatedHost(tmp_path / "hv01", described) as host, Daemon(tmp_path / "daemon", options=QUICK) as daemon:
        client = Client(daemon.address)
        client.register_host(host.port)
        client.register_vm(ids["web01"])
        client.wait(client.create(ids["web01"], "first"))
        with closing(sqlite3.connect(tmp_path / "daemon" / "storage" / "views.db")) as spoiler:
            failing = "BEGIN SELECT RAISE(ABORT, 'a defect'); END"
            spoiler.execute(f"CREATE TRIGGER spoil BEFORE INSERT ON {table} {failing}")
            spoiler.commit()
        assert client.register_vm(ids["web02"]).display_name == "web02"
        asked = client.create(ids["web01"], "second")
        assert metadata_of(asked).virtual_machine == f"virtualMachines/{ids['web01']}"
        ended = ListEventsRequest(operation=asked.name, type="OperationSucceeded")
        until(lambda: len(client.audit.ListEvents(ended).events) == 1)
        assert len(host.decisive()) == 2
        assert client.wait(asked).done
        late = CancelOperationRequest(name=asked.name)
        assert refusal(lambda: client.operations.CancelOperation(late))[1] == "CANCEL_TOO_LATE"
        reads = {
            "inventory": lambda: client.vms.ListVirtualMachines(vm_pb2.ListVirtualMachinesRequest()),
            "tree": lambda: client.list_snapshots(ids["web01"]),
            "operations": lambda: client.operations.ListOperations(ListOperationsRequest()),
        }
        code, reason, said = refusal(reads[view])
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "VIEW_STOPPED")
        assert f"Cannot read the {view} view: it stopped" in said
        if view == "operations":
            assert len(client.list_snapshots(ids["web01"])) == 2
        client.channel.close()
