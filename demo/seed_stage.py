"""What the seed's test list is typed on: the programs, VMs of each chapter, and comparisons with the host's truth."""

from __future__ import annotations

import io
import json
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final

from demo.checks import Checks
from demo.programs import Daemon, SimulatedHost, find_pwsh, make_folders
from snapshotd.client.__main__ import main as snapshotctl

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
        self.second = SimulatedHost(directory / "hv02", {"host": {"name": "hv02"}, "vms": []}, options)
        self._moved: set[str] = set()
        self.copies, self.exports, folders = make_folders(directory / "hv01")
        self.volumes = directory / "hv01" / "volumes"
        self.volumes.mkdir()
        self._options = [*_QUICK, *folders]
        self.daemon = Daemon(directory / "daemon", options=self._options)
        self.checks = Checks()

    def type(self, line: str, code: int = OK) -> str:
        """Type a command, print it with what it answers, check its exit code, and return its output."""
        sys.stdout.write(f"$ snapshotctl {line}\n")
        got, out, error = self._run(shlex.split(line))
        sys.stdout.write("".join(f"  {text}\n" for text in (out + error).splitlines()))
        self.checks.check(f"exit code {code}", got, code)
        return out

    def read(self, line: str) -> dict[str, Any]:
        """Run a command whose answer is not shown, and return its JSON."""
        code, out, error = self._run([*shlex.split(line), "-o", "json"])
        self.checks.require(f"snapshotctl {line}", code, error)
        answer: dict[str, Any] = json.loads(out)
        return answer

    def _run(self, arguments: Sequence[str]) -> tuple[int, str, str]:
        """Run snapshotctl in this process, since its start takes longer than its work; return its code and output."""
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as error:
            code = snapshotctl([*arguments, "--server", self.daemon.address])
        return code, out.getvalue(), error.getvalue()

    def host_of(self, vm: str) -> SimulatedHost:
        """Return the host that has a VM."""
        return self.second if vm in self._moved else self.host

    def moved_to_second(self, vm: str) -> None:
        """Take note that a VM is on the second host from now on."""
        self._moved.add(vm)

    def restart(self, *options: str) -> None:
        """Restart the daemon with more options."""
        self.daemon.options = [*self._options, *options]
        self.daemon.restart()

    def truth(self, vm: str) -> dict[str, Any]:
        """Return a VM as its host has it."""
        (found,) = [v for v in self.host_of(vm).control("state")["vms"] if v["id"] == self.ids[vm]]
        return dict(found)

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds. If it does not in time, the check has failed."""
        end = time.monotonic() + _PATIENCE_S
        while not (held := holds()) and time.monotonic() < end:
            time.sleep(0.02)
        self.checks.check(what, held, True)

    def write(self, vm: str, data: str, places: Sequence[str] = (SYSTEM, DATA)) -> None:
        """Write to disks as the VM's guest."""
        for place in places:
            self.host_of(vm).control("write_disk", vm=vm, location=place, block="0", data=f"{data} {place}")

    def sees(self, vm: str, data: str, places: Mapping[str, str] = {SYSTEM: SYSTEM, DATA: DATA}) -> None:
        """Check what the VM's guest reads from its disks: what was written at the places that `places` maps them to."""
        for place, written_at in places.items():
            blocks = self.host_of(vm).control("read_disk", vm=vm, location=place)["blocks"]
            self.checks.check(f"{place} of {vm} holds what it did at {data!r}", blocks, {"0": f"{data} {written_at}"})

    def drives(self, vm: str) -> dict[str, str]:
        """Return the files of a VM's disks by place, as its host has them. The record must say the same."""
        truth = {place: disk["chain"][0] for place, disk in self.truth(vm)["disks"].items()}
        told = {disk["location"]: disk["path"] for disk in self.read(f"vm show {vm}").get("disks", [])}
        self.checks.check(f"the disks of {vm} are the host's", told, truth)
        return truth

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
