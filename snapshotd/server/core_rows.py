"""Hosts and VMs as the core holds them, in the shape of the views' rows. Reads no view.

For who has changed something while a view stands still: the change is durable, and is answered.
"""

from __future__ import annotations

from datetime import datetime

from snapshotd.domain.host import Host
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.views import HostRow, VmRow


def host_row(host: Host, vm_count: int) -> HostRow:
    """Return a registered host; when it was last compared, only the view knows."""
    assert host.registered_at is not None, host
    return HostRow(
        host_id=host.host_id,
        address=host.address,
        port=host.port,
        transport=host.transport,
        credential=host.credential,
        ca_file=host.ca_file,
        journal_directory=host.journal_directory,
        registered_at=host.registered_at,
        last_sync_at=None,
        vm_count=vm_count,
        version=host.version,
    )


def vm_row(vm: VirtualMachine, registered_at: datetime) -> VmRow:
    """Return a VM that has just come under our care."""
    return VmRow(
        vm_id=vm.vm_id,
        host_id=vm.host_id,
        name=vm.name,
        owner=vm.owner,
        activity=vm.activity,
        registered=vm.registered,
        power=vm.power,
        description=vm.description,
        current_id=vm.current_id,
        active_operations=tuple(o.name for o in vm.active_operations),
        registered_at=registered_at,
        updated_at=registered_at,
        version=vm.version,
    )
