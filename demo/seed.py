"""The test list of the page that specified this feature, typed with snapshotctl: `make seed`.

The page is "VM Snapshots in Hyper-V" (CLOUDSTACK-10066). It says what has to be tested: snapshots with and without
memory of VMs that run or are stopped, reverts, trees, and what else happens to a VM that has snapshots. Each line of it
is a chapter here, on VMs of its own. After each command the record is compared with the host's own truth. Any
difference ends it with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from demo.checks import Checks, say
from demo.programs import CREDENTIAL, Daemon, NotStarted, SimulatedHost, find_pwsh

OK: Final = 0
FAILED: Final = 1
REFUSED: Final = 3
NOT_FOUND: Final = 4
"""Exit codes of snapshotctl."""
_PATIENCE_S: Final = 60.0
SYSTEM, DATA = "SCSI:0:0", "SCSI:0:1"
_DISKS: Final = [{"location": SYSTEM}, {"location": DATA}]
_QUICK: Final = ("--retries-longest", "2 s", "--snapshots-merge-poll", "200 ms")


class Stage:
    """The programs, and what is typed.

    Args:
        directory: holds all state and logs.
        engine: the engine of the simulated host.
        vms: the names of the VMs, with the state that each begins in.
    """

    def __init__(self, directory: Path, engine: str, vms: Sequence[tuple[str, str]]) -> None:
        self.ids = {name: str(uuid.uuid4()) for name, _ in vms}
        options = ["--engine", engine, "--duration", "checkpoint=50", "merge=50"]
        if engine == "pwsh" and (pwsh := find_pwsh()) is not None:
            options += ["--pwsh", str(pwsh)]
        described = [{"id": self.ids[name], "name": name, "state": state, "disks": _DISKS} for name, state in vms]
        self.host = SimulatedHost(directory / "hv01", {"host": {"name": "hv01"}, "vms": described}, options)
        self.daemon = Daemon(directory / "daemon", options=_QUICK)
        self.checks = Checks()

    def type(self, line: str, code: int = OK) -> str:
        """Type a command, print it with what it answers, check its exit code, and return its output."""
        sys.stdout.write(f"$ snapshotctl {line}\n")
        done = self._run(shlex.split(line))
        sys.stdout.write("".join(f"  {text}\n" for text in (done.stdout + done.stderr).splitlines()))
        self.checks.check(f"exit code {code}", done.returncode, code)
        return done.stdout

    def read(self, line: str) -> dict[str, Any]:
        """Run a command whose answer is not shown, and return its JSON."""
        done = self._run([*shlex.split(line), "-o", "json"])
        self.checks.require(f"snapshotctl {line}", done.returncode, done.stderr)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snapshotd.client", *arguments, "--server", self.daemon.address]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def truth(self, vm: str) -> dict[str, Any]:
        """Return a VM as its host has it."""
        (found,) = [v for v in self.host.control("state")["vms"] if v["id"] == self.ids[vm]]
        return dict(found)

    def write(self, vm: str, data: str) -> None:
        """Write to each disk as the VM's guest."""
        for location in (SYSTEM, DATA):
            self.host.control("write_disk", vm=vm, location=location, block="0", data=f"{data} {location}")

    def sees(self, vm: str, data: str) -> None:
        """Check what the VM's guest reads from each of its disks."""
        for location in (SYSTEM, DATA):
            blocks = self.host.control("read_disk", vm=vm, location=location)["blocks"]
            self.checks.check(f"{location} of {vm} holds what it did at {data!r}", blocks, {"0": f"{data} {location}"})

    def take(self, vm: str, name: str, *, memory: bool = False) -> None:
        """Write something, and take a snapshot of that name."""
        self.write(vm, name)
        self.type(f"snapshot create {vm} --name {name} --wait" + (" --memory" if memory else ""))
        made = {c["name"].rpartition(" #")[0]: c["has_memory"] for c in self.truth(vm)["checkpoints"]}
        self.checks.check(f"{name} holds {'memory' if memory else 'no memory'} on the host", made.get(name), memory)

    def agrees(self, vm: str, shape: dict[str, str] | None = None) -> None:
        """Compare tree, current snapshot and power of record with the host's; `shape`: also what each is below."""
        tree, truth = self.read(f"snapshot tree {vm}"), self.truth(vm)
        nodes = tree.get("nodes", [])
        content = {n["id"]: n.get("snapshot") or n.get("foreign_checkpoint") for n in nodes}
        ids = {node: told["checkpoint_id"] for node, told in content.items()}
        parents = {ids[n["id"]]: ids.get(n.get("parent", ""), "") for n in nodes}
        self.checks.check("the tree is the host's", parents, {c["id"]: c["parent"] for c in truth["checkpoints"]})
        self.checks.check("current is the host's", ids.get(tree.get("current_node", ""), ""), truth["current"])
        power = {"Off": "STOPPED"}.get(truth["state"], truth["state"].upper())
        self.checks.check("the power is the host's", self.read(f"vm show {vm}")["power"], power)
        if shape is not None:
            names = {node: told["display_name"] for node, told in content.items()}
            found = {names[n["id"]]: names.get(n.get("parent", ""), "") for n in nodes}
            self.checks.check("each snapshot is below the one it should be", found, shape)

    def power(self, vm: str, state: str) -> None:
        """Check a VM's power on the host."""
        self.checks.check(f"{vm} is {state.lower()} on the host", self.truth(vm)["state"], state)


def create(stage: Stage) -> None:
    """Create one VM snapshot with memory (on, off) when the VM is (running, stopped)."""
    stage.take("create-running", "with-memory", memory=True)
    stage.take("create-running", "disks-only")
    stage.power("create-running", "Running")
    stage.take("create-stopped", "disks-only")
    stage.type("snapshot create create-stopped --name with-memory --memory --wait", REFUSED)
    for vm in ("create-running", "create-stopped"):
        stage.agrees(vm)


def revert(stage: Stage) -> None:
    """Revert to the previous snapshot when the VM is (running, stopped), to one with and to one without memory."""
    for vm, start in (("revert-running", "vm start"), ("revert-stopped", "vm stop --turn-off")):
        stage.take(vm, "disks")
        stage.take(vm, "memory", memory=True)
        wanted = {"revert-running": "Running", "revert-stopped": "Off"}[vm]
        for target, after in (("memory", "Running"), ("disks", "Off")):
            stage.write(vm, "lost")
            if stage.truth(vm)["state"] != wanted:
                stage.type(f"{start} {vm} --wait")
            stage.type(f"snapshot revert {vm} {target} --dry-run")
            stage.type(f"snapshot revert {vm} {target} --wait")
            stage.sees(vm, target)
            stage.power(vm, after)
            stage.agrees(vm)


def trees(stage: Stage) -> None:
    """Create several snapshots with memory (on, off, mixed) when the VM is (running, stopped), as a tree."""
    shape = {"root": "", "left": "root", "deep": "left", "right": "root", "far": "right"}
    for vm, memory in (("tree-memory", "lrdf"), ("tree-mixed", "ldf"), ("tree-disks", ""), ("tree-stopped", "")):
        stage.take(vm, "root")
        for name, below in (("left", "root"), ("deep", "left"), ("right", "root"), ("far", "right")):
            if stage.read(f"vm show {vm}").get("current_snapshot") != _named(stage, vm, below):
                stage.type(f"snapshot revert {vm} {below} --wait")
                stage.sees(vm, below)
            with_memory = name[0] in memory
            if with_memory and stage.truth(vm)["state"] == "Off":
                stage.type(f"vm start {vm} --wait")
            stage.take(vm, name, memory=with_memory)
        stage.type(f"snapshot tree {vm}")
        stage.agrees(vm, shape)
        stage.type(f"snapshot delete {vm} left --wait")
        stage.agrees(vm, {"root": "", "deep": "root", "right": "root", "far": "right"})
        stage.type(f"snapshot revert {vm} deep --wait")
        stage.sees(vm, "deep")


def _named(stage: Stage, vm: str, name: str) -> str:
    found = stage.read(f"snapshot show {vm} {name}")["name"]
    assert isinstance(found, str)
    return found


def deletes(stage: Stage) -> None:
    """Delete one, a whole subtree, what is below one, and all: nothing else goes, and what others made stays."""
    vm = "deletes"
    for name, below in (("root", ""), ("a", "root"), ("a1", "a"), ("a2", "a1"), ("b", "root"), ("b1", "b")):
        if below and stage.read(f"vm show {vm}").get("current_snapshot") != _named(stage, vm, below):
            stage.type(f"snapshot revert {vm} {below} --wait")
        stage.take(vm, name)
    stage.host.control("admin", do="checkpoint", vm=vm, name="by hand")
    stage.type("host sync hv01")
    stage.type(f"snapshot delete {vm} a1 --dry-run")
    stage.type(f"snapshot delete {vm} a1 --wait")
    stage.agrees(vm, {"root": "", "a": "root", "a2": "a", "b": "root", "b1": "b", "by hand": "b1"})
    stage.type(f"snapshot delete {vm} b --only-descendants --wait")
    stage.agrees(vm, {"root": "", "a": "root", "a2": "a", "b": "root", "by hand": "b"})
    stage.type(f"snapshot delete {vm} a --with-descendants --wait")
    stage.agrees(vm, {"root": "", "b": "root", "by hand": "b"})
    stage.type(f"snapshot delete-all {vm} --wait")
    stage.agrees(vm, {"by hand": ""})
    stage.sees(vm, "b1")


def decisions(stage: Stage) -> None:
    """What people say of snapshots (name, labels, hold), and do with what others made (adopt, ignore) or removed."""
    vm = "decisions"
    stage.take(vm, "nightly")
    stage.type(f"snapshot update {vm} nightly --name weekly --description 'before the audit' --label tier=gold --wait")
    names = [c["name"].rpartition(" #")[0] for c in stage.truth(vm)["checkpoints"]]
    stage.checks.check("the checkpoint bears the new name", names, ["weekly"])
    stage.type(f"snapshot list {vm} --label tier=gold")
    stage.type(f"snapshot hold {vm} weekly --reason 'the auditors need it'")
    stage.type(f"snapshot delete {vm} weekly", REFUSED)
    stage.type(f"snapshot release {vm} weekly")
    for name in ("theirs", "vendor's"):
        stage.host.control("admin", do="checkpoint", vm=vm, name=name)
    stage.type("host sync hv01")
    stage.type(f"snapshot revert {vm} theirs", NOT_FOUND)
    stage.type(f"snapshot adopt {vm} theirs --wait")
    stage.type(f'snapshot ignore {vm} "vendor\'s" --reason "it goes by itself"')
    stage.type(f"snapshot tree {vm}")
    stage.agrees(vm, {"weekly": "", "theirs": "weekly", "vendor's": "theirs"})
    stage.host.control("admin", do="remove", vm=vm, checkpoint=_checkpoint(stage, vm, "weekly"))
    stage.type("host sync hv01")
    stage.type(f"snapshot forget {vm} weekly --wait")
    stage.agrees(vm, {"theirs": "", "vendor's": "theirs"})


def _checkpoint(stage: Stage, vm: str, name: str) -> str:
    (found,) = (c["id"] for c in stage.truth(vm)["checkpoints"] if c["name"].rpartition(" #")[0] == name)
    assert isinstance(found, str)
    return found


def restart_of_the_service(stage: Stage) -> None:
    """Synchronise what was under way when the service went down (VMSnapshotSync)."""
    vm = "sync"
    stage.take(vm, "one")
    stage.host.control("durations", checkpoint=3000, remove=3000)
    for line in (f"snapshot create {vm} --name two", f"snapshot delete {vm} one"):
        stage.type(line)
        until = time.monotonic() + _PATIENCE_S
        while not stage.truth(vm)["job"] and time.monotonic() < until:
            time.sleep(0.02)
        say("the service is killed, and started again")
        stage.daemon.restart()
        stage.type(f"operation wait {stage.read('operation list --limit 1')['operations'][0]['name']}")
    stage.host.control("durations", checkpoint=50, remove=0)
    stage.agrees(vm, {"two": ""})


def revert_and_back(stage: Stage) -> None:
    """Revert with a safety snapshot, and undo the revert; revert to the current one; have the VM run afterwards."""
    vm = "revert-back"
    stage.take(vm, "first")
    stage.write(vm, "work of today")
    stage.type(f"snapshot revert {vm} first --safety-snapshot --wait")
    stage.sees(vm, "first")
    stage.power(vm, "Off")
    stage.agrees(vm, {"first": "", "before-revert-first": "first"})
    stage.type(f"snapshot undo-revert {vm} --wait")
    stage.sees(vm, "work of today")
    stage.power(vm, "Running")
    stage.write(vm, "lost")
    stage.type(f"snapshot revert {vm} before-revert-first --power-after as-before --wait")
    stage.sees(vm, "work of today")
    stage.power(vm, "Running")
    stage.type(f"snapshot revert {vm} first --refuse-power-change", REFUSED)
    stage.type(f"snapshot revert {vm} first --power-after running --wait")
    stage.sees(vm, "first")
    stage.power(vm, "Running")
    stage.agrees(vm)


def power(stage: Stage) -> None:
    """Stop, save, pause, start and restart a VM with snapshots: none of them is lost."""
    vm = "power"
    for name, memory in (("one", False), ("two", True)):
        stage.take(vm, name, memory=memory)
    for line, state in (
        ("vm stop {} --shutdown-timeout 60 --wait", "Off"),
        ("vm start {} --wait", "Running"),
        ("vm stop {} --save --wait", "Saved"),
        ("vm start {} --wait", "Running"),
        ("vm stop {} --pause --wait", "Paused"),
        ("vm start {} --wait", "Running"),
        ("vm restart {} --wait", "Running"),
        ("vm stop {} --turn-off --wait", "Off"),
    ):
        stage.type(line.format(vm))
        stage.power(vm, state)
    stage.sees(vm, "two")
    stage.agrees(vm, {"one": "", "two": "one"})


CHAPTERS: Final[tuple[tuple[Callable[[Stage], None], tuple[tuple[str, str], ...]], ...]] = (
    (create, (("create-running", "Running"), ("create-stopped", "Off"))),
    (revert, (("revert-running", "Running"), ("revert-stopped", "Running"))),
    (
        trees,
        (("tree-memory", "Running"), ("tree-mixed", "Running"), ("tree-disks", "Running"), ("tree-stopped", "Off")),
    ),
    (revert_and_back, (("revert-back", "Running"),)),
    (power, (("power", "Running"),)),
    (deletes, (("deletes", "Running"),)),
    (decisions, (("decisions", "Running"),)),
    (restart_of_the_service, (("sync", "Running"),)),
)
"""Each with its VMs, and the state that they begin in."""


def run(directory: Path, engine: str) -> Checks:
    """Type everything, and return what was checked. Raises NotStarted."""
    stage = Stage(directory, engine, [vm for _, vms in CHAPTERS for vm in vms])
    say(f"start a simulated host ({engine} engine), and snapshotd")
    with stage.host, stage.daemon:
        stage.type(f"host add hv01 127.0.0.1 --port {stage.host.port} --credential {CREDENTIAL}")
        stage.type("vm register hv01 --all")
        for chapter, _ in CHAPTERS:
            say((chapter.__doc__ or "").strip())
            chapter(stage)
        say("at the end")
        steps = [(e["operation"], e["step"]) for e in stage.host.decisive() if e["by"] == "script"]
        stage.checks.check("no step had a second effect", len(steps), len(set(steps)))
        stage.checks.check("no operation is left over", stage.read("operation list --active").get("operations", []), [])
    return stage.checks


def main() -> int:
    """Run the list. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["builtin", "pwsh"], default="builtin", help="engine of the simulated host")
    engine = parser.parse_args().engine
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="snapshotd-seed-") as directory:
            checks = run(Path(directory), engine)
    except NotStarted as error:
        sys.stderr.write(f"{str(error).rstrip()}\n")
        return 2
    say(f"{checks.count} checks, {checks.failed} wrong, in {time.monotonic() - began:.0f} s")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
