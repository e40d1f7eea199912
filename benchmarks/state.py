"""Whether what has happened on a VM makes the next thing on it dearer.

One VM lives through cycles of create and delete until it has 60,000 events. Then a VM with 100 is beside it.
"""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.programs import NotReady, Process, daemon, instant_executor, until_attached
from benchmarks.progress import Figures, say
from snapshotd.api.v1 import snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from tests.e2e.system import Client

_EARLY: Final = range(5, 25)
_LATE: Final = range(1990, 2010)
"""The cycles that stand for the 10th and the 2,000th."""
_LONG: Final = 60_000
_SHORT: Final = 80
_COMMANDS: Final = 40
_LONGEST_S: Final = 400.0
"""How long all cycles may take."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What something takes: until it is answered, and of the daemon's processor time."""

    took_s: float
    cpu_s: float


def measure(directory: Path, figures: Figures) -> None:
    """Let a VM live long, and compare."""
    place = directory / "state"
    say("\na VM's past: ms until it has ended, ms of the daemon's processor time (medians)")
    running = daemon(place)
    with running, instant_executor(running.address, directory / "state.log"):
        until_attached(running.address)
        client = Client(running.address)
        client.register_host(5985, "none", "hv000")
        old, young, other = (_registered(client) for _ in range(3))
        cycles = _live(client, running, old)
        _tell(figures, "cycle", ("10th cycle of create and delete", "2,000th"), cycles[0], cycles[1])
        while _events(client, young) < _SHORT:
            _cycle(client, young)
        costs: dict[str, list[Cost]] = {young: [], old: []}
        for number in range(_COMMANDS):
            for vm_id, found in costs.items():
                found.append(_cost(running, partial(_command, client, vm_id, str(number))))
        labels = (f"a command on a VM of {_events(client, young)} events", f"of {_events(client, old):,}")
        _tell(figures, "command", labels, costs[young], costs[old])
        client.channel.close()
    with daemon(place) as running:
        client = Client(running.address)
        _command(client, other, "first of all")
        first = {vm_id: _cost(running, partial(_command, client, vm_id, "cold")) for vm_id in (young, old)}
        _tell(
            figures,
            "first_command",
            ("the same, the first after a start", "of the other"),
            [first[young]],
            [first[old]],
        )
        client.channel.close()


def _tell(figures: Figures, name: str, labels: tuple[str, str], before: Sequence[Cost], after: Sequence[Cost]) -> None:
    medians = [
        (statistics.median(c.took_s for c in costs), statistics.median(c.cpu_s for c in costs))
        for costs in (before, after)
    ]
    for label, (took_s, cpu_s) in zip(labels, medians, strict=True):
        say(f"  {label:<40} {took_s * 1000:>8.1f} {cpu_s * 1000:>8.1f}")
    (took, cpu), (later_took, later_cpu) = medians
    figures |= {
        f"state.{name}_before_ms": took * 1000,
        f"state.{name}_after_ms": later_took * 1000,
        f"state.{name}_latency_ratio": later_took / took,
        f"state.{name}_cpu_ratio": later_cpu / cpu,
    }
    say(f"  {'ratio':<40} {later_took / took:>8.2f} {later_cpu / cpu:>8.2f}")


def _live(client: Client, running: Process, vm_id: str) -> tuple[list[Cost], list[Cost]]:
    """Let a VM live until it is old; return what its early and its late cycles cost. Raises NotReady."""
    early: list[Cost] = []
    late: list[Cost] = []
    began, number = time.monotonic(), 0
    while number <= _LATE[-1] or _events(client, vm_id) < _LONG:
        number += 1
        cost = _cost(running, partial(_cycle, client, vm_id))
        if number in _EARLY or number in _LATE:
            (early if number in _EARLY else late).append(cost)
        if number % 500 == 0:
            say(f"  {number:,} cycles, {_events(client, vm_id):,} events, {time.monotonic() - began:.0f} s")
        if time.monotonic() - began > _LONGEST_S:
            raise NotReady(
                f"only {number:,} cycles in {_LONGEST_S:.0f} s; the last one took {cost.took_s * 1000:.0f} ms"
            )
    return early, late


def _registered(client: Client) -> str:
    vm_id = str(uuid.uuid4())
    client.vms.RegisterVirtualMachine(vm_pb2.RegisterVirtualMachineRequest(host="hosts/hv000", vm_id=vm_id))
    return vm_id


def _events(client: Client, vm_id: str) -> int:
    """Return how many events a VM has."""
    name = f"virtualMachines/{vm_id}"
    return client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=name)).version


def _cycle(client: Client, vm_id: str) -> None:
    operation = client.succeeded(client.create(vm_id, "before update"))
    snapshot = snapshot_pb2.Snapshot()
    operation.response.Unpack(snapshot)
    request = snapshot_pb2.DeleteSnapshotRequest(name=snapshot.name)
    client.succeeded(client.snapshots.DeleteSnapshot(request))


def _command(client: Client, vm_id: str, owner: str) -> None:
    vm = vm_pb2.VirtualMachine(name=f"virtualMachines/{vm_id}", owner=owner)
    client.vms.UpdateVirtualMachine(vm_pb2.UpdateVirtualMachineRequest(virtual_machine=vm))


def _cost(running: Process, call: Callable[[], None]) -> Cost:
    cpu_s, began = running.running_s(), time.perf_counter()
    call()
    return Cost(time.perf_counter() - began, running.running_s() - cpu_s)
