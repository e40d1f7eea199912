"""The conditions that a test puts a host in, and that no cmdlet does (docs/simulated-host.md): hidden VMs, ...

They are kept over a restart, and on record. Every method raises ValueError or LookupError for what makes no sense.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from snapshotd.simulator.hypervisor import HyperVError
from snapshotd.simulator.model.controls import check_bool, checkpoint_of, disk_at, snapshot_type
from snapshotd.simulator.model.disks import AWAY
from snapshotd.simulator.model.host import ADMINISTRATOR, HostState
from snapshotd.simulator.model.machine import machine_of
from snapshotd.simulator.model.merging import Merging

_LARGEST_OFFSET_S: Final = 10 * 366 * 86_400
"""Ten years."""


class Conditions:
    """The conditions of one host.

    Args:
        host: whose.
        merging: is told of files that come back.
    """

    def __init__(self, host: HostState, merging: Merging) -> None:
        self._host = host
        self._merging = merging

    def hide(self, vms: object = (), hidden: object = True) -> None:  # noqa: FBT002  (the name is the port's)
        """Hide VMs from the account that signs in, or show them again; all, if none is named."""
        hidden = check_bool("hidden", hidden)
        if not isinstance(vms, list | tuple):
            raise ValueError(f"vms must be a list of VMs, or empty for all: {vms!r}")  # noqa: TRY004  (the port's word)
        with self._host.changed:
            chosen = [self._host.named(vm) for vm in vms] if vms else list(self._host.machines.values())
            for machine in chosen:
                machine.hidden = hidden
                self._host.record(machine, ADMINISTRATOR, "vm_hidden" if hidden else "vm_shown")

    def critical(self, vm: str, critical: object = True) -> None:  # noqa: FBT002  (the name is the port's)
        """Bring a VM into the critical form of whatever state it is in, or out of it."""
        critical = check_bool("critical", critical)
        with self._host.changed:
            machine = self._host.named(vm)
            machine.critical = critical
            self._host.record(machine, ADMINISTRATOR, "vm_critical" if critical else "vm_not_critical")

    def set_checkpoint(self, vm: str, checkpoint: object, **facts: object) -> None:
        """Change what a checkpoint is: its SnapshotType (type), whether its files are there (files)."""
        if unknown := sorted(set(facts) - {"type", "files"}):
            raise ValueError(f"no fact {', '.join(unknown)} of a checkpoint: use type, files")
        if "files" in facts:
            check_bool("files", facts["files"])
        kind = snapshot_type(facts["type"]) if "type" in facts else ""
        with self._host.changed:
            machine = self._host.named(vm)
            found = checkpoint_of(machine, checkpoint)
            if self._host.is_away(machine):
                raise ValueError(f"{machine.name}'s storage is away")
            found.snapshot_type = kind or found.snapshot_type
            for path in found.disks.values() if "files" in facts else ():
                (self._host.disks.restore if facts["files"] else self._host.disks.lose)(path)
            self._host.record(machine, ADMINISTRATOR, "checkpoint_changed", found.checkpoint_id, **facts)
            self._merging.look_at(machine.vm_id)

    def stray_file(self, vm: str, location: object, checkpoint: object = "") -> dict[str, object]:
        """Put a file of nobody's into a chain, as a backup leaves it, where it stays; return its path.

        It stands right under a checkpoint's file, or under the one that the VM writes to. Where that is a base, which
        has nothing under it, the VM or the checkpoint goes on with a new file over the stray and the base.
        """
        with self._host.changed:
            machine = self._host.named(vm)
            used = checkpoint_of(machine, checkpoint).disks if checkpoint else machine.disks
            path = disk_at(machine, used, location)
            try:
                self._host.check_files(machine, {str(location): path}, "")
            except HyperVError as error:
                raise ValueError(str(error)) from error
            if self._host.disks.chain(path) == (path,):
                above = self._host.disks.put_on(path)
                for files in (machine.disks, *(c.disks for c in machine.checkpoints.values())):
                    files.update({at: above for at, file in files.items() if file == path})
                path = above
            stray = self._host.disks.put_under(path)
            machine.strays.append(stray)
            self._host.record(machine, ADMINISTRATOR, "stray_added", str(checkpoint).lower(), file=stray)
            self._merging.look_at(machine.vm_id)
            return {"file": stray}

    def share(self, path: object, up: object) -> None:
        """Take a folder away, or bring it back: a share, whose VMs' disks and exports are not reached meanwhile."""
        check_bool("up", up)
        if not isinstance(path, str) or not Path(path).is_absolute():
            raise ValueError(f"path must be an absolute one: {path!r}")
        away = Path(f"{path}{AWAY}")
        with self._host.changed:
            there = away if up else Path(path)
            if not there.is_dir():
                raise LookupError(f"{there} is no folder")
            there.rename(path if up else away)
            self._host.changed.notify_all()

    def move_out(self, vm: str) -> dict[str, dict[str, Any]]:
        """Let a VM go to another host, with its checkpoints and without its journal; return what that one takes in."""
        with self._host.changed:
            machine = self._host.named(vm)
            if self._host.jobs.of(machine.vm_id) is not None or self._host.is_away(machine):
                raise ValueError(f"{machine.name} is busy, or its storage is away")
            self._merging.forget(machine.vm_id)
            return {"machine": self._host.release(machine)}

    def move_in(self, machine: object) -> None:
        """Take in a VM that another host with the same storage has let go."""
        with self._host.changed:
            try:
                come = machine_of(machine)
                come.hidden = False  # what an account may see is each host's own
                self._host.take_in(come)
            except (TypeError, AttributeError) as error:
                raise ValueError(f"machine is not what move_out returns: {error}") from error
            self._merging.take_in(come)

    def free_space(self, volume: object = "", **setting: object) -> dict[str, object]:
        """Make so many bytes of a volume free from now on (free_bytes; null: no end), or just return how many are."""
        unknown = sorted(set(setting) - {"free_bytes"})
        if not isinstance(volume, str) or unknown:
            raise ValueError(f"volume {volume!r} with {', '.join(unknown) or 'it'}: use volume, a path, and free_bytes")
        free = setting.get("free_bytes")
        if free is not None and (type(free) is not int or free < 0):
            raise ValueError(f"free_bytes must be a whole number, or null for no end: {free!r}")
        directory = self._host.disks.directory / volume
        if not directory.is_dir():
            raise ValueError(f"there is no directory {directory}")
        with self._host.changed:
            if setting:
                self._host.volumes.set_free(directory, free)
                self._host.note(ADMINISTRATOR, "free_space_set", volume=str(directory), free_bytes=free)
                self._host.changed.notify_all()
            return {"free_bytes": self._host.volumes.free_bytes(directory)}

    def clock(self, offset_s: object) -> None:
        """Set the host's clock so many seconds ahead of this machine's; negative: behind it."""
        if (
            not isinstance(offset_s, int | float)
            or isinstance(offset_s, bool)
            or not abs(offset_s) <= _LARGEST_OFFSET_S
        ):
            raise ValueError(f"offset_s must be a number of seconds, at most {_LARGEST_OFFSET_S}: {offset_s!r}")
        with self._host.changed:
            self._host.set_clock(offset_s)
            for machine in self._host.machines.values():
                self._host.record(machine, ADMINISTRATOR, "clock_set", offset_s=offset_s)
