"""The real server over a real log in this process: what a full disk and a stopped projection look like from outside."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.longrunning.operations_pb2 import ListOperationsRequest
from google.longrunning.operations_pb2_grpc import OperationsStub
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from snapshotd.api.v1 import admin_pb2, audit_pb2, executor_pb2, host_pb2
from snapshotd.api.v1.admin_pb2_grpc import AdminServiceStub
from snapshotd.api.v1.audit_pb2_grpc import AuditServiceStub
from snapshotd.api.v1.executor_pb2_grpc import ExecutorServiceStub
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.domain.ids import VmId
from tests.contract.failing_commits import failing_commit
from tests.contract.logs import limit, log_pages
from tests.integration.whole_server import Served, serve


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve(tmp_path) as running:
        yield running


def host_request(host_id: str, ca_file: str = "") -> host_pb2.RegisterHostRequest:
    """Ask for a host to be registered."""
    host = host_pb2.Host(address="10.0.0.1", credential="hv", transport=host_pb2.Host.NTLM_HTTPS, ca_file=ca_file)
    return host_pb2.RegisterHostRequest(host_id=host_id, host=host)


async def register(served: Served, request: host_pb2.RegisterHostRequest) -> host_pb2.Host:
    """Register a host, with the projections following."""
    head = served.log.head_position()
    call = HostServiceStub(served.channel).RegisterHost(request)
    await served.log.wait_past(head, 10)
    await served.projections.catch_up()
    return await call


async def test_a_full_disk_refuses_the_call_and_the_service_goes_on_when_there_is_room(served: Served) -> None:
    request = host_request("hv01", ca_file="/" + "x" * 100_000)
    limit(served.log, pages=log_pages(served.log))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await HostServiceStub(served.channel).RegisterHost(request)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "nothing was recorded" in str(refused.value.details())
    assert served.log.head_position() == 0
    limit(served.log, pages=1_000_000)
    assert (await register(served, request)).name == "hosts/hv01"


async def test_a_call_whose_outcome_the_log_does_not_tell_says_so_and_ends_the_client_with_unavailable(
    served: Served,
) -> None:
    with (
        failing_commit(served.log, goes_through=False, code=sqlite3.SQLITE_IOERR_FSYNC),
        Server(served.server.address, "ann", timeout_s=10) as client,
        pytest.raises(Failed, match="Cannot tell whether this was recorded") as failed,
    ):
        await asyncio.to_thread(client.call, client.hosts.RegisterHost, host_request("hv01"))
    assert (failed.value.reason, failed.value.exit_code) == ("APPEND_UNCERTAIN", ExitCode.UNAVAILABLE)


def spoil(served: Served, table: str) -> None:
    """Let the projection of a table stop at the next event."""
    with closing(sqlite3.connect(served.storage / "views.db")) as spoiler:
        spoiler.execute(f"DROP TABLE {table}")
        spoiler.commit()


async def test_a_projection_that_stops_shows_in_health_and_status_and_refuses_what_reads_it(served: Served) -> None:
    await register(served, host_request("hv01"))
    spoil(served, "events")
    assert (await register(served, host_request("hv02"))).name == "hosts/hv02"
    hosts = await HostServiceStub(served.channel).ListHosts(host_pb2.ListHostsRequest())
    assert [h.name for h in hosts.hosts] == ["hosts/hv01", "hosts/hv02"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await AuditServiceStub(served.channel).ListEvents(audit_pb2.ListEventsRequest())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "Cannot read the audit view: it stopped after position 1 of the log" in str(refused.value.details())
    assert "stop the service, and run `snapshotd check`" in str(refused.value.details())
    served.server.show(served.projections.views.progress())
    health: Any = HealthStub(served.channel)  # its types do not know its methods
    for name, state in (("audit", "NOT_SERVING"), ("tree", "SERVING")):
        checked = await health.Check(HealthCheckRequest(service=f"snapshotd.projection.{name}"))
        assert HealthCheckResponse.ServingStatus.Name(checked.status) == state
    status = await AdminServiceStub(served.channel).GetStatus(admin_pb2.GetStatusRequest())
    states = {p.name: admin_pb2.ProjectionState.State.Name(p.state) for p in status.projections}
    assert states["audit"] == "STOPPED"
    (audit,) = [p for p in status.projections if p.name == "audit"]
    assert (audit.position, "no such table" in audit.failure.message) == (1, True)
    assert {p.position for p in status.projections if p.name != "audit"} == {2}


@pytest.mark.parametrize("at_fault", [True, False])
async def test_health_and_status_say_whether_the_operations_of_all_vms_can_go_on(
    served: Served, *, at_fault: bool
) -> None:
    dispatcher, vm = served.runtime.dispatcher, VmId("11111111-1111-4111-8111-111111111111")
    if at_fault:
        dispatcher.faults.note(vm, RuntimeError("a defect"), served.runtime.moment())
    served.server.show(served.projections.views.progress())
    health: Any = HealthStub(served.channel)  # its types do not know its methods
    checked = await health.Check(HealthCheckRequest(service="snapshotd.core"))
    state = HealthCheckResponse.ServingStatus.Name(checked.status)
    status = await AdminServiceStub(served.channel).GetStatus(admin_pb2.GetStatusRequest())
    told = [(p.subject, p.reason, "(RuntimeError: a defect)" in p.message) for p in status.problems]
    expected = [(f"VM {vm}", "INTERNAL", True)] if at_fault else []
    assert (state, told) == ("NOT_SERVING" if at_fault else "SERVING", expected)


async def test_a_command_that_is_durable_is_answered_though_the_view_of_it_has_stopped(served: Served) -> None:
    await register(served, host_request("hv01"))
    spoil(served, "hosts")
    answered = await register(served, host_request("hv02"))
    assert (answered.name, answered.port, answered.credential) == ("hosts/hv02", 5986, "hv")
    assert answered.create_time.seconds > 0
    with pytest.raises(grpc.aio.AioRpcError, match="Cannot read the inventory view: it stopped after position 1"):
        await HostServiceStub(served.channel).ListHosts(host_pb2.ListHostsRequest())
    operations = await OperationsStub(served.channel).ListOperations(ListOperationsRequest())
    assert not operations.operations
    events = await AuditServiceStub(served.channel).ListEvents(audit_pb2.ListEventsRequest())
    assert len(events.events) == 2


async def test_status_names_the_hosts_that_an_executor_is_fed_for_at_once_and_no_removed_one(served: Served) -> None:
    await register(served, host_request("hv01"))
    hello = executor_pb2.Hello(executor_id="11111111-2222-4333-8444-555555555555", hosts=["*"])
    attached: Any = ExecutorServiceStub(served.channel).Attach()
    await attached.write(executor_pb2.AttachRequest(hello=hello))
    assert (await attached.read()).HasField("welcome")
    assert (await attached.read()).host.host == "hosts/hv01"
    await register(served, host_request("hv02"))
    assert await fed(served) == ["hosts/hv01", "hosts/hv02"]
    await HostServiceStub(served.channel).RemoveHost(host_pb2.RemoveHostRequest(name="hosts/hv01"))
    assert await fed(served) == ["hosts/hv02"]
    attached.cancel()


async def fed(served: Served) -> list[str]:
    """Return the hosts that the only executor is fed for, by what the status says."""
    (executor,) = (await AdminServiceStub(served.channel).GetStatus(admin_pb2.GetStatusRequest())).executors
    return list(executor.hosts)
