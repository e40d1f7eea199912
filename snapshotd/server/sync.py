"""Syncs a host: asks it what is there, and compares every registered VM of it with the record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from weakref import WeakValueDictionary

from snapshotd.application.hosts import Hosts
from snapshotd.application.standing import claimed_by
from snapshotd.application.virtual_machines import Decided, VirtualMachines
from snapshotd.domain.commands import SyncVm
from snapshotd.domain.conditions import claimed
from snapshotd.domain.errors import DEFECT, LogRolledBack, SnapshotdError, VmChanging
from snapshotd.domain.events import DriftDetected, Envelope
from snapshotd.domain.host import HostRecord
from snapshotd.domain.host_errors import HostAuthenticationFailed
from snapshotd.domain.host_report import Listed, VmReport
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.operation import Failure
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.logs import about
from snapshotd.ports.event_log import StreamRow
from snapshotd.server.asking import Asking, read_whole
from snapshotd.server.claims import Claims
from snapshotd.server.host_locks import HostLocks
from snapshotd.server.log_lines import of_vm
from snapshotd.server.paging import in_slices
from snapshotd.server.runtime import ITSELF, Runtime

_log = logging.getLogger(__name__)
_FRESH: Final = timedelta(seconds=5)
"""A VM that was looked at so lately is not looked at again for a refusal."""
_LOOK_S: Final = 10.0
"""How long a call may wait for that look."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A VM that was left out of a sync, and why."""

    vm_id: VmId
    name: str
    why: Failure


@dataclass(frozen=True, slots=True)
class Synced:
    """The result of a sync."""

    vms: int
    drifts: tuple[Envelope, ...]
    """Their events are DriftDetected."""
    skipped: tuple[Skipped, ...]


@dataclass(slots=True)
class _Work:
    """What one sync, or a look at one VM, keeps while it lasts."""

    request_id: str = ""
    """The caller's."""
    silent: dict[HostId, Failure] = field(default_factory=dict)
    """The hosts that could not be asked just now."""
    alike: dict[VmId, tuple[int, str]] = field(default_factory=dict)
    """The VMs of which nothing had to be recorded: version and digest of the report."""


class HostReports:
    """Reports of hosts, asked for when they are needed.

    Args:
        runtime: the running core.
        vms: the VMs of the log.
        hosts: the hosts of the log.
    """

    def __init__(self, runtime: Runtime, vms: VirtualMachines, hosts: Hosts) -> None:
        self._runtime = runtime
        self._vms = vms
        self._hosts = hosts
        self._syncing: WeakValueDictionary[HostId, asyncio.Lock] = WeakValueDictionary()
        self._synced_at: dict[HostId, datetime] = {}
        self.compared = 0
        """How many VMs were compared with the record by syncs, since the start."""
        self._refused: dict[HostId, HostAuthenticationFailed] = {}
        """How the last sync that a person asked for was refused, if the host refused to be signed in to."""
        self.locks = HostLocks(runtime)
        """Held by what decides on a host by its VMs, or on a VM by its host."""
        self._asking = Asking(runtime, hosts)
        self.report = self._asking.report
        """Asks a host (server/asking.py), as do the next two: what came of it."""
        self.answers, self.refusals = self._asking.answers, self._asking.refusals
        self._claims = Claims(runtime, hosts, self.locks, self._asking.one)

    def forget(self, host_id: HostId) -> None:
        """Forget what a host reported of itself, and whether it answered."""
        self._asking.forget(host_id)
        self._synced_at.pop(host_id, None)
        self._refused.pop(host_id, None)
        self._runtime.dispatcher.forget(host_id)

    def last_synced(self, host: HostRecord | None) -> datetime | None:
        """Return when a host was last synced: as recorded, or by a quiet sync since."""
        if host is None:
            return None
        times = (host.synced_at, self._synced_at.get(host.host_id))
        return max((time for time in times if time is not None), default=None)

    async def sync(
        self, host_id: HostId, *, actor: str, request_id: str = "", quiet: bool = False, asked: bool = False
    ) -> Synced:
        """Compare a host's VMs with the record, and record that it was done. Raises as `report` does.

        Args:
            host_id: the host; one sync of it at a time.
            actor: who wants it. What it finds is by the host, and what follows from that by snapshotd.
            request_id: the caller's.
            quiet: record it only if something differed.
            asked: a person asks for it now.

        A VM that an operation is at work on is left out: the operation itself asks the host. One that cannot be
        compared for another reason does not hold up the others. One that waits while the sign-in that another one asked
        for is refused takes that refusal: each attempt more may lock the account.
        """
        before = self._refused.get(host_id)
        async with self._syncing.setdefault(host_id, asyncio.Lock()):
            refused = self._refused.get(host_id)
            if refused is not None and refused is not before:
                raise replace(refused)
            self._refused.pop(host_id, None)
            try:
                return await self._sync(host_id, actor, request_id, quiet=quiet, asked=asked)
            except HostAuthenticationFailed as error:
                if asked:
                    # By itself, no attempt need have been made: the executor pauses a credential that was refused.
                    self._refused[host_id] = error
                raise

    async def _sync(self, host_id: HostId, actor: str, request_id: str, *, quiet: bool, asked: bool) -> Synced:
        rows = await self._vms.on_host(host_id)  # before the host is asked: the record may change meanwhile
        told = await self._changed(host_id, rows, asked=asked)
        others = await self._others(host_id, rows, told)
        work = _Work(request_id)
        drifts: list[Envelope] = []
        skipped: list[Skipped] = []
        async for some in in_slices(dict.fromkeys([*(vm_id for vm_id in rows if vm_id in told), *others])):
            read, unread = await self._vms.load_each(some)
            skipped += [Skipped(vm_id, "", Failure.of(error)) for vm_id, error in unread.items()]
            for vm in read:
                look = self._looked_at(vm, host_id, rows.get(vm.vm_id), told.get(vm.vm_id), work)
                found = await self._guarded(vm, look)
                if isinstance(found, Failure):
                    skipped.append(Skipped(vm.vm_id, vm.name, found))
                else:
                    drifts += found
        self._vms.note_compared(work.alike)
        synced = Synced(len(rows) + len(others) - len(skipped), tuple(drifts), tuple(skipped))
        self.compared += synced.vms
        if drifts or not quiet:
            await self.locks.alone(host_id, lambda: self._record(host_id, synced, actor, request_id))
        self._hosts.get(host_id)  # of one that was removed meanwhile, nothing is kept
        self._synced_at[host_id] = self._runtime.moment().utc
        return synced

    async def _changed(
        self, host_id: HostId, rows: Mapping[VmId, StreamRow], *, asked: bool
    ) -> Mapping[VmId, Listed | None]:
        """Return what a host says of VMs, without those that have not changed since they were last compared.

        With None for those of its own that it does not tell of. Raises as `report` does.
        """
        told: dict[VmId, Listed | None] = dict.fromkeys(rows)
        # Each part is looked through as it comes: of what has not changed, nothing stays in memory.
        async for part in self._asking.parts(host_id, asked=asked):
            same: dict[VmId, Listed] = {}
            async for some in in_slices(part.listing):
                for vm in some:
                    vm_id = VmId(vm.vm_id)
                    if _same(rows.get(vm_id), vm):
                        same[vm_id] = vm
                        told.pop(vm_id, None)
                    else:
                        told[vm_id] = vm
            told |= {vm_id: same[vm_id] for vm_id in await self._runtime.unsettled(same)}
        return told

    async def _others(
        self, host_id: HostId, rows: Mapping[VmId, StreamRow], told: Mapping[VmId, Listed | None]
    ) -> tuple[VmId, ...]:
        """Return the VMs of other hosts that a host has, by its list, or had when it was last asked."""
        have = [vm_id for vm_id, vm in told.items() if vm_id not in rows and vm is not None and vm.holds_vm]
        there = [vm_id for vm_id, place in (await self._vms.places(have)).items() if place != host_id] if have else []
        claimed_before = await self._vms.marked(claimed_by(host_id))
        return tuple(dict.fromkeys([*there, *claimed_before]))

    async def _looked_at(
        self, vm: VirtualMachine, host_id: HostId, row: StreamRow | None, listed: Listed | None, work: _Work
    ) -> list[Envelope] | Failure:
        """Compare a VM with what a host says of it: return the drifts, or why it was not compared.

        Args:
            vm: as it is on record.
            host_id: the host.
            row: of the VM's stream, before the host was asked; None: it was not the host's own then.
            listed: what the host said of it among others; None: nothing.
            work: of this sync.
        """
        if vm.host_id == host_id and vm.at_work() and not vm.claims:
            raise VmChanging(vm.name)  # as the comparison would, after the report was read for it
        report = read_whole(host_id, listed) if listed is not None else None
        if vm.host_id != host_id:
            return await self._located(vm, (host_id,), report, work)
        if vm.claims:
            return await self._located(vm, tuple(c.host_id for c in vm.claims), None, work)
        if row is None:
            return await self._compared(vm, vm.version, None, work)
        return await self._compared(vm, row.version, report, work)

    async def _guarded(
        self, vm: VirtualMachine, look: Coroutine[Any, Any, list[Envelope] | Failure]
    ) -> list[Envelope] | Failure:
        """Return the drifts that a look at one VM finds, or why it failed: others are compared all the same."""
        try:
            return await look
        except VmChanging as error:
            return Failure.of(error)
        except SnapshotdError as error:
            facts = about(**of_vm(vm), reason=error.reason)
            _log.warning("vm %s: not compared with the record: %s", vm.vm_id, error, extra=facts)
            return Failure.of(error)
        except Exception:  # noqa: BLE001  (a defect of ours)
            _log.exception("vm %s: not compared with the record", vm.vm_id, extra=about(**of_vm(vm)))
            return Failure(reason=DEFECT, message="snapshotd has a defect. See the daemon's log.")

    async def _compared(
        self, vm: VirtualMachine, asked_version: int, report: VmReport | None, work: _Work
    ) -> list[Envelope] | Failure:
        """Compare a VM with the record: return the drifts, or why it was not compared.

        Args:
            vm: as it is on record.
            asked_version: its version before its host was asked.
            report: what its host said of it among others; None: nothing, so it is asked for it.
            work: of this sync.
        """
        # That a list does not hold a VM is no evidence: an account that has lost its rights sees none (observed).
        if report is None:
            asked_version, report = vm.version, await self._asking.one(vm.host_id, vm.vm_id)
        if report is None:
            return Failure(reason="NOT_REPORTED", message=f"Host {vm.host_id} said nothing of it.")
        if report.unread:
            text = report.unread.message or "Its host could not read it."
            return Failure(reason="UNREADABLE", message=text, error_id=report.unread.error_id)
        command = SyncVm(report=report, asked_version=asked_version, host_id=vm.host_id)
        decided = await self._runtime.request(vm.vm_id, command, actor=ITSELF, request_id=work.request_id)
        if decided.vm.rolled_back:
            return Failure.of(LogRolledBack(decided.vm.name, decided.vm.rolled_back))
        # What has just been recorded may make the same report mean more: it is compared once again.
        settled = not decided.envelopes and not decided.vm.active
        if report.digest and settled and decided.vm.host_id == vm.host_id:
            work.alike[vm.vm_id] = (decided.vm.version, report.digest)
        return _drifts(decided)

    async def _located(
        self, vm: VirtualMachine, others: Iterable[HostId], listed: VmReport | None, work: _Work
    ) -> list[Envelope] | Failure:
        """Compare what a VM's own host and others say of where it is. One that is claimed no more is compared whole.

        Return the drifts, or why it was not compared.
        """
        drifts: list[Envelope] = []
        unasked: Failure | None = None
        before = vm
        for other in others:
            usable = listed if listed is not None and listed.holds_vm else None
            decided = await self._claims.compare(vm, other, usable, work.silent, work.request_id)
            if isinstance(decided, Failure):
                unasked = decided
            else:
                drifts += _drifts(decided)
                vm = decided.vm
        if vm.claims or unasked is not None:
            # What has just changed is told; why the VM is left out, by the next sync.
            return drifts or (Failure.of(claimed(vm)) if vm.claims else unasked) or []
        if before.claims and vm.host_id == before.host_id:
            compared = await self._compared(vm, vm.version, None, work)
            return drifts + compared if isinstance(compared, list) else drifts or compared
        return drifts

    async def look(self, vm_id: VmId) -> bool:
        """Compare one VM with the record, unless that was done just now; return whether it was compared.

        The host is given a few seconds: somebody waits for the answer to a call.
        """
        vm = await self._runtime.load(vm_id)
        now, seen = self._runtime.moment().utc, self._seen(vm)
        if not vm.registered or (not vm.claims and seen is not None and now - seen < _FRESH):
            return False
        try:
            async with asyncio.timeout(_LOOK_S):
                if vm.claims:
                    return isinstance(await self._located(vm, [c.host_id for c in vm.claims], None, _Work()), list)
                report = await self._asking.one(vm.host_id, vm_id)
            if report is not None:
                command = SyncVm(report=report, asked_version=vm.version, host_id=vm.host_id)
                await self._runtime.request(vm_id, command, actor=ITSELF)
        except (SnapshotdError, TimeoutError):
            return False
        return report is not None

    async def find(self, vm_id: VmId) -> None:
        """Ask all other hosts for a VM that its own does not have, and follow it where it is."""
        vm, work = await self._runtime.load(vm_id), _Work()

        async def ask(other: HostId) -> None:
            report = await self._claims.asked(other, vm_id, work.silent)
            if isinstance(report, VmReport) and report.holds_vm:
                await self._guarded(vm, self._located(vm, (other,), report, work))

        hosts = [host.host_id for host in self._hosts.registered() if host.host_id != vm.host_id]
        await asyncio.gather(*map(ask, hosts))

    def _seen(self, vm: VirtualMachine) -> datetime | None:
        return self._runtime.dispatcher.observed.get(vm.host_id, vm.vm_id)

    def ground(self, vm: VirtualMachine) -> str:
        """Return when a VM was last looked at on its host, whether it was there or not, for people."""
        seen = self._seen(vm)
        if seen is None:
            return "The VM was not looked at on its host since snapshotd started, and its host did not answer just now."
        age_s = max(0, round((self._runtime.moment().utc - seen).total_seconds()))
        return f"The VM was last looked at on its host at {seen:%H:%M:%S}Z, {age_s} s ago."

    async def _record(self, host_id: HostId, synced: Synced, actor: str, request_id: str) -> None:
        skipped = tuple(vm.vm_id for vm in synced.skipped)
        envelopes = await self._hosts.synced(
            host_id, synced.vms, len(synced.drifts), skipped, actor=actor, request_id=request_id
        )
        self._runtime.acknowledge(envelopes)


def _same(row: StreamRow | None, vm: Listed) -> bool:
    """Return whether nothing has changed since a VM was last compared: neither its record, nor what its host says."""
    return row is not None and row.compared_version == row.version and vm.digest == row.digest != ""


def _drifts(decided: Decided) -> list[Envelope]:
    return [e for e in decided.envelopes if isinstance(e.event, DriftDetected)]
