"""Whole creates over gRPC: from the call until the operation has ended, on a host that answers at once.

Beside it, in turns: the same without a store, calls of the health check, and DBOS Transact with three durable steps.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from google.longrunning.operations_pb2 import WaitOperationRequest
from google.longrunning.operations_pb2_grpc import OperationsStub
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from benchmarks.environments import ROOT, programs_of
from benchmarks.programs import instant_daemon, instant_executor, open_channel, until_attached
from benchmarks.progress import Figures, quantile, say
from snapshotd.api.v1 import host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceStub
from snapshotd.api.v1.virtual_machine_pb2_grpc import VirtualMachineServiceStub

CALLERS: Final = (1, 16, 64)
CREATES: Final = {1: 240, 16: 640, 64: 1536}
"""How many snapshots are taken in all, by callers."""
_ROUNDS: Final = 3
_PER_VM: Final = 8
"""Snapshots that each VM gets: below its limit."""
_HEALTH_S: Final = 2.0
_DBOS_CALLERS: Final = ("1", "4", "16", "64")


@dataclass(frozen=True, slots=True)
class Run:
    """What one daemon showed."""

    per_second: float
    latencies_s: tuple[float, ...]
    """Of each create."""
    health_per_second: float


def measure(directory: Path, figures: Figures) -> None:
    """Measure creates with each number of callers, then the peers."""
    say(f"\nwhole creates per second over gRPC; instant host, executor in its own process; medians of {_ROUNDS}")
    say(f"{'callers':>8} {'with log':>9} {'no store':>9} {'ratio':>6} {'health':>8} {'p50, ms':>8} {'p99, ms':>8}")
    for callers in CALLERS:
        found: dict[bool, list[Run]] = {True: [], False: []}
        for number in range(_ROUNDS):
            for stored, runs in found.items():
                place = directory / f"creates-{callers}-{number}-{stored}"
                runs.append(run(place, callers, CREATES[callers], stored=stored))
        _tell(figures, callers, found[True], found[False])
    best = dbos_per_second(directory)
    figures["creates.dbos_per_s"] = best
    most = max(figures[f"creates.{callers}.per_s"] for callers in CALLERS)
    figures["creates.64.ratio_dbos"] = figures["creates.64.per_s"] / best
    say(f"DBOS, three durable steps, at its best concurrency: {best:.0f} per second; ours at its best: {most:.0f}")


def _tell(figures: Figures, callers: int, stored: list[Run], without: list[Run]) -> None:
    rate, other = (statistics.median(r.per_second for r in runs) for runs in (stored, without))
    health = statistics.median(r.health_per_second for r in stored)
    latencies = [1000 * latency for r in stored for latency in r.latencies_s]
    p50, p99 = quantile(latencies, 0.5), quantile(latencies, 0.99)
    figures |= {
        f"creates.{callers}.per_s": rate,
        f"creates.{callers}.without_store_per_s": other,
        f"creates.{callers}.ratio_without_store": rate / other,
        f"creates.{callers}.health_per_s": health,
        f"creates.{callers}.ratio_health": rate / health,
        f"creates.{callers}.p50_ms": p50,
        f"creates.{callers}.p99_ms": p99,
    }
    say(f"{callers:>8} {rate:>9.0f} {other:>9.0f} {rate / other:>6.2f} {health:>8.0f} {p50:>8.1f} {p99:>8.1f}")


def creates_per_second(directory: Path, callers: int, creates: int, *, stored: bool) -> float:
    """Return whole creates per second."""
    return run(directory, callers, creates, stored=stored).per_second


def run(directory: Path, callers: int, creates: int, *, stored: bool, apart: bool = True) -> Run:
    """Take snapshots on a daemon of its own.

    Args:
        directory: holds the daemon's storage.
        callers: how many call at the same time, each on its own VMs.
        creates: how many snapshots are taken in all.
        stored: whether the event log is on disk; else it is in memory.
        apart: whether the executor runs in a process of its own.
    """
    options = [*([] if stored else ["--without-store"]), *(["--executor-apart"] if apart else [])]
    with ExitStack() as stack:
        daemon = stack.enter_context(instant_daemon(directory, *options))
        if apart:
            stack.enter_context(instant_executor(daemon.address, directory / "executor.log"))
        until_attached(daemon.address)
        return asyncio.run(_measure(daemon.address, callers, creates))


async def _measure(address: str, callers: int, creates: int) -> Run:
    async with open_channel(address) as channel:
        vms = await register(channel, creates)
        began = time.perf_counter()
        latencies = await create_all(channel, vms, callers)
        return Run(len(latencies) / (time.perf_counter() - began), latencies, await _health(channel, callers))


async def register(channel: grpc.aio.Channel, creates: int) -> list[str]:
    """Register as many VMs as that many creates need."""
    vms = [str(uuid.uuid4()) for _ in range(-(-creates // _PER_VM))]
    host = host_pb2.Host(address="127.0.0.1", credential="none")
    await HostServiceStub(channel).RegisterHost(host_pb2.RegisterHostRequest(host_id="hv01", host=host))
    service = VirtualMachineServiceStub(channel)
    for vm in vms:
        await service.RegisterVirtualMachine(vm_pb2.RegisterVirtualMachineRequest(host="hosts/hv01", vm_id=vm))
    return vms


async def create_all(channel: grpc.aio.Channel, vms: list[str], callers: int) -> tuple[float, ...]:
    """Take all snapshots of all VMs; return how long each took, in seconds."""
    found = await asyncio.gather(*(_call(channel, vms[n::callers]) for n in range(callers)))
    return tuple(latency for some in found for latency in some)


async def _call(channel: grpc.aio.Channel, vms: list[str]) -> list[float]:
    """Take all snapshots of some VMs; return how long each took."""
    snapshots, operations = SnapshotServiceStub(channel), OperationsStub(channel)
    latencies = []
    for vm in vms:
        for number in range(_PER_VM):
            snapshot = snapshot_pb2.Snapshot(display_name=f"s{number}", kind=snapshot_pb2.Snapshot.DISK)
            request = snapshot_pb2.CreateSnapshotRequest(
                parent=f"virtualMachines/{vm}", snapshot=snapshot, request_id=str(uuid.uuid4())
            )
            began = time.perf_counter()
            operation = await snapshots.CreateSnapshot(request)
            ended = await operations.WaitOperation(WaitOperationRequest(name=operation.name))
            latencies.append(time.perf_counter() - began)
            assert ended.done, ended
            assert not ended.HasField("error"), ended
    return latencies


async def _health(channel: grpc.aio.Channel, callers: int) -> float:
    """Return calls of the health check per second."""
    health: Any = HealthStub(channel)  # its types do not know its methods
    calls = 0
    began = time.perf_counter()

    async def call() -> None:
        nonlocal calls
        while time.perf_counter() - began < _HEALTH_S:
            await health.Check(health_pb2.HealthCheckRequest())
            calls += 1

    await asyncio.gather(*(call() for _ in range(callers)))
    return calls / (time.perf_counter() - began)


def dbos_per_second(directory: Path) -> float:
    """Return whole workflows of three steps per second with DBOS, at its best number of callers."""
    place = directory / "dbos"
    place.mkdir()
    command = [str(programs_of("dbos") / "python"), "benchmarks/dbos_peer.py", str(place), *_DBOS_CALLERS]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return float(max(json.loads(said.splitlines()[-1]).values()))
