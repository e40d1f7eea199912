"""The main job of snapshotd, end to end, on a simulated host, with two outages: `make demo`.

Starts a simulated Hyper-V host, the daemon and an executor as processes, and works with them as a gRPC client. Shows
the tree after each act, and compares the answers with the host's ground truth. Any difference ends it with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from google.longrunning.operations_pb2 import GetOperationRequest

from demo import other_acts
from demo.checks import Checks, say
from demo.programs import CREDENTIAL, Executor, NotStarted
from demo.stage import DISK, LONG_MS, MEMORY, Stage
from snapshotd.api.v1 import admin_pb2, host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2


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
