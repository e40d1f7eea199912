"""Which files VMs have open while they run, and what others can do with them then."""

from __future__ import annotations

from collections.abc import Collection

from snapshotd.simulator.hypervisor import HyperVError
from snapshotd.simulator.model.host import HostState
from snapshotd.simulator.model.machine import Machine


def opened_by(host: HostState, machine: Machine) -> set[str]:
    """Return the files that a VM has open: all of its chains while it runs."""
    if machine.state not in ("Running", "Paused"):
        return set()
    return {file for path in machine.disks.values() for file in host.disks.chain(path)}


def check_unlocked(host: HostState, machine: Machine, leaves: Collection[str], cmdlet: str) -> None:
    """Check that a VM can open disks to write to them: another one that runs has them not open. Raises HyperVError.

    What both only read, as a common image, both can open. Disks that are shared on purpose are not looked at.
    """
    reads = {file for path in leaves for file in host.disks.chain(path)}
    for other in host.machines.values():
        if other is machine or "SHARED_DISK" in machine.blockers:
            continue
        opened = opened_by(host, other)
        for path in (opened & set(leaves)) | (reads & set(other.disks.values()) & opened):
            # Observed that it fails at the start; the text is inferred.
            text = f"'{machine.name}': the file '{path}' is being used by another process. (0x80070020)"
            raise HyperVError("OperationFailed", cmdlet, text)
