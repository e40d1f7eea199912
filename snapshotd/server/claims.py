"""Asks which host has a VM that another one than its own reports, and has that decided (application/claims.py)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Final, TypeAlias

from snapshotd.application.hosts import Hosts
from snapshotd.application.virtual_machines import Decided
from snapshotd.domain.commands import CompareHosts
from snapshotd.domain.errors import NotFound, SnapshotdError
from snapshotd.domain.host_errors import (
    HostAuthenticationFailed,
    HostCredentialMissing,
    HostRefused,
    HostUnreachable,
    NoExecutor,
)
from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Failure
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.server.host_locks import HostLocks
from snapshotd.server.runtime import ITSELF, Runtime

_SILENT: Final = (HostAuthenticationFailed, HostCredentialMissing, HostRefused, HostUnreachable, NoExecutor)
"""Errors after which a host need not be asked for the next VM."""
Silent: TypeAlias = MutableMapping[HostId, Failure]
"""The hosts that could not be asked just now, and why: each is tried once, however many VMs it is asked for."""


class Claims:
    """Finds out where VMs are.

    Args:
        runtime: the running core.
        hosts: the hosts of the log.
        locks: held by what decides on a host by its VMs.
        report: asks a host for one VM, and raises a SnapshotdError if that fails.
    """

    def __init__(
        self,
        runtime: Runtime,
        hosts: Hosts,
        locks: HostLocks,
        report: Callable[[HostId, VmId], Awaitable[VmReport | None]],
    ) -> None:
        self._runtime = runtime
        self._hosts = hosts
        self._locks = locks
        self._report = report

    async def compare(
        self, vm: VirtualMachine, other: HostId, listed: VmReport | None, silent: Silent, request_id: str = ""
    ) -> Decided | Failure:
        """Ask two hosts for a VM, and record where it is; return why not, if the other one cannot be asked.

        Args:
            vm: as it was before either host was asked.
            other: not its own host.
            listed: what the other host has just said of it, among others; None: it was not asked.
            silent: hosts that could not be asked just now; added to.
            request_id: the caller's.
        """
        theirs = listed or await self.asked(other, vm.vm_id, silent)
        own: VmReport | Failure = _absent(vm.vm_id)
        if isinstance(theirs, VmReport) and theirs.holds_vm:
            own = await self.asked(vm.host_id, vm.vm_id, silent)
            if listed is not None and isinstance(own, VmReport) and own.holds_vm:
                theirs = await self.asked(other, vm.vm_id, silent)  # it may have moved back between the two reports
        if isinstance(theirs, Failure):
            return theirs
        command = CompareHosts(host_id=other, report=theirs, own_host_id=vm.host_id, own=own, asked_version=vm.version)

        async def decide() -> Decided:
            # A host that was removed while it was asked must get no VM.
            told = command if self._registered(other) else replace(command, report=_absent(vm.vm_id))
            return await self._runtime.request(vm.vm_id, told, actor=ITSELF, request_id=request_id)

        return await self._locks.alone(other, decide)

    async def asked(self, host_id: HostId, vm_id: VmId, silent: Silent) -> VmReport | Failure:
        """Return what a host says of a VM, or why it cannot be asked. One that is not registered has none."""
        if host_id in silent:
            return silent[host_id]
        if not self._registered(host_id):
            return _absent(vm_id)
        try:
            report = await self._report(host_id, vm_id)
        except SnapshotdError as error:
            failure = Failure.of(error)
            if isinstance(error, _SILENT):
                silent[host_id] = failure
            return failure
        return report or Failure(reason="NOT_REPORTED", message=f"Host {host_id} said nothing of it.")

    def _registered(self, host_id: HostId) -> bool:
        try:
            self._hosts.get(host_id)
        except NotFound:
            return False
        return True


def _absent(vm_id: VmId) -> VmReport:
    return VmReport(vm_id=vm_id, power=Power.ABSENT, host_state="", description=None)
