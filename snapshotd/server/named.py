"""What a request names, as the table of roles has it: a VM or a host. Reads no state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Final

from google.protobuf.message import Message

from snapshotd.access.roles import Concern, Rule
from snapshotd.domain.errors import NotFound
from snapshotd.domain.ids import HostId, VmId, vm_of
from snapshotd.server.requests import host_id_of, operation_of, snapshot_id_of, vm_id_of, volume_snapshot_id_of

_EVERY_VM: Final = "virtualMachines/-"
_OF_EVENTS: Final = ("virtual_machine", "snapshot", "operation")
"""Fields of a request for events that name a VM. All conditions hold together, so one of them is enough."""


@dataclass(frozen=True, slots=True)
class NamedVm:
    """A VM that a request names, by itself or by something that is its own."""

    vm_id: VmId
    hidden: NotFound
    """What somebody is told who must not know of it."""


def named_in(rule: Rule, request: Message) -> NamedVm | HostId | None:
    """Return what a request names; None: nothing in particular. Raises InvalidArgument for what is no name."""
    match rule.concern:
        case Concern.HOST:
            return host_id_of(value_of(request, rule.field), rule.field)
        case Concern.VM:
            return _vm(value_of(request, rule.field), rule.field)
        case Concern.LISTED if rule.field:
            name = value_of(request, rule.field)
            return None if name == _EVERY_VM else _vm(name, rule.field)
        case Concern.NAMED:
            fields = [field for field in _OF_EVENTS if getattr(request, field, "")]
            if fields:
                return _vm(getattr(request, fields[0]), fields[0])
            host = getattr(request, "host", "")
            return host_id_of(host, "host") if host else None
        case _:
            return None


def weighty(rule: Rule, request: Message) -> bool:
    """Return whether a request sets what only an admin of its VM may set."""
    mask = getattr(request, "update_mask", None)
    paths = set(mask.paths) if mask is not None else set()
    return any(value_of(request, f) or paths & {"*", f.rpartition(".")[2]} for f in rule.weighty)


def beyond(rule: Rule, request: Message) -> str:
    """Return the field by which a request reaches beyond its VM; empty: it does not."""
    return next((field for field in rule.beyond if value_of(request, field)), "")


def value_of(request: Message, field: str) -> str:
    """Return the text in a field, whose path may lead through messages."""
    return str(reduce(getattr, field.split("."), request))


def _vm(name: str, field: str) -> NamedVm:
    """Return the VM that a name is of: its own, its snapshot's, its copy's or its operation's."""
    if name.lower().startswith("operations/"):
        operation = operation_of(name, field)
        return NamedVm(vm_of(operation), NotFound("operation", operation, "See `snapshotctl operation list`."))
    parts = name.lower().split("/")
    if len(parts) > 2 and parts[2] == "snapshots":
        vm_id = snapshot_id_of(name, field)[0]
    elif len(parts) > 2 and parts[2] == "volumesnapshots":
        vm_id = volume_snapshot_id_of(name, field)[0]
    else:
        vm_id = vm_id_of(name, field)
    return NamedVm(vm_id, NotFound("virtual machine", vm_id, "See `snapshotctl vm list`, or register it."))
