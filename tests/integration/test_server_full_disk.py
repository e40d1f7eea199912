"""A full disk, as a gRPC client sees it: refused, nothing recorded; the service goes on when there is room."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from projections.projections import Projections
from snapshotd import bootstrap
from snapshotd.api.v1 import host_pb2
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.settings import load
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.contract.test_event_log import limit, log_pages


async def test_a_full_disk_refuses_the_call_and_the_service_goes_on_when_there_is_room(tmp_path: Path) -> None:
    settings = load(None, {}, {"server.listen": "127.0.0.1:0", "storage.directory": str(tmp_path)})
    with SqliteEventLog(tmp_path / "events.db") as log:
        projections = Projections(log, tmp_path / "views.db")
        service = bootstrap.compose(settings, log, projections, log.installation_id, bootstrap.open_pool(settings))
        server = service.make_server()
        await server.start(())
        async with grpc.aio.insecure_channel(server.address) as channel:
            hosts = HostServiceStub(channel)
            host = host_pb2.Host(address="10.0.0.1", credential="hv", journal_directory="x" * 100_000)
            request = host_pb2.RegisterHostRequest(host_id="hv01", host=host)
            limit(log, pages=log_pages(log))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await hosts.RegisterHost(request)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "nothing was recorded" in str(refused.value.details())
            assert log.head_position() == 0
            limit(log, pages=1_000_000)
            registered = hosts.RegisterHost(request)
            while log.head_position() == 0:
                await projections.catch_up()
            await projections.catch_up()
            assert (await registered).name == "hosts/hv01"
        await server.stop(0)
        projections.close()
