"""What a daemon uses that has nothing to do, by the number of VMs: processor time and memory.

Nothing attached, or 100 hosts attached that are compared with the record and never differ. A comparison is repeated
sooner than the usual five minutes, each is counted by the hosts, and its cost is scaled.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.large_logs import Kept
from benchmarks.programs import NotReady, Process, daemon, instant_executor, until_attached, until_followed, until_quiet
from benchmarks.progress import Figures, say
from benchmarks.sizes import VMS, registered
from snapshotd.api.v1 import snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from tests.e2e.system import Client

_WATCHED_S: Final = 20.0
"""How long a daemon is watched that has nothing to do."""
_INTERVAL_S: Final = 30
"""How often a host is compared while that is measured."""
_USUAL_S: Final = 300.0
"""How often it is by default, which the cost is scaled to."""
_COMPARED_S: Final = 60.0
"""How long comparisons are measured."""
_FIRST_S: Final = 900.0
"""How long the first comparison of all hosts may take."""
_READ: Final = 5_000
_COMMANDED: Final = 1_000
"""How many VMs are read, and changed, before memory is measured with a warm cache."""
_CALLERS: Final = 16


def measure(directory: Path, figures: Figures) -> None:
    """Watch daemons of several sizes."""
    say(f"\na daemon with nothing to do: percent of a core, over {_WATCHED_S:.0f} s; memory, MB")
    say(f"{'VMs':>8} {'nothing attached':>17} {'memory':>8}")
    for vms in VMS:
        log = registered(vms)
        with log.copied() as files, daemon(files, "--hosts-sync-interval", f"{_INTERVAL_S} s") as running:
            until_followed(running.address)
            until_quiet(running)
            share = _share_of_a_core(running, _WATCHED_S)
            figures[f"idle.{vms}.cpu_percent"] = share
            figures[f"idle.{vms}.memory_mb"] = running.memory_mb()
            say(f"{vms:>8,} {share:>16.2f}% {running.memory_mb():>8.0f}")
            if vms == VMS[-1]:
                try:
                    _attached(directory, log, running, share, figures)
                except NotReady as error:
                    say(f"  not measured with hosts attached: {error}")
                read = _warm(log, running)
                figures[f"idle.{vms}.warm_memory_mb"] = running.memory_mb()
                say(f"{vms:>8,} VMs, {read:,} of them read and {_COMMANDED:,} changed: {running.memory_mb():.0f} MB")


def _attached(directory: Path, log: Kept, running: Process, idle: float, figures: Figures) -> None:
    """Measure what comparisons cost that find nothing. Raises NotReady."""
    hosts, told = log.shape.hosts, directory / "told"
    told.touch()
    options = ("--kept", str(log.directory), "--told", str(told))
    with instant_executor(running.address, directory / "executor.log", *options) as executor:
        until_attached(running.address)
        # The first one finds out more than what is the same as at the last one, and is recorded when it has ended: that
        # can be long after the host has told what it has.
        _until(lambda: _compared(told) >= 2 * hosts, _FIRST_S, f"{hosts} hosts were not compared twice in time")
        client = Client(running.address)
        events = _events_when_steady(client)
        compared, daemon_s, executor_s = _compared(told), running.cpu_s(), executor.cpu_s()
        time.sleep(_COMPARED_S)
        compared = _compared(told) - compared
        daemon_s, executor_s = running.cpu_s() - daemon_s, executor.cpu_s() - executor_s
        assert client.events() == events, "the hosts differ from the record"
        client.channel.close()
    if not compared:
        raise NotReady(f"no host was compared within {_COMPARED_S:.0f} s")
    all_hosts = (daemon_s - idle / 100 * _COMPARED_S) / compared * hosts
    share = idle + 100 * all_hosts / _USUAL_S
    executors = 100 * executor_s / compared * hosts / _USUAL_S
    vms = log.shape.count
    figures[f"idle.{vms}.comparison_s"] = all_hosts
    figures[f"idle.{vms}.attached_cpu_percent"] = share
    figures[f"idle.{vms}.attached_executor_cpu_percent"] = executors
    say(f"  {hosts} hosts compared ({compared} comparisons measured): {all_hosts:.2f} s of processor time for all")
    say(f"  every {_USUAL_S / 60:.0f} min: {share:.1f}% of a core; the executor beside it: {executors:.1f}%")


def _events_when_steady(client: Client) -> int:
    """Return how many events there are, when none has come for the time between two comparisons. Raises NotReady."""
    counted, since = client.events(), time.monotonic()

    def steady() -> bool:
        nonlocal counted, since
        if (now := client.events()) != counted:
            counted, since = now, time.monotonic()
        return time.monotonic() - since > _INTERVAL_S

    _until(steady, _FIRST_S, "the first comparisons did not end in time")
    return counted


def _compared(told: Path) -> int:
    """Return how many reports of all VMs hosts have given."""
    return told.read_bytes().count(b"ALL\n")


def _warm(log: Kept, running: Process) -> int:
    """Read many VMs, and change some. Return how many were read."""
    vm_ids = random.Random(1).sample(list(log.vm_ids("with snapshots")), min(_READ, log.shape.count))  # noqa: S311  (the same in each run)
    client = Client(running.address)

    def read(vm_id: str) -> None:
        name = f"virtualMachines/{vm_id}"
        client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=name))
        client.snapshots.GetSnapshotTree(snapshot_pb2.GetSnapshotTreeRequest(name=name))

    def change(vm_id: str) -> None:
        vm = vm_pb2.VirtualMachine(name=f"virtualMachines/{vm_id}", owner="somebody else")
        client.vms.UpdateVirtualMachine(vm_pb2.UpdateVirtualMachineRequest(virtual_machine=vm))

    with ThreadPoolExecutor(_CALLERS) as threads:
        for done in [threads.submit(read, vm_id) for vm_id in vm_ids]:
            done.result()
        for done in [threads.submit(change, vm_id) for vm_id in vm_ids[:_COMMANDED]]:
            done.result()
    client.channel.close()
    return len(vm_ids)


def _share_of_a_core(running: Process, seconds: float) -> float:
    before, began = running.cpu_s(), time.perf_counter()
    time.sleep(seconds)
    return 100 * (running.cpu_s() - before) / (time.perf_counter() - began)


def _until(holds: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            raise NotReady(otherwise)
        time.sleep(0.1)
