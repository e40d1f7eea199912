"""The simulated Hyper-V host: its VMs, what is on record of them, and the effects on them.

    Cmdlets (cmdlets.py)  ──►┐
    Controls (controls.py) ──┼──► HostState ──► machine files, disk files, truth
    Merging (merging.py)  ──►┘

Holds the lock, the jobs and the bookkeeping. What a cmdlet means stands in cmdlets.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from snapshotd.simulator.hypervisor import Caller, HyperVError
from snapshotd.simulator.journal import JournalUnreadable, read_journal
from snapshotd.simulator.model.directory import KeptHost, StateDirectory
from snapshotd.simulator.model.disks import NEW_CHILD_BYTES, DiskFiles
from snapshotd.simulator.model.durations import Durations
from snapshotd.simulator.model.faults import Faults
from snapshotd.simulator.model.inventory import Inventory, read_inventory
from snapshotd.simulator.model.jobs import Job, Jobs
from snapshotd.simulator.model.machine import Machine, rfc3339
from snapshotd.simulator.model.making import make_machines
from snapshotd.simulator.model.truth import DECISIVE, Truth
from snapshotd.simulator.model.volumes import Volumes


@dataclass(frozen=True, slots=True)
class Cause:
    """On whose behalf something happens."""

    by: str
    """script, administrator, hypervisor, or somebody: nobody knows who."""
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
        timing = Durations(durations)
        self.set_durations, self.duration_s = timing.change, timing.seconds
        self.made_s: dict[str, float] = {}
        """When the checkpoints of this process were made, by a clock that nobody sets."""
        self._directory = StateDirectory(directory, storage)
        self.journal_directory = self._directory.journals
        self.disks = DiskFiles(self._directory.disks)
        self.faults = Faults()
        self.jobs = Jobs(self.changed)
        kept = self._directory.read()
        kept = kept or self._begin(read_inventory(inventory))
        self.name = kept.name
        self.machines = {m.vm_id: m for m in kept.machines}
        self.removed = {m.vm_id: m for m in kept.removed}
        """VMs that are gone, of which something has still to be merged."""
        self.switches = kept.switches
        """Virtual switches that VMs can be connected to."""
        self.clock_offset_s = kept.clock_offset_s
        """How far the host's clock is ahead of this machine's."""
        self.volumes = Volumes(
            self._directory.volumes, self.disks, lambda: ((m, self.folder(m)) for m in self.machines.values())
        )
        """Where room can run out."""
        self.ends_merges: Callable[[str], None] = lambda _: None
        """Does at once what is left to be merged of a VM that was removed, and comes back: merging.py's."""
        self._loose = set(kept.loose)
        """Virtual hard disks that were made here, or that VMs have let go, and that no VM uses."""
        for machine in (*kept.machines, *kept.removed):
            self._adopt(machine)
        self.truth = Truth(truth)
        for machine in (*kept.machines, *kept.removed):
            self.truth.make_good(machine.last_effect)

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
        self.disks.forget(machine.files(), self.known_files())
        return machine.document()

    def take_in(self, machine: Machine) -> None:
        """Take a VM in that another host let go. Raises ValueError if it is here, or its disks are not."""
        if machine.disks and not Path(self.folder(machine)).is_dir():
            location, path = next(iter(machine.disks.items()))
            raise ValueError(f"{path} is missing: it is the disk {location} of VM {machine.name}")
        self.register(machine, ADMINISTRATOR, "vm_moved_in")

    def register(self, machine: Machine, cause: Cause, effect: str, **detail: object) -> None:
        """Have a VM from now on, whose files are there. Raises ValueError if it is here already, or they are not."""
        if machine.vm_id in self.machines:
            raise ValueError(f"VM {machine.vm_id} is on {self.name} already")
        self.ends_merges(machine.vm_id)
        try:
            self._adopt(machine)
        except Exception:
            self.disks.forget(machine.files(), self.known_files())
            raise
        # It may have been here before, and be back as it was then.
        machine.effects = max(machine.effects, self.truth.last_of(machine.vm_id))
        self.machines[machine.vm_id] = machine
        self.record(machine, cause, effect, "", **detail)
        self._keep_host()

    def remove(self, machine: Machine, cause: Cause, checkpoints: Collection[str]) -> None:
        """Have a VM no more, while its disks stay, and perhaps have something to merge."""
        self.record(machine, cause, "vm_removed", checkpoints=list(checkpoints), files=sorted(machine.disks.values()))
        del self.machines[machine.vm_id]
        self.removed[machine.vm_id] = machine
        self._keep_host()

    def bury(self, machine: Machine) -> None:
        """Know nothing more of a VM that was removed: nothing of it is left to be merged."""
        del self.removed[machine.vm_id]
        self._directory.remove(machine)
        files = [path for path in machine.files() if path in self.disks]
        self.disks.forget(files, self.known_files())
        self._loose |= {path for path in machine.disks.values() if path not in self.disks}
        self._keep_host()

    def known(self, vm_id: str) -> Machine:
        """Return a VM that is here, or one of which something is left."""
        return self.machines.get(vm_id) or self.removed[vm_id]

    def known_files(self) -> set[str]:
        """Return the files that the VMs are known by."""
        machines = (*self.machines.values(), *self.removed.values())
        return {path for machine in machines for path in machine.files()}

    def let_go(self, path: str) -> None:
        """Know a file no more that a VM does not use any more, unless others do."""
        self.disks.forget([path], self.known_files())
        if path not in self.disks:
            self.watch_file(path)

    def watch_file(self, path: str) -> None:
        """Notice from now on when a file that no VM uses is not there any more."""
        self._loose.add(path)
        self._keep_host()

    def notice_files(self) -> None:
        """Write down which files that no VM uses are gone: scripts and people delete them themselves."""
        gone = [path for path in sorted(self._loose) if path in self.disks or not Path(path).exists()]
        if gone:
            self._loose -= set(gone)
            self._keep_host()
        for path in gone:
            if path not in self.disks:
                self.note(self.cause_of_none(None), "file_deleted", path=path)

    def folder(self, machine: Machine) -> str:
        """Return where a VM is."""
        return machine.folder or str(self.disks.directory / machine.vm_id)

    def is_away(self, machine: Machine) -> bool:
        """Return whether a VM's storage is away."""
        return self.disks.is_away(self.folder(machine))

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
            if not self.disks.is_there(path) or self.is_away(machine):
                # The text of the real one is not known.
                text = f"'{machine.name}': the system cannot find the file '{path}'. (0x80070002)"
                raise HyperVError("OperationFailed", cmdlet, text)

    def make_children(self, machine: Machine, disks: Mapping[str, str], cmdlet: str) -> dict[str, str]:
        """Make an empty differencing disk over each; return them. Killed in between, they are left over.

        Raises HyperVError if there is no room for them.
        """
        made = {location: self.disks.child_path(path) for location, path in disks.items()}
        for path in made.values():
            self.volumes.check(
                path, NEW_CHILD_BYTES * len(made), cmdlet, f"'{machine.name}': failed to create '{path}'"
            )
        machine.leftovers += made.values()
        self.keep(machine)
        for location, path in disks.items():
            self.disks.make_child(path, made[location])
        machine.leftovers = [path for path in machine.leftovers if path not in made.values()]
        return made

    def cause(self, caller: Caller, machine: Machine) -> Cause:
        """Return on whose behalf a caller acts: for a script, the step that the VM's journal has as BEGUN."""
        if isinstance(caller, Administrator):
            return ADMINISTRATOR
        return Cause("script", *(self._begun(machine.vm_id) or ()))

    def cause_of_none(self, caller: Caller | None) -> Cause:
        """Return on whose behalf something happens to no VM: for a script, the one step that is BEGUN on the host.

        None: whose doing it was is not known.
        """
        if isinstance(caller, Administrator):
            return ADMINISTRATOR
        begun = [it for path in self.journal_directory.glob("*.journal") if (it := self._begun(path.stem))]
        operation, step = begun[0] if len(begun) == 1 else ("", 0)
        return Cause("script" if caller else "somebody", operation, step)

    def _begun(self, vm_id: str) -> tuple[str, int] | None:
        """Return the operation and step that a VM's journal has as BEGUN."""
        try:
            entry = read_journal(self.journal_directory, vm_id)
        except JournalUnreadable:
            return None
        return (entry.operation, entry.step) if entry is not None and entry.phase == "BEGUN" else None

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
        disks = {location: self.disks.sha256(path) for location, path in machine.disks.items()}
        machine.last_effect = {
            **_line(cause, effect, checkpoint, detail),
            "vm": machine.vm_id,
            "vm_n": machine.effects,
            "power": machine.state,
            "disks": disks,
        }
        self.keep(machine)
        self.truth.append(machine.last_effect)

    def note(self, cause: Cause, effect: str, **detail: object) -> None:
        """Write down what has happened to no VM. The host keeps nothing of it: killed just before, it is not told."""
        self.truth.append({**_line(cause, effect, "", detail), "vm": "", "vm_n": 0, "power": "", "disks": {}})

    def close(self) -> None:
        """End the jobs, and close the files."""
        self.jobs.close()
        self.truth.close()

    def _begin(self, inventory: Inventory) -> KeptHost:
        host = KeptHost(inventory.name, tuple(make_machines(self.disks, inventory)), switches=inventory.switches)
        for machine in host.machines:
            self.keep(machine)
        for path, free_bytes in inventory.volumes.items():
            volume = self._directory.disks / path
            volume.mkdir(parents=True, exist_ok=True)
            Volumes(self._directory.volumes, self.disks, list).set_free(volume, free_bytes)
        self._directory.keep(host)
        return host

    def _keep_host(self) -> None:
        machines, removed = tuple(self.machines.values()), tuple(self.removed.values())
        loose = tuple(sorted(self._loose))
        kept = KeptHost(self.name, machines, self.clock_offset_s, loose, removed, self.switches)
        self._directory.keep(kept)

    def _adopt(self, machine: Machine) -> None:
        """Know a VM's files from now on. Raises ValueError if one is not there."""
        self.disks.clean(self.folder(machine))
        for disks in (machine.disks, *(s.disks for s in machine.checkpoints.values())):
            for location, path in disks.items():
                if not self.disks.is_kept(path):
                    raise ValueError(f"{path} is missing: it is the disk {location} of VM {machine.name}")
        # Killed right after it was removed, before that was noted.
        machine.leftovers = [path for path in machine.leftovers if self.disks.is_kept(path)]
        for path in machine.files():
            self.disks.adopt(path)


def _line(cause: Cause, effect: str, checkpoint: str, detail: Mapping[str, object]) -> dict[str, Any]:
    return {
        "at": rfc3339(datetime.now(UTC)),
        "effect": effect,
        "decisive": effect in DECISIVE,
        "operation": cause.operation,
        "step": cause.step,
        "by": cause.by,
        "checkpoint": checkpoint,
        "detail": detail,
    }


def _is_hidden(machine: Machine, caller: Caller | None) -> bool:
    """Return whether a caller does not see a VM: an account without rights is told that there is none (observed)."""
    return machine.hidden and not isinstance(caller, Administrator)


def invalid_state(cmdlet: str) -> HyperVError:
    """Return the error of a cmdlet that the VM's state does not allow (docs/hyperv.md, section 1, observed)."""
    return HyperVError(
        "InvalidState", cmdlet, "The operation cannot be performed while the object is in its current state."
    )
