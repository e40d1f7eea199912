"""Narrows lists to what their caller may see. Whoever may see everything costs nothing here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from snapshotd.access.bindings import Sight
from snapshotd.domain.ids import VmId
from snapshotd.domain.vm_record import VmRecord
from snapshotd.ports.views import VM_FIELDS, PageQuery, Views, Where
from snapshotd.server.backend import Backend
from snapshotd.server.callers import Caller, caller
from snapshotd.server.listing import Filter, place_in
from snapshotd.server.paging import Rows, slices_of

E = TypeVar("E")

_BY_NAME: Final = (("name", False),)


def narrowed(wanted: Filter[E], sees: Callable[[Caller, E], bool]) -> Filter[E]:
    """Return a filter that also leaves out what the caller may not see.

    Args:
        wanted: what the caller asks for.
        sees: returns whether a caller may see an entry.
    """
    own = caller()
    return wanted if own.sight().everything else wanted.meeting(partial(sees, own))


async def narrowed_to_vms(wanted: Filter[E], backend: Backend, vm_of: Callable[[E], VmId]) -> Filter[E]:
    """Return a filter that also leaves out what belongs to VMs that the caller may not see.

    Args:
        wanted: what the caller asks for.
        backend: of the server.
        vm_of: returns the VM that an entry belongs to.
    """
    own = caller()
    sight = own.sight()
    if sight.everything:
        return wanted
    views = await backend.seen("inventory")
    seen = {vm.vm_id for where in _parts(sight) for vm in await _vms(views, where)} | sight.vms

    def sees(entry: E) -> bool:
        # As the core has it, if it is in memory: a VM may have come or gone since the call began.
        vm = backend.vms.known(vm_of(entry))
        return own.sees_vm(vm) if vm.version else vm.vm_id in seen

    return wanted.meeting(sees)


def _parts(sight: Sight) -> Sequence[Where]:
    accounts = [Where("owner", "=", account) for account in sorted(sight.accounts)]
    return [*accounts, *(Where("host", "=", f"hosts/{host}") for host in sorted(sight.hosts))]


async def _vms(views: Views, where: Where) -> Sequence[VmRecord]:
    """Return all VMs that meet a condition, registered or not."""

    async def fetch(after: tuple[str, ...] | None, limit: int) -> Sequence[VmRecord]:
        return await views.vms(PageQuery(order=_BY_NAME, after=after, limit=limit, where=(where,)), unregistered=True)

    found: list[VmRecord] = []
    async for some in slices_of(Rows(fetch, place_in(_BY_NAME, VM_FIELDS))):
        found += some
    return found
