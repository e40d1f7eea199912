"""Views that cannot be written or read: reads are told why, health and status say so, and it ends by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from projections.projections import Projections
from snapshotd.api.v1 import admin_pb2, audit_pb2, host_pb2
from snapshotd.api.v1.admin_pb2_grpc import AdminServiceStub
from snapshotd.api.v1.audit_pb2_grpc import AuditServiceStub
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.ports.views import ProjectionState
from snapshotd.server.serving import GrpcServer
from tests.integration.polling import until
from tests.integration.whole_server import serve

BIG = "/" + "x" * 100_000


@dataclass(frozen=True)
class Served:
    """A server whose views follow its log."""

    projections: Projections
    server: GrpcServer
    channel: grpc.aio.Channel
    storage: Path

    async def register(self, host_id: str, ca_file: str = "") -> host_pb2.Host:
        """Register a host."""
        host = host_pb2.Host(address="10.0.0.1", credential="hv", transport=host_pb2.Host.NTLM_HTTPS, ca_file=ca_file)
        request = host_pb2.RegisterHostRequest(host_id=host_id, host=host)
        return await HostServiceStub(self.channel).RegisterHost(request)

    async def list_hosts(self) -> list[str]:
        """List the hosts."""
        listed = await HostServiceStub(self.channel).ListHosts(host_pb2.ListHostsRequest())
        return [host.name for host in listed.hosts]

    async def status(self) -> admin_pb2.GetStatusResponse:
        """Return the status."""
        return await AdminServiceStub(self.channel).GetStatus(admin_pb2.GetStatusRequest())

    async def serving(self) -> set[str]:
        """Return the last parts of the names of what serves; "" for the whole."""
        self.server.show(self.projections.views.progress())
        stub: Any = HealthStub(self.channel)  # its types do not know its methods
        names = [f"snapshotd.api.v1.{name}" for name in ("HostService", "AuditService", "AdminService")]
        names += ["google.longrunning.Operations", "snapshotd.projection.tree", ""]
        checked = {name: (await stub.Check(HealthCheckRequest(service=name))).status for name in names}
        return {n.rpartition(".")[2] for n, state in checked.items() if state == HealthCheckResponse.SERVING}

    def limit(self, pages: int | None) -> None:
        """Let the views grow to so many pages, as a disk of that size would; None: by no more than there are."""
        (now,) = self.projections._writer.execute("PRAGMA page_count").fetchone()
        self.projections._writer.execute(f"PRAGMA max_page_count = {pages or now}")


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve(tmp_path) as whole:
        following = asyncio.create_task(whole.projections.run())
        await until(lambda: {p.state for p in whole.projections.views.progress()} == {ProjectionState.FOLLOWING})
        # Until its first reading of the whole file has ended: that mends what a test damages.
        await until(lambda: "look through the views" not in {task.get_name() for task in asyncio.all_tasks()})
        yield Served(whole.projections, whole.server, whole.channel, tmp_path)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


ALL = {"HostService", "AuditService", "AdminService", "Operations", "tree", ""}


@pytest.mark.slow
async def test_reads_of_views_without_room_are_told_why_and_are_answered_when_there_is_room(served: Served) -> None:
    await served.register("hv01")
    assert await served.list_hosts() == ["hosts/hv01"]
    assert await served.serving() == ALL
    served.limit(None)
    assert (await served.register("hv02", BIG)).name == "hosts/hv02"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.list_hosts()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    room = f"Cannot write the views: there is no room for {served.storage / 'views.db'} (database or disk is full)"
    said = str(refused.value.details())
    assert f"Cannot read the inventory view yet: it is at position 1, not 2. {room}. Free some;" in said
    with pytest.raises(grpc.aio.AioRpcError, match="there is no room"):
        await AuditServiceStub(served.channel).ListEvents(audit_pb2.ListEventsRequest())
    assert await served.serving() == {"AdminService"}
    status = await served.status()
    ((subject, reason, message),) = [(p.subject, p.reason, p.message) for p in status.problems]
    assert (subject, reason) == ("views", "DISK_FULL")
    assert message.startswith(room)
    assert {(p.state, p.failure.message) for p in status.projections} == {(admin_pb2.ProjectionState.BEHIND, message)}
    assert status.log_head_position == 2
    served.limit(1_000_000)
    await until(lambda: served.projections.views.trouble() is None)
    assert await served.list_hosts() == ["hosts/hv01", "hosts/hv02"]
    assert await served.serving() == ALL
    assert not (await served.status()).problems


async def test_views_that_cannot_be_read_are_told_hide_nothing_else_of_the_status_and_are_made_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    mended = asyncio.Event()

    async def mend_later(projections: Projections) -> None:
        await mended.wait()
        await make_again(projections)

    make_again = Projections._make_again
    monkeypatch.setattr(Projections, "_make_again", mend_later)
    for file in (served.storage / "views.db", served.storage / "views.db-wal"):
        if file.exists():  # a checkpoint may just have taken the write-ahead log away
            file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.list_hosts()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert f"Cannot read the views: {served.storage / 'views.db'} is damaged" in str(refused.value.details())
    assert (await served.register("hv01")).name == "hosts/hv01"
    status = await served.status()
    assert [(p.subject, p.reason) for p in status.problems][-1:] == [("views", "VIEWS_UNREADABLE")]
    assert status.HasField("operations")
    assert not status.HasField("recent_failures")
    assert [host.host for host in status.hosts] == ["hosts/hv01"]
    mended.set()
    await until(lambda: served.projections.views.trouble() is None)
    assert await served.list_hosts() == ["hosts/hv01"]
    status = await served.status()
    assert status.HasField("recent_failures")
    assert not status.problems
