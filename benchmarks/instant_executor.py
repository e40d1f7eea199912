"""An executor in a process of its own, as operators run it, whose hosts answer at once from memory."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

from benchmarks.instant_host import HoldingHost, InstantHost
from benchmarks.kept_hosts import KeptHosts
from snapshotd.api.v1 import executor_pb2 as pb
from snapshotd.executor.service import run_executor
from snapshotd.executor.work import OpenPool
from snapshotd.executor_from_settings import executor_settings
from snapshotd.service_manager import ServiceManager
from snapshotd.settings import load


class ReportedHost(InstantHost):
    """An instant host that writes what it tells of each VM into a directory.

    Args:
        host: carries the commands out.
        reports: the directory.
    """

    def __init__(self, host: InstantHost, reports: Path) -> None:
        self._host = host
        self._reports = reports

    async def run(self, command: pb.HostCommand, timeout_s: float) -> pb.HostAnswer | pb.NoAnswer:
        """Carry a command out."""
        answer = await self._host.run(command, timeout_s)
        vm = self._host.vms[command.vm_id]
        (self._reports / vm.vm_id).write_bytes(vm.SerializeToString(deterministic=True))
        return answer


def serve(server: str, open_pool: OpenPool) -> None:
    """Run until a signal ends it."""
    settings = executor_settings(load(None, os.environ, {"executor.server": server}), server)
    asyncio.run(run_executor(settings, open_pool, ServiceManager({})))


def chosen(arguments: argparse.Namespace) -> OpenPool:
    """Return what opens the hosts that the options name."""
    if arguments.kept:
        return KeptHosts(arguments.kept, holding=arguments.holding, told=arguments.told).open
    host = HoldingHost if arguments.holding else InstantHost
    reports = arguments.reports
    return (lambda connection: ReportedHost(host(connection), reports)) if reports else host


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server")
    parser.add_argument("--holding", action="store_true", help="no effect ever ends")
    parser.add_argument("--kept", type=Path, help="a kept log, whose VMs the hosts have")
    parser.add_argument("--told", type=Path, help="where to write a line for each command to those hosts")
    parser.add_argument("--reports", type=Path, help="where to write what is told of each VM")
    arguments = parser.parse_args()
    sys.stdout.write(json.dumps({"ready": True}) + "\n")
    sys.stdout.flush()
    serve(arguments.server, chosen(arguments))
