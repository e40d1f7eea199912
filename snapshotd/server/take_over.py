"""Takes hosts and VMs over, by a person's decision: from another installation, or with a log that was restored.

    host is another's: block each VM ──► host.json is ours (compare and set) ──► on record ─┐
    host is ours: ──────────────────────────────────────────────────────────────────────────┴─► take over each VM

A VM is blocked first: what this log has under way on it must not go on once the host is ours, by a journal in which
the other installation's work has taken the place of ours. Each part can be repeated, and goes on with the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from snapshotd.api.v1 import host_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.application.take_over import TakenOver, taken_over
from snapshotd.domain.answered_requests import answered_before
from snapshotd.domain.commands import AwaitTakeOver, TakeOverVm
from snapshotd.domain.errors import InvalidArgument, NotFound, SnapshotdError
from snapshotd.domain.host_errors import HostCommandFailed, HostForeign, HostJournalsFailed
from snapshotd.domain.host_report import HostAnswer, Verdict, VmReport
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.operation import Failure
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.server.asking import answered
from snapshotd.server.backend import Backend
from snapshotd.server.callers import caller
from snapshotd.server.operation_messages import failure_message, vm_name
from snapshotd.server.ownership import refuse_unusable
from snapshotd.server.requests import digest_of, request_id_of

T = TypeVar("T")
_AT_ONCE: Final = 64
"""How many VMs are decided at a time. Those that fall together are committed together."""
_LONGEST_REASON: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person asks for, and who it is."""

    reason: str
    actor: str
    request_id: str
    digest: str
    validate_only: bool

    def check(self) -> None:
        """Raise InvalidArgument for a reason that cannot be kept."""
        if len(self.reason) > _LONGEST_REASON or not self.reason.replace("\n", " ").isprintable():
            problem = f"must have at most {_LONGEST_REASON} characters, all printable."
            raise InvalidArgument("reason", self.reason[:40], problem)


def wish_of(request: host_pb2.TakeOverHostRequest | pb.TakeOverVirtualMachineRequest) -> Wish:
    """Return what a call asks for. Raises InvalidArgument."""
    return Wish(
        reason=request.reason,
        actor=caller().actor,
        request_id=request_id_of(request.request_id),
        digest=digest_of(request),
        validate_only=request.validate_only,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class One:
    """What came of one VM: it was taken over, it needed nothing (neither is set), or it failed."""

    vm: VirtualMachine
    taken: TakenOver | None = None
    failure: Failure | None = None

    def message(self, now: datetime) -> pb.TakenOver:
        """Return it as callers get it."""
        taken = self.taken
        told = pb.TakenOver(virtual_machine=vm_name(self.vm.vm_id), display_name=self.vm.name)
        if taken is None:
            if self.failure is None:
                told.nothing_to_do = True
            else:
                told.failure.CopyFrom(failure_message(self.failure, now))
            return told
        told.journal_token = taken.journal_token
        told.operations_ended.extend(taken.ended)
        for checkpoint in taken.marked:
            told.marked_checkpoints.add(checkpoint_id=checkpoint.checkpoint_id, display_name=checkpoint.name)
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """What came of a host."""

    former: str
    changes_hands: bool
    vms: tuple[One, ...]
    """Those that were taken over, or failed."""
    unregistered: int


class TakeOver:
    """Takes over.

    Args:
        backend: of the server.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def vm(self, vm_id: VmId, wish: Wish) -> One:
        """Take one VM over.

        Raises InvalidArgument, NotFound, HostForeign, NotTakenOver, VmChanging, and as HostReports.report does.
        """
        wish.check()
        backend = self._backend
        vm = await backend.runtime.load(vm_id)
        if not vm.registered:
            raise NotFound("virtual machine", vm_id, "See `snapshotctl vm list`.")
        answer = await backend.reports.report(vm.host_id, vm_id, asked=True)
        refuse_unusable(vm.host_id, answer, backend.installation_id)
        assert answer.vm is not None, vm_id
        return await self._decide(vm, answer.vm, wish, foreign=False)

    async def host(self, host_id: HostId, wish: Wish) -> Whole:
        """Take a host over, with its VMs.

        Raises InvalidArgument, NotFound, HostForeign, HostJournalsFailed, and as HostReports.report does.
        """
        wish.check()
        self._backend.hosts.get(host_id)
        # No VM is registered there meanwhile, and no other take-over comes between.
        return await self._backend.reports.locks.alone(host_id, lambda: self._host(host_id, wish))

    async def _host(self, host_id: HostId, wish: Wish) -> Whole:
        backend = self._backend
        vms = await self._vms_of(host_id)
        answer = await backend.reports.report(host_id, asked=True)
        foreign = answer.installation_id != backend.installation_id
        former = answer.installation_id if foreign else self._former_before(host_id, wish)
        if foreign and not wish.validate_only:
            if answer.journal_error:
                raise HostJournalsFailed(host_id, answer.journal_error_id, answer.journal_error)
            await self._own(host_id, answer, wish)
            vms = await self._vms_of(host_id)
            answer = await backend.reports.report(host_id, asked=False)
        elif not wish.validate_only:
            await self._complete(host_id, answer, wish)
        reports = {vm.vm_id: vm for vm in answer.vms}
        came = await _each(vms, lambda vm: self._one(vm, reports.get(vm.vm_id), wish, foreign=foreign))
        registered = await backend.vms.places([VmId(vm.vm_id) for vm in answer.vms])
        return Whole(
            former=former,
            changes_hands=foreign or bool(former),
            vms=tuple(one for one in came if one.taken or one.failure),
            unregistered=sum(VmId(vm.vm_id) not in registered for vm in answer.vms),
        )

    async def _own(self, host_id: HostId, answer: HostAnswer, wish: Wish) -> None:
        """Block the VMs of a host, make its journals ours, and record that."""
        backend, runtime = self._backend, self._backend.runtime

        async def block(vm: VirtualMachine) -> None:
            await runtime.request(vm.vm_id, AwaitTakeOver(), actor=wish.actor, request_id=wish.request_id)

        await _each(await self._vms_of(host_id), block)
        former = answer.installation_id
        said = answered(backend.hosts.get(host_id), await runtime.take_over(host_id, former))
        if said.verdict is Verdict.FOREIGN_INSTALLATION:
            raise HostForeign(host_id, f"{said.error_message} It has changed hands just now.")
        if said.verdict is not Verdict.DONE:
            raise HostCommandFailed(host_id, said.error_id, said.error_message or said.verdict.name)
        await self._record(host_id, former, wish)

    async def _complete(self, host_id: HostId, answer: HostAnswer, wish: Wish) -> None:
        """Record a take-over that the host knows of and the log does not: its answer, or its record, was lost."""
        last = next(iter(answer.former_installation_ids), "")
        if last and last != self._backend.hosts.get(host_id).former_installation_id:
            await self._record(host_id, last, wish)

    async def _record(self, host_id: HostId, former: str, wish: Wish) -> None:
        _, envelopes = await self._backend.hosts.taken_over(
            host_id, former, wish.reason, actor=wish.actor, request_id=wish.request_id, digest=wish.digest
        )
        self._backend.runtime.acknowledge(envelopes)

    def _former_before(self, host_id: HostId, wish: Wish) -> str:
        """Return whom the host was taken over from by this very request, when it came first."""
        host = self._backend.hosts.get(host_id)
        repeated = answered_before(host.requests, wish.actor, wish.request_id, wish.digest)
        return host.former_installation_id if repeated else ""

    async def _vms_of(self, host_id: HostId) -> tuple[VirtualMachine, ...]:
        vms = self._backend.vms
        return await vms.load_all(list(await vms.on_host(host_id)))

    async def _one(self, vm: VirtualMachine, report: VmReport | None, wish: Wish, *, foreign: bool) -> One:
        """Take a VM of a host over. What stands in its way is a failure of that VM."""
        try:
            # That a list does not hold a VM is no evidence that it is gone.
            report = report or (await self._backend.reports.report(vm.host_id, vm.vm_id, asked=False)).vm
            if report is None or report.unread:
                text = (report.unread.message if report and report.unread else "") or "Its host could not read it."
                return One(vm=vm, failure=Failure(reason="UNREADABLE", message=text))
            return await self._decide(vm, report, wish, foreign=foreign)
        except SnapshotdError as error:
            return One(vm=vm, failure=Failure.of(error))

    async def _decide(self, vm: VirtualMachine, report: VmReport, wish: Wish, *, foreign: bool) -> One:
        command = TakeOverVm(reason=wish.reason, report=report, asked_version=vm.version, foreign=foreign)
        who = {"actor": wish.actor, "request_id": wish.request_id, "digest": wish.digest}
        if wish.validate_only:
            draft = await self._backend.vms.consider(vm.vm_id, command, **who)
        else:
            draft = (await self._backend.runtime.request(vm.vm_id, command, **who)).draft
        return One(vm=draft.vm, taken=taken_over(draft))


async def _each(vms: Iterable[VirtualMachine], work: Callable[[VirtualMachine], Awaitable[T]]) -> list[T]:
    """Return what comes of work on each VM, in their order; a few at a time."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(vm: VirtualMachine) -> T:
        async with room:
            return await work(vm)

    return await asyncio.gather(*map(one, vms))
