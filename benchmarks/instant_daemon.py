"""The daemon over an instant host, with a real event log or one in memory, for the benchmark of creates."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from pathlib import Path

from benchmarks.instant_host import InstantHost
from benchmarks.profiling import role_of
from projections.projections import Projections
from snapshotd import bootstrap, daemon
from snapshotd.settings import load
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.memory_log import MemoryLog

_INSTALLATION = "00000000-0000-4000-8000-000000000000"


async def serve(directory: Path, *, stored: bool, executor: bool) -> int:
    """Serve until a signal ends it."""
    flags = {
        "server.listen": "127.0.0.1:0",
        "storage.directory": str(directory),
        "executor.sessions_per_host": "64",
        "executor.in_process": str(executor).lower(),
        "limits.calls_per_second": "1000000",  # each caller of the benchmark is the same one
    }
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


def tell_threads(path: Path) -> None:
    """Write the kind of each thread by the system's number of it, whenever SIGUSR1 asks for it."""

    def tell(*_: object) -> None:
        kinds = {str(thread.native_id): role_of(thread.name) for thread in threading.enumerate()}
        whole = path.with_suffix(".new")
        whole.write_text(json.dumps(kinds), encoding="utf-8")
        whole.rename(path)

    signal.signal(signal.SIGUSR1, tell)


def main() -> int:
    """Serve, as the command line says. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--without-store", action="store_true")
    parser.add_argument("--executor-apart", action="store_true")
    parser.add_argument("--threads", type=Path, help="where to write the threads, when SIGUSR1 asks for them")
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    if arguments.threads:
        tell_threads(arguments.threads)
    return asyncio.run(
        serve(arguments.directory, stored=not arguments.without_store, executor=not arguments.executor_apart)
    )


if __name__ == "__main__":
    sys.exit(main())
