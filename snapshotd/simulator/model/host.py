"""The simulated Hyper-V host: its VMs, what is on record of them, and the effects on them.

    Cmdlets (cmdlets.py)  ──►┐
    Controls (controls.py) ──┼──► HostState ──► machine files, disk files, truth
    Merging (merging.py)  ──►┘

Holds the lock, the jobs and the bookkeeping. What a cmdlet means stands in cmdlets.py.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from snapshotd.simulator.hypervisor import Caller, HyperVError
from snapshotd.simulator.journal import JournalUnreadable, read_journal
from snapshotd.simulator.model.directory import KeptHost, StateDirectory
from snapshotd.simulator.model.disks import IMAGES, DiskFile, DiskFiles
from snapshotd.simulator.model.faults import Faults
from snapshotd.simulator.model.inventory import Inventory, InventoryVm, read_inventory
from snapshotd.simulator.model.jobs import Job, Jobs
from snapshotd.simulator.model.machine import Machine, rfc3339
from snapshotd.simulator.model.truth import DECISIVE, Truth

DURATIONS: Final = (
    *("checkpoint", "restore", "remove", "merge", "start", "shutdown", "turn_off", "save", "pause"),
    *("status_delay", "listing_delay"),
)
"""What takes its time, in milliseconds; 0 unless it is set. The last two: until a job shows in the VM's status, and
until a new checkpoint is listed."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
"""The characters of a VM's name that a file name cannot have."""


@dataclass(frozen=True, slots=True)
class Cause:
    """On whose behalf something happens."""

    by: str
    """script, administrator or hypervisor."""
    operation: str = ""
    step: int = 0


HYPERVISOR: Final = Cause("hypervisor")
ADMINISTRATOR: Final = Cause("administrator")


class Administrator:
    """A caller that no test kills."""

    killed = False

    def kill(self) -> None:
        """Never asked for."""
        raise AssertionError("an administrator is not a script")


class HostState:
    """What a host consists of.

    Args:
        directory: its state; survives a restart.
        truth: the truth file.
        inventory: the file that says what it consists of; read when the directory is empty.
        durations: milliseconds, by name.
        storage: where its disks are, if not in its state's directory; several hosts can have it.

    Raises ValueError for an inventory, a state or a duration that makes no sense.
    """

    def __init__(
        self,
        directory: Path,
        truth: Path,
        inventory: Path,
        durations: Mapping[str, int],
        storage: Path | None = None,
    ) -> None:
        self.changed = threading.Condition(threading.RLock())
        """The lock of everything here."""
        self._durations = dict.fromkeys(DURATIONS, 0)
        self.set_durations(durations)
        self.made_s: dict[str, float] = {}
        """When the checkpoints of this process were made, by a clock that nobody sets."""
        self._directory = StateDirectory(directory, storage)
        self.journal_directory = self._directory.journals
        self.disks = DiskFiles(self._directory.disks)
        self.faults = Faults()
        self.jobs = Jobs(self.changed)
        kept = self._directory.read()
        for machine in kept.machines if kept else ():
            self.disks.load(machine.vm_id)
        kept = kept or self._begin(read_inventory(inventory))
        self.name = kept.name
        self.machines = {m.vm_id: m for m in kept.machines}
        self.clock_offset_s = kept.clock_offset_s
        """How far the host's clock is ahead of this machine's."""
        for machine in kept.machines:
            self._check_disks(machine)
        self.truth = Truth(truth)
        for machine in kept.machines:
            self.truth.make_good(machine.last_effect)

    def set_durations(self, durations: Mapping[str, int]) -> None:
        """Change how long things take. Raises ValueError."""
        for name, milliseconds in durations.items():
            if name not in DURATIONS:
                raise ValueError(f"no duration {name!r}: use {', '.join(DURATIONS)}")
            if type(milliseconds) is not int or milliseconds < 0:
                raise ValueError(f"duration {name} must be a whole number of milliseconds: {milliseconds!r}")
            self._durations[name] = milliseconds

    def duration_s(self, name: str) -> float:
        """Return how long something takes; 0 if it is not set."""
        return self._durations[name] / 1000 if name else 0.0

    def now(self) -> datetime:
        """Return what the host's clock shows."""
        return datetime.now(UTC) + timedelta(seconds=self.clock_offset_s)

    def set_clock(self, offset_s: float) -> None:
        """Set the host's clock so many seconds ahead of this machine's."""
        self.clock_offset_s = offset_s
        self._keep_host()

    def release(self, machine: Machine) -> dict[str, Any]:
        """Let a VM go, with its checkpoints, to a host with the same storage; return what that host takes in."""
        self.record(machine, ADMINISTRATOR, "vm_moved_out")
        del self.machines[machine.vm_id]
        self._keep_host()
        self._directory.remove(machine)
        self.disks.forget(machine.vm_id)
        return machine.document()

    def take_in(self, machine: Machine) -> None:
        """Take a VM in that another host let go. Raises ValueError if it is here, or its disks are not."""
        if machine.vm_id in self.machines:
            raise ValueError(f"VM {machine.vm_id} is on {self.name} already")
        self.disks.load(machine.vm_id)
        try:
            self._check_disks(machine)
        except Exception:
            self.disks.forget(machine.vm_id)
            raise
        self.machines[machine.vm_id] = machine
        self.record(machine, ADMINISTRATOR, "vm_moved_in")
        self._keep_host()

    def named(self, vm: object) -> Machine:
        """Return a VM by id or name, for the control port. Raises LookupError."""
        found = self.machines.get(str(vm).lower())
        named = [found] if found else [m for m in self.machines.values() if m.name == vm]
        if len(named) != 1:
            raise LookupError(f"{len(named) or 'no'} VMs are named {vm!r}")
        return named[0]

    def machine(self, vm_id: str, cmdlet: str, caller: Caller | None = None) -> Machine:
        """Return a VM by its id, in any case, as a caller sees it; None: a script. Raises HyperVError."""
        machine = self.machines.get(vm_id.lower())
        if machine is None or _is_hidden(machine, caller):
            text = f'Hyper-V was unable to find a virtual machine with id "{vm_id}".'
            raise HyperVError("ObjectNotFound", cmdlet, text)
        return machine

    def owner_of(self, checkpoint_id: str, cmdlet: str, caller: Caller) -> Machine:
        """Return the VM that a checkpoint is of, as a caller sees it. Raises HyperVError."""
        for machine in self.machines.values():
            if checkpoint_id.lower() in machine.checkpoints and not _is_hidden(machine, caller):
                return machine
        text = f'Hyper-V was unable to find a checkpoint with id "{checkpoint_id}".'
        raise HyperVError("ObjectNotFound", cmdlet, text)

    def check_files(self, machine: Machine, disks: Mapping[str, str], cmdlet: str) -> None:
        """Check that a VM's or a checkpoint's files are all there. Raises HyperVError."""
        for path in (p for leaf in disks.values() for p in self.disks.chain(leaf)):
            if self.disks.is_gone(path) or self.disks.is_away(machine.vm_id):
                # The text of the real one is not known.
                text = f"'{machine.name}': the system cannot find the file '{path}'. (0x80070002)"
                raise HyperVError("OperationFailed", cmdlet, text)

    def cause(self, caller: Caller, machine: Machine) -> Cause:
        """Return on whose behalf a caller acts: for a script, the step that the VM's journal has as BEGUN."""
        if isinstance(caller, Administrator):
            return ADMINISTRATOR
        try:
            entry = read_journal(self.journal_directory, machine.vm_id)
        except JournalUnreadable:
            entry = None
        if entry is None or entry.phase != "BEGUN":
            return Cause("script")
        return Cause("script", entry.operation, entry.step)

    def work(
        self,
        caller: Caller,
        cmdlet: str,
        machine: Machine,
        duration: str,
        finish: Callable[[], str],
        *,
        status: str = "",
        transition: str = "",
    ) -> str:
        """Run a job of the hypervisor on a VM, and wait for it; return its result.

        The lock is held. Raises HyperVError (InvalidState while it does something else), and ScriptKilled.
        """
        job = Job(status=status, transition=transition, lasts_s=lambda: self.duration_s(duration), finish=finish)
        self.begin(cmdlet, machine, job)
        self.pass_by(caller, cmdlet, "started")
        return self.jobs.wait(job, caller)

    def begin(self, cmdlet: str, machine: Machine, job: Job) -> None:
        """Begin a job. The lock is held. Raises HyperVError (InvalidState while another one works on the VM)."""
        if self.jobs.of(machine.vm_id) is not None:
            raise invalid_state(cmdlet)
        self.jobs.begin(machine.vm_id, job)

    def keep(self, machine: Machine) -> None:
        """Keep a VM as it is now."""
        machine.save(self._directory.machines)

    def pass_by(self, caller: Caller, cmdlet: str, place: str) -> None:
        """Mark a place where a script can be killed, or a cmdlet fail. Raises ScriptKilled, HyperVError."""
        if isinstance(caller, Administrator):
            return
        self.faults.kill_here(caller, cmdlet, place)
        if place != "started":
            self.faults.fail_here(cmdlet, after_effect=place == "after")

    def record(self, machine: Machine, cause: Cause, effect: str, checkpoint: str = "", **detail: object) -> None:
        """Keep a VM as it is now, and write down what has happened to it."""
        machine.effects += 1
        line: dict[str, Any] = {
            "at": rfc3339(datetime.now(UTC)),
            "effect": effect,
            "decisive": effect in DECISIVE,
            "vm": machine.vm_id,
            "vm_n": machine.effects,
            "operation": cause.operation,
            "step": cause.step,
            "by": cause.by,
            "checkpoint": checkpoint,
            "detail": detail,
            "power": machine.state,
            "disks": {location: self.disks.sha256(path) for location, path in machine.disks.items()},
        }
        machine.last_effect = line
        self.keep(machine)
        self.truth.append(line)

    def close(self) -> None:
        """End the jobs, and close the files."""
        self.jobs.close()
        self.truth.close()

    def _begin(self, inventory: Inventory) -> KeptHost:
        for image in inventory.images:
            parent = self.disks.image(image.parent) if image.parent else ""
            self.disks.make_disk(IMAGES, image.name, DiskFile(parent, image.size_bytes, image.blocks))
        host = KeptHost(inventory.name, tuple(self._new(vm) for vm in inventory.vms))
        for machine in host.machines:
            self.keep(machine)
        self._directory.keep(host)
        return host

    def _keep_host(self) -> None:
        self._directory.keep(KeptHost(self.name, tuple(self.machines.values()), self.clock_offset_s))

    def _check_disks(self, machine: Machine) -> None:
        for disks in (machine.disks, *(s.disks for s in machine.checkpoints.values())):
            for location, path in disks.items():
                if path not in self.disks:
                    raise ValueError(f"{path} is missing: it is the disk {location} of VM {machine.name}")

    def _new(self, vm: InventoryVm) -> Machine:
        now = rfc3339(datetime.now(UTC))
        return Machine(
            created_at=now,
            running_since=now if vm.state in ("Running", "Paused") else "",
            vm_id=vm.vm_id,
            name=vm.name,
            state=vm.state,
            cpu_count=vm.cpu_count,
            memory_bytes=vm.memory_bytes,
            checkpoint_type=vm.checkpoint_type,
            blockers=list(vm.blockers),
            disks={
                location: self.disks.make_disk(
                    vm.vm_id,
                    f"{_UNSAFE.sub('_', vm.name)}-{vm.vm_id[:8]}-{n}",
                    DiskFile(self.disks.image(disk.image) if disk.image else "", disk.size_bytes, {}),
                )
                for n, (location, disk) in enumerate(vm.disks.items())
            },
            memory="" if vm.state == "Off" else f"booted {vm.vm_id}",
            vss=vm.vss,
            automatic_checkpoints=vm.automatic_checkpoints,
        )


def _is_hidden(machine: Machine, caller: Caller | None) -> bool:
    """Return whether a caller does not see a VM: an account without rights is told that there is none (observed)."""
    return machine.hidden and not isinstance(caller, Administrator)


def invalid_state(cmdlet: str) -> HyperVError:
    """Return the error of a cmdlet that the VM's state does not allow (docs/hyperv.md, section 1, observed)."""
    return HyperVError(
        "InvalidState", cmdlet, "The operation cannot be performed while the object is in its current state."
    )
