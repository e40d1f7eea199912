"""What the control port asks of the model (docs/simulated-host.md): guests write, somebody acts by hand, things fail.

Every method raises ValueError or LookupError for what makes no sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from snapshotd.simulator.hypervisor import HyperVError
from snapshotd.simulator.journal import journal_path
from snapshotd.simulator.model.cmdlets import Cmdlets
from snapshotd.simulator.model.disks import digest
from snapshotd.simulator.model.drives import Drives
from snapshotd.simulator.model.host import ADMINISTRATOR, HYPERVISOR, Administrator, HostState
from snapshotd.simulator.model.inventory import SNAPSHOT_TYPES
from snapshotd.simulator.model.machine import Checkpoint, Machine
from snapshotd.simulator.model.power import Power
from snapshotd.simulator.model.vhds import Vhds

_ADMIN: Final[Mapping[str, tuple[str, ...]]] = {
    "checkpoint": ("name", "automatic", "type"),
    "rename": ("checkpoint", "name"),
    "remove": ("checkpoint",),
    "apply": ("checkpoint",),
    "start": (),
    "shut_down": (),
    "turn_off": (),
    "set_checkpoint_type": ("type", "value"),
    "set_automatic_checkpoints": ("value",),
    "attach": ("location", "path", "size_bytes"),
    "detach": ("location",),
    "resize": ("location", "size_bytes"),
}
"""What an administrator can do, with the arguments needed besides the VM."""
_ABILITIES: Final = ("vss", "shutdown_service", "shuts_down", "boots")
"""What a guest can do, or not."""


class Controls:
    """The control port's actions on one host.

    Args:
        host: what is acted on.
        cmdlets: what an administrator uses.
        power: likewise.
        drives: likewise.
        vhds: likewise.
    """

    def __init__(self, host: HostState, cmdlets: Cmdlets, power: Power, drives: Drives, vhds: Vhds) -> None:
        self._host = host
        self._cmdlets = cmdlets
        self._power = power
        self._drives = drives
        self._vhds = vhds

    def write_disk(self, vm: str, location: str, block: object, data: object) -> None:
        """Write a block in the guest.

        The file comes before the truth: killed in between, a write that nobody was told of is there.
        """
        if not isinstance(block, str) or not isinstance(data, str):
            raise ValueError(f"block and data are texts: {block!r}, {data!r}")  # noqa: TRY004  (the port's word)
        with self._host.changed:
            machine = self._host.named(vm)
            if machine.state not in ("Running", "Off"):
                raise ValueError(f"VM {machine.name} is {machine.state}: nothing writes to its disks")
            if self._host.is_away(machine):
                raise ValueError(f"{machine.name}'s storage is away")
            self._host.disks.write(disk_at(machine, machine.disks, location), block, data)
            self._host.record(machine, ADMINISTRATOR, "disk_written", location=location, block=block)

    def read_disk(self, vm: str, location: str) -> dict[str, Any]:
        """Return what the guest sees."""
        with self._host.changed:
            machine = self._host.named(vm)
            blocks = self._host.disks.content(disk_at(machine, machine.disks, location))
            return {"blocks": blocks, "sha256": digest(blocks)}

    def kill_script(self, at: str, count: int = 1) -> dict[str, Any]:
        """Kill the next scripts that reach an action; return how many of the former plan had not reached it."""
        with self._host.changed:
            return {"left": self._host.faults.plan_kill(at, count)}

    def fail(
        self,
        cmdlet: str,
        error_id: str,
        message: str = "",
        count: int = 1,
        after_effect: object = False,  # noqa: FBT002  (the name is the port's)
        vm: str = "",
    ) -> None:
        """Make the next calls of a cmdlet fail; for one VM only if the cmdlet reads."""
        after_effect = check_bool("after_effect", after_effect)
        with self._host.changed:
            vm_id = self._host.named(vm).vm_id if vm else ""
            self._host.faults.plan_failure(cmdlet, error_id, message, count, after_effect=after_effect, vm_id=vm_id)

    def lose_journal(self, vm: str) -> None:
        """Delete a VM's journal."""
        with self._host.changed:
            machine = self._host.named(vm)
            journal_path(self._host.journal_directory, machine.vm_id).unlink(missing_ok=True)
            self._host.record(machine, ADMINISTRATOR, "journal_lost")

    def durations(self, **durations: int) -> None:
        """Change how long things take, in milliseconds, jobs and merges under way included."""
        with self._host.changed:
            self._host.set_durations(durations)
            self._host.changed.notify_all()

    def storage(self, vm: str, up: object) -> None:
        """Take a VM's storage away, or bring it back."""
        check_bool("up", up)
        with self._host.changed:
            machine = self._host.named(vm)
            (self._host.disks.bring_back if up else self._host.disks.take_away)(self._host.folder(machine))
            self._host.changed.notify_all()

    def set_guest(self, vm: str, **abilities: bool) -> None:
        """Change what a guest can do: vss, shutdown_service, shuts_down, boots."""
        with self._host.changed:
            machine = self._host.named(vm)
            for name, value in abilities.items():
                if name not in _ABILITIES:
                    raise ValueError(f"no ability {name!r}: use {', '.join(_ABILITIES)}")
                check_bool(name, value)
            for name, value in abilities.items():
                setattr(machine, name, value)
            self._host.keep(machine)
            self._host.changed.notify_all()

    def admin(self, do: object, vm: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401  (what the port was sent)
        """Act as an administrator does by hand."""
        if not isinstance(do, str) or do not in _ADMIN:
            raise ValueError(f"an administrator does not {do!r}: use one of {', '.join(_ADMIN)}")
        unknown = sorted(set(arguments) - set(_ADMIN[do]))
        if unknown:
            raise ValueError(f"{do} takes no {', '.join(unknown)}: only {', '.join(('vm', *_ADMIN[do]))}")
        with self._host.changed:
            machine = self._host.named(vm)
            if "checkpoint" in arguments:
                checkpoint_of(machine, arguments["checkpoint"])
            try:
                return self._by_hand(do, machine, arguments)
            except HyperVError as error:
                raise ValueError(f"{error.fully_qualified}: {error}") from error

    def _by_hand(self, do: str, machine: Machine, arguments: Mapping[str, Any]) -> dict[str, Any]:
        caller = Administrator()
        match do:
            case "checkpoint":
                made = self._cmdlets.checkpoint_vm(
                    caller,
                    machine.vm_id,
                    str(arguments.get("name", "by hand")),
                    automatic=bool(arguments.get("automatic", False)),
                    snapshot_type=snapshot_type(arguments.get("type", "Standard")),
                )
                return {"checkpoint": made}
            case "rename":
                self._cmdlets.rename_snapshot(caller, _text(arguments, "checkpoint"), _text(arguments, "name"))
            case "remove":
                self._cmdlets.remove_snapshot(caller, _text(arguments, "checkpoint"))
            case "apply":
                self._cmdlets.restore_snapshot(caller, _text(arguments, "checkpoint"))
            case "start":
                self._power.start_vm(caller, machine.vm_id)
            case "shut_down":
                self._power.begin_shutdown(machine)
            case "turn_off":
                self._power.stop_vm(caller, machine.vm_id, turn_off=True)
            case "set_automatic_checkpoints":
                self._set_automatic_checkpoints(machine, arguments.get("value"))
            case "attach" | "detach" | "resize":
                self._change_drive(do, machine, arguments)
            case _:
                chosen = str(arguments.get("type") or arguments.get("value") or "")
                self._cmdlets.set_checkpoint_type(caller, machine.vm_id, chosen)
        return {}

    def _change_drive(self, do: str, machine: Machine, arguments: Mapping[str, Any]) -> None:
        caller, location = Administrator(), _text(arguments, "location")
        size_bytes = arguments.get("size_bytes", 0)
        if type(size_bytes) is not int or (do == "resize" and not size_bytes):
            raise ValueError(f"size_bytes must be a whole number: {size_bytes!r}")
        if do == "resize":
            self._vhds.resize_vhd(caller, disk_at(machine, machine.disks, location), size_bytes)
        elif do == "detach":
            self._drives.remove_drive(caller, machine.vm_id, location)
        else:
            path = _text(arguments, "path")
            if size_bytes:
                self._vhds.new_vhd(caller, path, size_bytes)
            self._drives.add_drive(caller, machine.vm_id, location, path)

    def _set_automatic_checkpoints(self, machine: Machine, value: object) -> None:
        machine.automatic_checkpoints = check_bool("value", value)
        machine.settings.pop("AutomaticCheckpointsEnabled", None)
        self._host.record(machine, ADMINISTRATOR, "automatic_checkpoints_set", value=value)

    def restart_host(self) -> None:
        """Restart: jobs that have not ended have not happened, VMs that ran are off, merges go on."""
        with self._host.changed:
            self._host.jobs.end_all()
            for machine in self._host.machines.values():
                if machine.state in ("Running", "Paused"):
                    machine.goes_to("Off")
                    machine.memory = ""
                self._host.record(machine, HYPERVISOR, "host_restarted")


def check_bool(name: str, value: object) -> bool:
    """Return a value of the control port that is true or false. Raises ValueError for any other."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false: {value!r}")  # noqa: TRY004  (the port's word for nonsense)
    return value


def checkpoint_of(machine: Machine, checkpoint: object) -> Checkpoint:
    """Return a VM's checkpoint by its id, in any case. Raises LookupError."""
    found = machine.checkpoints.get(str(checkpoint).lower())
    if found is None:
        raise LookupError(f"VM {machine.name} has no checkpoint {checkpoint!r}")
    return found


def disk_at(machine: Machine, disks: Mapping[str, str], location: object) -> str:
    """Return the file at a place of a VM's or a checkpoint's. Raises LookupError."""
    if not isinstance(location, str) or location not in disks:
        raise LookupError(f"VM {machine.name} has no disk at {location!r}: {', '.join(disks) or 'none at all'}")
    return disks[location]


def snapshot_type(value: object) -> str:
    """Return a SnapshotType that a test names. Raises ValueError."""
    if not isinstance(value, str) or value not in SNAPSHOT_TYPES:
        raise ValueError(f"type {value!r} is none of {', '.join(SNAPSHOT_TYPES)}")
    return value


def _text(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is missing")
    return value
