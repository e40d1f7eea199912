"""The real server over a real log in this process, with a channel to it. Nobody attaches, and nothing is dispatched."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from projections.projections import Projections
from snapshotd import bootstrap, executor_from_settings
from snapshotd.channels import channel_options
from snapshotd.server.runtime import Runtime
from snapshotd.server.serving import GrpcServer
from snapshotd.settings import load
from snapshotd.store.sqlite_log import SqliteEventLog


@dataclass(frozen=True)
class Served:
    """A server, and what stands behind it."""

    log: SqliteEventLog
    runtime: Runtime
    projections: Projections
    server: GrpcServer
    channel: grpc.aio.Channel
    storage: Path


@asynccontextmanager
async def serve(storage: Path, flags: Mapping[str, str] | None = None) -> AsyncIterator[Served]:
    """Run a server, with more settings. The channel speaks no TLS."""
    own = {"server.listen": "127.0.0.1:0", "storage.directory": str(storage)}
    settings = load(None, {}, {**own, **(flags or {})})
    with SqliteEventLog(storage / "events.db") as log:
        projections = Projections(log, storage / "views.db")
        service = bootstrap.compose(
            settings, log, projections, log.installation_id, executor_from_settings.open_pool(settings)
        )
        server = service.make_server()
        await server.start(projections.views.progress())
        try:
            async with grpc.aio.insecure_channel(server.address, channel_options(server.address)) as channel:
                yield Served(log, service.runtime, projections, server, channel, storage)
        finally:
            await server.stop(0)
            projections.close()
