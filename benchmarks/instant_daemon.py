"""The daemon over an instant host, with a real event log or one in memory, for the benchmark of creates."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from benchmarks.instant_host import InstantHost
from projections.projections import Projections
from snapshotd import bootstrap, daemon
from snapshotd.settings import load
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.memory_log import MemoryLog

_INSTALLATION = "00000000-0000-4000-8000-000000000000"


async def serve(directory: Path, *, stored: bool) -> int:
    """Serve until a signal ends it."""
    flags = {"server.listen": "127.0.0.1:0", "storage.directory": str(directory), "executor.sessions_per_host": "64"}
    settings = load(None, os.environ, flags)
    log = SqliteEventLog(directory / "events.db") if stored else MemoryLog()
    projections = Projections(log, directory / "views.db")
    service = bootstrap.compose(settings, log, projections, _INSTALLATION, InstantHost)
    try:
        return await daemon.serve(service)
    finally:
        projections.close()
        if isinstance(log, SqliteEventLog):
            log.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--without-store", action="store_true")
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    sys.exit(asyncio.run(serve(arguments.directory, stored=not arguments.without_store)))
