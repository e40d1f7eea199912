"""The conditions that a test puts a host in, and that no cmdlet does (docs/simulated-host.md): hidden VMs, ...

They are kept over a restart, and on record. Every method raises ValueError or LookupError for what makes no sense.
"""

from __future__ import annotations

from snapshotd.simulator.model.host import ADMINISTRATOR, HostState


class Conditions:
    """The conditions of one host.

    Args:
        host: whose.
    """

    def __init__(self, host: HostState) -> None:
        self._host = host

    def hide(self, vms: object = (), hidden: object = True) -> None:  # noqa: FBT002  (the name is the port's)
        """Hide VMs from the account that signs in, or show them again; all, if none is named."""
        _check_bool("hidden", hidden)
        if not isinstance(vms, list | tuple):
            raise ValueError(f"vms must be a list of VMs, or empty for all: {vms!r}")  # noqa: TRY004  (the port's word)
        with self._host.changed:
            chosen = [self._host.named(vm) for vm in vms] if vms else list(self._host.machines.values())
            for machine in chosen:
                machine.hidden = bool(hidden)
                self._host.record(machine, ADMINISTRATOR, "vm_hidden" if hidden else "vm_shown")

    def critical(self, vm: str, critical: object = True) -> None:  # noqa: FBT002  (the name is the port's)
        """Bring a VM into the critical form of whatever state it is in, or out of it."""
        _check_bool("critical", critical)
        with self._host.changed:
            machine = self._host.named(vm)
            machine.critical = bool(critical)
            self._host.record(machine, ADMINISTRATOR, "vm_critical" if critical else "vm_not_critical")


def _check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false: {value!r}")  # noqa: TRY004  (the port's word for nonsense)
