"""How long calls about a whole host, and lists, take with 1,000 VMs on a host and 10,000 in all.

Beside each, another caller asks for something small all the time: how long that waits shows whether the call blocks.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.progress import Figures, say
from demo.programs import CREDENTIAL, Daemon, SimulatedHost
from snapshotd.api.v1 import admin_pb2, host_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from tests.e2e.system import Client, until

_HOSTS: Final = 10
_VMS_EACH: Final = 1000
Measured = tuple[str, float, float]
"""What was called, how long it took, and how long the slowest other call took meanwhile, in seconds."""


def report(directory: Path, figures: Figures) -> None:
    """Measure, and print."""
    say(f"\n{_VMS_EACH} VMs on each of {_HOSTS} simulated hosts, seconds")
    say(f"{'call':<24} {'took':>6} {'slowest other call meanwhile':>29}")
    for what, took, other in measure(directory, _HOSTS, _VMS_EACH):
        name = what.replace(" ", "_").replace("'", "")
        figures |= {f"vms.{name}_s": took, f"vms.{name}_other_s": other}
        say(f"{what:<24} {took:>6.2f} {other:>29.3f}")


def measure(directory: Path, hosts: int, vms_each: int) -> Iterator[Measured]:
    """Yield what each call took, on a daemon with that many VMs."""
    with ExitStack() as stack:
        simulated = [stack.enter_context(_host(directory / f"hv{n}", n, vms_each)) for n in range(hosts)]
        client = Client(stack.enter_context(Daemon(directory / "daemon")).address)
        for n, host in enumerate(simulated):
            client.register_host(host.port, host_id=f"hv{n}", credential=CREDENTIAL)
        until(lambda: bool(client.admin.GetStatus(admin_pb2.GetStatusRequest()).executors))
        *most, last = [vm_pb2.RegisterHostVirtualMachinesRequest(host=f"hosts/hv{n}") for n in range(hosts)]
        for request in most:
            client.vms.RegisterHostVirtualMachines(request)
        yield _timed(client, "register all of a host", lambda: client.vms.RegisterHostVirtualMachines(last))
        discover = host_pb2.DiscoverVirtualMachinesRequest(name="hosts/hv0")
        yield _timed(client, "discover a host", lambda: client.hosts.DiscoverVirtualMachines(discover))
        sync = host_pb2.SyncHostRequest(name="hosts/hv0")
        yield _timed(client, "sync a host", lambda: client.hosts.SyncHost(sync))
        yield _timed(client, "list all VMs", lambda: _listed(client, hosts * vms_each, ""))
        yield _timed(client, "list a host's VMs", lambda: _listed(client, vms_each, 'host = "hosts/hv0"'))
        yield _timed(client, "find a VM by name", lambda: _listed(client, 1, 'display_name = "vm0-00001"'))


def _host(directory: Path, number: int, vms: int) -> SimulatedHost:
    disk = {"location": "SCSI:0:0"}
    described: list[dict[str, Any]] = [
        {"id": str(uuid.uuid4()), "name": f"vm{number}-{n:05}", "state": "Running", "disks": [disk]} for n in range(vms)
    ]
    return SimulatedHost(directory, {"host": {"name": f"hv{number}"}, "vms": described})


def _listed(client: Client, expected: int, condition: str) -> None:
    found, token = 0, ""
    while True:
        request = vm_pb2.ListVirtualMachinesRequest(page_size=1000, page_token=token, filter=condition)
        page = client.vms.ListVirtualMachines(request)
        found, token = found + len(page.virtual_machines), page.next_page_token
        if not token:
            break
    assert found == expected, (found, expected)


def _timed(client: Client, what: str, call: Callable[[], object]) -> Measured:
    with _another_caller(client.address) as waits:
        began = time.perf_counter()
        call()
        return what, time.perf_counter() - began, max(waits, default=0.0)


@contextmanager
def _another_caller(address: str) -> Iterator[list[float]]:
    """Ask for the status all the time; the list fills with how long each answer took."""
    waits: list[float] = []
    over = threading.Event()

    def ask() -> None:
        client = Client(address)
        while not over.is_set():
            began = time.perf_counter()
            client.admin.GetStatus(admin_pb2.GetStatusRequest())
            waits.append(time.perf_counter() - began)
        client.channel.close()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield waits
    finally:
        over.set()
        asking.join()
