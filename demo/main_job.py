"""The main job of snapshotd, end to end, on a simulated host, with two outages: `make demo`.

Starts a simulated Hyper-V host, the daemon and an executor as processes, and works with them as a gRPC client. Shows
the tree after each act, and compares the answers with the host's ground truth. Any difference ends it with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc
from google.longrunning.operations_pb2 import GetOperationRequest, Operation, WaitOperationRequest
from google.longrunning.operations_pb2_grpc import OperationsStub

from demo import other_acts
from demo.checks import Checks, say
from demo.programs import CREDENTIAL, Daemon, Executor, NotStarted, SimulatedHost, find_pwsh
from snapshotd.api.v1 import admin_pb2, host_pb2, operation_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.admin_pb2_grpc import AdminServiceStub
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceStub
from snapshotd.api.v1.virtual_machine_pb2_grpc import VirtualMachineServiceStub

PATIENCE_S: Final = 90.0
LONG_MS: Final = 600_000
"""How long the host works on something that an outage must interrupt; later it is told to finish."""
DISK: Final = snapshot_pb2.Snapshot.DISK
MEMORY: Final = snapshot_pb2.Snapshot.DISK_AND_MEMORY


class Stage:
    """The programs, and a gRPC client of the daemon.

    Args:
        directory: holds all state and logs.
        engine: the engine of the simulated host.
    """

    def __init__(self, directory: Path, engine: str) -> None:
        self.ids = {name: str(uuid.uuid4()) for name in ("web01", "db01", "old01")}
        disk, second = {"location": "SCSI:0:0"}, {"location": "SCSI:0:1"}
        vms = [
            {"id": self.ids["web01"], "name": "web01", "state": "Running", "disks": [disk]},
            {"id": self.ids["db01"], "name": "db01", "state": "Running", "disks": [disk, second]},
            {"id": self.ids["old01"], "name": "old01", "state": "Off", "disks": [disk]},
        ]
        options = ["--engine", engine, "--duration", "checkpoint=300", "merge=400", "start=100", "restore=100"]
        if engine == "pwsh" and (pwsh := find_pwsh()) is not None:
            options += ["--pwsh", str(pwsh)]
        self.host = SimulatedHost(directory / "hv01", {"host": {"name": "hv01"}, "vms": vms}, options)
        quick = ["--retries-longest", "2 s", "--snapshots-merge-poll", "500 ms"]
        self.copies, self.exports = (directory / "hv01" / name for name in ("copies", "exports"))
        for folder in (self.copies, self.exports):
            folder.mkdir()
        folders = ["--volume-snapshots-directory", str(self.copies), "--export-directory", str(self.exports)]
        self.daemon = Daemon(directory / "daemon", executor=False, options=[*quick, *folders])
        self.directory = directory
        self.checks = Checks()
        self.written: dict[str, dict[str, str]] = {"SCSI:0:0": {}, "SCSI:0:1": {}}
        self.as_taken: dict[str, dict[str, dict[str, str]]] = {}
        """The contents of db01's disks, by snapshot name."""

    def connect(self) -> None:
        """Open a channel to the daemon."""
        channel = grpc.insecure_channel(self.daemon.address, options=[("grpc.enable_http_proxy", 0)])
        grpc.channel_ready_future(channel).result(PATIENCE_S)
        self.hosts, self.vms = HostServiceStub(channel), VirtualMachineServiceStub(channel)
        self.snapshots, self.operations = SnapshotServiceStub(channel), OperationsStub(channel)
        self.admin = AdminServiceStub(channel)

    def vm(self, name: str) -> str:
        """Return a VM's resource name."""
        return f"virtualMachines/{self.ids[name]}"

    def write(self, location: str, block: str, data: str) -> None:
        """Write to a disk as db01's guest."""
        self.host.control("write_disk", vm="db01", location=location, block=block, data=data)
        self.written[location][block] = data

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds. If it does not in time, the check has failed."""
        end = time.monotonic() + PATIENCE_S
        while not (held := holds()) and time.monotonic() < end:
            time.sleep(0.02)
        self.checks.check(what, held, True)

    def ended(self, operation: Operation) -> Operation:
        """Wait until an operation has ended, check that it succeeded, and return it."""
        until = time.monotonic() + PATIENCE_S
        while not operation.done and time.monotonic() < until:
            request = WaitOperationRequest(name=operation.name)
            request.timeout.FromSeconds(5)
            operation = self.operations.WaitOperation(request)
        text = operation.error.message if operation.HasField("error") else "" if operation.done else "has not ended"
        self.checks.check(f"{kind_of(operation)} succeeded", text, "")
        return operation

    def waits(self, operation: Operation) -> bool:
        """Return whether an operation waits for something."""
        metadata = operation_pb2.OperationMetadata()
        self.operations.GetOperation(GetOperationRequest(name=operation.name)).metadata.Unpack(metadata)
        return bool(metadata.wait.reason)

    def create(self, vm: str, name: str, kind: snapshot_pb2.Snapshot.Kind.ValueType) -> Operation:
        """Request a snapshot, and return the operation."""
        snapshot = snapshot_pb2.Snapshot(display_name=name, kind=kind)
        request = snapshot_pb2.CreateSnapshotRequest(
            parent=self.vm(vm), snapshot=snapshot, request_id=str(uuid.uuid4())
        )
        return self.snapshots.CreateSnapshot(request)

    def take(self, name: str, kind: snapshot_pb2.Snapshot.Kind.ValueType = DISK) -> None:
        """Take a snapshot of db01."""
        say(f"take {name!r} of db01 ({'disks and memory' if kind == MEMORY else 'disks'})")
        self.ended(self.create("db01", name, kind))
        self.as_taken[name] = {location: dict(blocks) for location, blocks in self.written.items()}

    def named(self, name: str) -> str:
        """Return the resource name of a snapshot of db01."""
        request = snapshot_pb2.ListSnapshotsRequest(parent=self.vm("db01"), filter=f'display_name = "{name}"')
        return self.snapshots.ListSnapshots(request).snapshots[0].name

    def truth(self, vm: str) -> dict[str, Any]:
        """Return a VM as the host sees it."""
        (found,) = [v for v in self.host.control("state")["vms"] if v["id"] == self.ids[vm]]
        return dict(found)

    def show_tree(self) -> None:
        """Print the tree for people, and compare it with the host."""
        sys.stdout.write(self.ctl("snapshot", "tree", "db01"))
        told = json.loads(self.ctl("snapshot", "tree", "db01", "-o", "json"))
        own = {n["id"]: n["snapshot"]["checkpoint_id"] for n in told["nodes"]}
        parents = {own[n["id"]]: own.get(n["parent"], "") for n in told["nodes"]}
        truth = self.truth("db01")
        self.checks.check("parents are the host's", parents, {c["id"]: c["parent"] for c in truth["checkpoints"]})
        self.checks.check("current is the host's", own.get(told["current_node"], ""), truth["current"])

    def compare_disks(self, name: str) -> None:
        """Compare what db01's guest sees with the disks at the time of a snapshot."""
        for location, blocks in self.as_taken[name].items():
            seen = self.host.control("read_disk", vm="db01", location=location)["blocks"]
            self.checks.check(f"{location} is as in {name!r}", seen, blocks)
        self.written = {location: dict(blocks) for location, blocks in self.as_taken[name].items()}

    def ctl(self, *arguments: str) -> str:
        """Run snapshotctl, and return its output."""
        command = [sys.executable, "-m", "snapshotd.client", *arguments, "--server", self.daemon.address]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def kind_of(operation: Operation) -> str:
    """Return what an operation does, for people."""
    metadata = operation_pb2.OperationMetadata()
    operation.metadata.Unpack(metadata)
    return operation_pb2.OperationMetadata.Kind.Name(metadata.kind).lower().replace("_", " ")


def register(stage: Stage) -> None:
    """Register the host and its VMs."""
    say("register the host, and its three VMs")
    host = host_pb2.Host(address="127.0.0.1", port=stage.host.port, credential=CREDENTIAL)
    stage.hosts.RegisterHost(host_pb2.RegisterHostRequest(host_id="hv01", host=host))
    stage.until("an executor is there", lambda: bool(stage.admin.GetStatus(admin_pb2.GetStatusRequest()).executors))
    found = stage.hosts.DiscoverVirtualMachines(host_pb2.DiscoverVirtualMachinesRequest(name="hosts/hv01"))
    for vm in found.virtual_machines:
        stage.vms.RegisterVirtualMachine(vm_pb2.RegisterVirtualMachineRequest(host="hosts/hv01", vm_id=vm.vm_id))
    sys.stdout.write(stage.ctl("vm", "list"))
    stage.checks.check("three VMs are registered", len(found.virtual_machines), 3)


def chain_and_branch(stage: Stage) -> None:
    """Take a chain of snapshots, go back to an early one, branch off, and delete one in the middle."""
    for name, kind in (("empty", DISK), ("installed", MEMORY), ("configured", DISK)):
        stage.write("SCSI:0:0", "system", name)
        stage.write("SCSI:0:1", name, "some data")
        stage.take(name, kind)
        stage.show_tree()
    stage.write("SCSI:0:0", "system", "broken")

    say("revert db01 to 'empty': what was written since is gone")
    sys.stdout.write(stage.ctl("snapshot", "revert", "db01", "empty", "--dry-run"))
    stage.ended(stage.snapshots.RevertToSnapshot(snapshot_pb2.RevertToSnapshotRequest(name=stage.named("empty"))))
    stage.compare_disks("empty")
    stage.checks.check("db01 is off, as a disk snapshot leaves it", stage.truth("db01")["state"], "Off")
    stage.show_tree()

    stage.write("SCSI:0:0", "system", "another way")
    stage.take("branch")
    stage.show_tree()

    say("delete 'installed', in the middle: its child stays")
    stage.ended(stage.snapshots.DeleteSnapshot(snapshot_pb2.DeleteSnapshotRequest(name=stage.named("installed"))))
    stage.show_tree()
    say("revert db01 to 'configured', whose parent is gone")
    stage.ended(stage.snapshots.RevertToSnapshot(snapshot_pb2.RevertToSnapshotRequest(name=stage.named("configured"))))
    stage.compare_disks("configured")


def kill_the_daemon(stage: Stage) -> None:
    """Kill the daemon during a create."""
    say("kill the daemon (SIGKILL) while a create of web01 is on its way, and start it again")
    stage.host.control("durations", checkpoint=LONG_MS)
    operation = stage.create("web01", "survivor", MEMORY)
    stage.until("the create is under way", lambda: stage.truth("web01")["job"] == "CreatingSnapshot")
    stage.daemon.restart()
    stage.connect()
    stage.host.control("durations", checkpoint=0)
    stage.ended(stage.operations.GetOperation(GetOperationRequest(name=operation.name)))
    made = [e for e in stage.host.decisive() if e["operation"] == operation.name and e["effect"] == "checkpoint_made"]
    stage.checks.check("exactly one checkpoint was made", len(made), 1)
    stage.checks.check("the host has exactly one checkpoint of web01", len(stage.truth("web01")["checkpoints"]), 1)


def cut_the_network(stage: Stage) -> None:
    """Cut the host's network during a delete, and restore it."""
    say("cut the host's network during the delete of 'branch', and bring it back")
    stage.host.control("durations", remove=LONG_MS)
    operation = stage.snapshots.DeleteSnapshot(snapshot_pb2.DeleteSnapshotRequest(name=stage.named("branch")))
    stage.until("the delete is under way", lambda: stage.truth("db01")["job"] == "DeletingSnapshot")
    stage.host.control("network", up=False)
    stage.until("the operation says that it waits", lambda: stage.waits(operation))
    sys.stdout.write(stage.ctl("operation", "list", "--active"))
    stage.host.control("durations", remove=0)
    stage.host.control("network", up=True)
    stage.ended(operation)
    gone = [e for e in stage.host.decisive() if e["operation"] == operation.name]
    stage.checks.check("it was removed once", [e["effect"] for e in gone], ["checkpoint_removed"])
    stage.show_tree()


def at_the_end(stage: Stage) -> None:
    """Show the audit trail, and check that every effect happened once."""
    say("the audit trail of web01")
    sys.stdout.write(stage.ctl("audit", "list", "--vm", "web01"))
    say("the host's own record of effects")
    steps = [(e["operation"], e["step"]) for e in stage.host.decisive()]
    stage.checks.check("no step had a second effect", len(steps), len(set(steps)))
    status = json.loads(stage.ctl("status", "-o", "json"))
    left = {state: status["operations"][state] for state in ("pending", "running", "waiting")}
    stage.checks.check("no operation is left over", left, {"pending": 0, "running": 0, "waiting": 0})


def run(directory: Path, engine: str) -> Checks:
    """Run the main job, and return what was checked. Raises NotStarted."""
    stage = Stage(directory, engine)
    say(f"start a simulated host ({engine} engine), the daemon, and an executor")
    with stage.host, stage.daemon, Executor(directory / "executor", stage.daemon.address, ["hv01"]):
        stage.connect()
        for act in (
            register,
            chain_and_branch,
            kill_the_daemon,
            cut_the_network,
            other_acts.refuse_a_disk,
            other_acts.change_the_offering,
            other_acts.copy_a_disk,
            other_acts.start_amid_an_export,
            at_the_end,
        ):
            act(stage)
    return stage.checks


def main() -> int:
    """Run the demo. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["builtin", "pwsh"], default="builtin", help="engine of the simulated host")
    engine = parser.parse_args().engine
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="snapshotd-demo-") as directory:
            checks = run(Path(directory), engine)
    except NotStarted as error:
        sys.stderr.write(f"{str(error).rstrip()}\n")
        return 2
    say(f"{checks.count} checks, {checks.failed} wrong, in {time.monotonic() - began:.0f} s")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
