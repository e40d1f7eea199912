"""Two simulated hosts over one shared storage, with a folder for exports, a daemon for both, and a client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.longrunning.operations_pb2 import GetOperationRequest, Operation

from demo.programs import Daemon, SimulatedHost
from snapshotd.api.v1 import host_pb2, operation_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from tests.e2e.system import QUICK, Client, inventory, metadata_of, until
from tests.powershell_engine import pwsh

BLOCKS = {"boot": "as installed", "work": "of the day"}
"""What the guest has written, by block: the first before its snapshot, the second after it."""


@dataclass
class Place:
    """The hosts, where exports go, and one VM."""

    one: SimulatedHost
    two: SimulatedHost
    exports: Path
    daemon: Daemon
    client: Client
    vm_id: str

    @property
    def name(self) -> str:
        """The VM's name in the API."""
        return f"virtualMachines/{self.vm_id}"

    def vm(self) -> vm_pb2.VirtualMachine:
        """Return the VM as it is on record."""
        return self.client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=self.name))

    def stop(self) -> Operation:
        """Turn the VM off, and return the operation as it has ended."""
        mode = vm_pb2.StopVirtualMachineRequest.TURN_OFF
        asked = vm_pb2.StopVirtualMachineRequest(name=self.name, mode=mode)
        return self.client.wait(self.client.vms.StopVirtualMachine(asked))

    def asked_start(self, host: str = "") -> vm_pb2.StartVirtualMachineRequest:
        """Return a request to start the VM; on a host of choice, if it was released."""
        return vm_pb2.StartVirtualMachineRequest(name=self.name, host=f"hosts/{host}" if host else "")

    def start(self, host: str = "") -> Operation:
        """Start the VM, and return the operation as it has ended."""
        return self.client.wait(self.client.vms.StartVirtualMachine(self.asked_start(host)))

    def export(self, directory: str = "") -> Operation:
        """Ask for an export."""
        asked = vm_pb2.ExportVirtualMachineRequest(name=self.name, directory=directory)
        return self.client.vms.ExportVirtualMachine(asked)

    def newest(self) -> Operation:
        """Return the VM's newest operation."""
        mine = [o for o in self.client.all_operations() if metadata_of(o).virtual_machine == self.name]
        return max(mine, key=lambda operation: int(operation.name.rpartition(".")[2].partition("-")[0]))

    def now(self, operation: Operation) -> Operation:
        """Return an operation as it is now."""
        return self.client.operations.GetOperation(GetOperationRequest(name=operation.name))

    def copying(self, operation: Operation) -> None:
        """Wait until an operation waits for its copy."""
        waiting = operation_pb2.Step.WAITING
        until(lambda: any(s.state == waiting for s in metadata_of(self.now(operation)).steps))

    def folders(self) -> list[str]:
        """Return the names of the folders of exports."""
        return sorted(path.name for path in self.exports.glob(f"{self.vm_id}/*"))

    def write(self, block: str, data: str) -> None:
        """Have the guest write to its second disk."""
        self.one.control("write_disk", vm=self.vm_id, location="SCSI:0:1", block=block, data=data)

    def read(self, host: SimulatedHost) -> Mapping[str, str]:
        """Return what the guest sees on its second disk."""
        seen: Mapping[str, str] = host.control("read_disk", vm=self.vm_id, location="SCSI:0:1")["blocks"]
        return seen

    def truth(self, host: SimulatedHost) -> dict[str, Any] | None:
        """Return the VM as a host has it; None: it has not."""
        return next((dict(vm) for vm in host.control("state")["vms"] if vm["id"] == self.vm_id), None)

    def sync(self, host_id: str) -> list[str]:
        """Sync a host; return the kinds of drift."""
        synced = self.client.hosts.SyncHost(host_pb2.SyncHostRequest(name=f"hosts/{host_id}"))
        return [drift.kind for drift in synced.drifts]


@dataclass
class Hosts:
    """Two hosts over one storage, and a daemon for both."""

    one: SimulatedHost
    two: SimulatedHost
    exports: Path
    daemon: Daemon
    client: Client
    ids: list[str]

    def take(
        self, policy: vm_pb2.VirtualMachine.ExportPolicy.ValueType | None = None, *, running: bool = False
    ) -> Place:
        """Return a VM that no test has used, with a snapshot. Its guest has written before and after it.

        Args:
            policy: its own export policy.
            running: whether it runs; else it is off.
        """
        place = Place(self.one, self.two, self.exports, self.daemon, self.client, self.ids.pop())
        for host in (self.one, self.two):
            host.control("durations", export=0)
        if running:
            place.start()
        for number, (block, data) in enumerate(BLOCKS.items()):
            place.write(block, data)
            if number == 0:
                made = self.client.wait(self.client.create(place.vm_id, "base"))
                assert not made.HasField("error"), made.error.message
        if policy is not None:
            wanted = vm_pb2.VirtualMachine(name=place.name, export_policy=policy)
            self.client.vms.UpdateVirtualMachine(vm_pb2.UpdateVirtualMachineRequest(virtual_machine=wanted))
        return place


@contextmanager
def two_hosts(
    at: Path, vms: int, engine: str = "builtin", settings: Sequence[str] = (), switch: str = ""
) -> Iterator[Hosts]:
    """Open two hosts, the first of which has VMs that are off.

    Args:
        at: a directory for everything.
        vms: how many.
        engine: of both hosts.
        settings: options of the daemon, besides where exports go.
        switch: what the last of the VMs is connected to; the second host does not have it.
    """
    names = [f"vm{number}" for number in range(vms)]
    described, ids = inventory(names, dict.fromkeys(names, "Off"))
    if switch:
        described["vms"][-1]["switch"] = switch
    storage, exports = at / "storage", at / "exports"
    storage.mkdir()
    exports.mkdir()
    options = ["--storage", str(storage), "--engine", engine]
    options += ["--pwsh", str(pwsh())] if engine == "pwsh" else []
    policy = (*QUICK, "--hosts-sync-interval", "1 h", "--export-directory", str(exports), *settings)
    with (
        SimulatedHost(at / "hv01", described, options) as one,
        SimulatedHost(at / "hv02", {"host": {"name": "hv02"}, "vms": []}, options) as two,
        Daemon(at / "daemon", options=policy) as daemon,
    ):
        client = Client(daemon.address)
        for host_id, host in (("hv01", one), ("hv02", two)):
            client.register_host(host.port, host_id=host_id)
        for vm_id in ids.values():
            client.register_vm(vm_id)
        yield Hosts(one, two, exports, daemon, client, list(ids.values()))
        client.channel.close()
