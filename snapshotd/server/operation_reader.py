"""Operations as callers get them: from the record, with why they wait just now, and their responses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from google.longrunning.operations_pb2 import Operation as OperationMessage
from google.protobuf.message import Message

from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine as VmMessage
from snapshotd.application.decide import decide, operation_for
from snapshotd.application.draft import Context
from snapshotd.application.virtual_machines import Decided
from snapshotd.dispatch.watch import Wait
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.events import OperationRequested
from snapshotd.domain.ids import HostId, VmId, VolumeSnapshotId
from snapshotd.domain.lifecycle import OperationState
from snapshotd.domain.operation import Operation
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.state import replace
from snapshotd.domain.storage_errors import NOT_READ
from snapshotd.domain.vm_record import VmRecord
from snapshotd.domain.volume_snapshot import VolumeSnapshot
from snapshotd.operations.catalogue import KINDS
from snapshotd.operations.kind import Result, TheVm
from snapshotd.server.backend import Backend
from snapshotd.server.callers import caller
from snapshotd.server.operation_messages import operation_message, plan_message
from snapshotd.server.requests import digest_of, request_id_of

R = TypeVar("R", bound=Result)
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Resources:
    """What a response is made of, as it is now."""

    vm: VmRecord
    snapshot: Snapshot | None
    """The one that the operation is about."""
    volume_snapshot: VolumeSnapshot | None
    """Likewise."""
    message: VmMessage


class OperationReader:
    """Builds long-running operations from the record.

    Args:
        backend: of the server.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._writers: dict[type[Result], Callable[[Any, Resources], Message]] = {TheVm: lambda _, now: now.message}
        self._adders: dict[type[Result], Callable[[Any, Operation], Message]] = {}

    def writes(self, result: type[R], writer: Callable[[R, Resources], Message]) -> None:
        """Have a kind's result written as the response of its operations."""
        self._writers[result] = writer

    def adds(self, result: type[R], writer: Callable[[R, Operation], Message]) -> None:
        """Have what a kind's failed operations achieved written as a further detail of their errors."""
        self._adders[result] = writer

    async def message(self, operation: Operation) -> OperationMessage:
        """Return an operation. If it has succeeded, its response shows the resources as they are now."""
        message = self.listed(operation)
        if operation.state is OperationState.SUCCEEDED:
            response = await self._response(operation)
            if response is not None:
                message.response.Pack(response)
        return message

    async def durable(self, operation: Operation) -> OperationMessage:
        """Return an operation after a request that is durable, without a response if the resources cannot be read."""
        try:
            return await self.message(operation)
        except NOT_READ:
            return self.listed(operation)

    def listed(self, operation: Operation) -> OperationMessage:
        """Return an operation with what is on record of it alone: without a response, which needs the resources."""
        message = operation_message(operation, *self.unrecorded(operation))
        if operation.state is OperationState.FAILED and (achieved := KINDS[operation.kind].achieved(operation)):
            message.error.details.add().Pack(self._adders[type(achieved)](achieved, operation))
        return message

    def unrecorded(self, operation: Operation) -> tuple[Wait | None, int, datetime | None]:
        """Return what is told of an operation and on no record: its wait, the percent of its job, when it was due."""
        watch = self._backend.runtime.dispatcher.watch(operation.vm_id, operation.number)
        percent = watch.percent if watch else 0
        return self._backend.wait(operation), percent, self._backend.overdue_since(operation)

    async def answer(
        self,
        vm_id: VmId,
        wanted: RequestOperation,
        call: Message,
        within: HostId | None = None,
    ) -> OperationMessage:
        """Answer a call that asks for long work: with a plan if it only validates, else with the operation.

        Args:
            vm_id: of the VM that it is about.
            wanted: what the call asks for.
            call: the request of the call; its request_id, validate_only and expected_plan count, if it has them.
            within: a host that the VM comes to by it: it must not be removed meanwhile.

        Raises what refuses it.
        """
        actor, request_id = caller().actor, request_id_of(call.request_id)  # type: ignore[attr-defined]  # long work has one
        if within is not None:
            self._backend.hosts.get(within)
        if getattr(call, "validate_only", False):
            return await self.by_a_fresh_record(vm_id, lambda: self._plan(vm_id, wanted, actor))
        wanted = replace(wanted, expected_plan=getattr(call, "expected_plan", ""))
        digest, runtime = digest_of(call), self._backend.runtime

        async def ask() -> Decided:
            return await runtime.request(vm_id, wanted, actor=actor, request_id=request_id, digest=digest)

        decided = await self.by_a_fresh_record(vm_id, ask if within is None else partial(self._there, within, ask))
        operation = operation_for(decided.draft, wanted)
        if operation is None:
            # Answered so long ago that the aggregate has forgotten the operation, but not the request.
            seen = decided.vm.requests.find(actor, request_id)
            assert seen is not None, request_id
            assert seen.operation is not None, request_id
            return await self.message(await self._backend.operation(seen.operation))
        return await self.durable(operation)

    async def _there(self, host_id: HostId, ask: Callable[[], Awaitable[Decided]]) -> Decided:
        """Return what is decided while a host cannot be removed."""

        async def alone() -> Decided:
            self._backend.hosts.get(host_id)
            return await ask()

        return await self._backend.reports.locks.alone(host_id, alone)

    async def by_a_fresh_record(self, vm_id: VmId, decide: Callable[[], Awaitable[D]]) -> D:
        """Return what is decided. Before a refusal that rests on what the host was like, look at the VM again."""
        reports = self._backend.reports
        try:
            return await decide()
        except SnapshotdError as refused:
            if not refused.rests_on_host:
                raise
            if not await reports.look(vm_id):
                refused.ground = reports.ground(await self._backend.runtime.load(vm_id))
                raise
        try:
            return await decide()
        except SnapshotdError as again:
            if again.rests_on_host:
                again.ground = reports.ground(await self._backend.runtime.load(vm_id))
            raise

    async def _plan(self, vm_id: VmId, request: RequestOperation, actor: str) -> OperationMessage:
        """Return what a request would lead to. Makes every check, records nothing. Raises what would refuse it."""
        vm = await self._backend.runtime.load(vm_id)
        backend = self._backend
        context = Context(now=backend.clock.now(), actor=actor, policy=backend.policy, fresh_id=backend.ids.fresh())
        draft = decide(vm, request, context)
        requested = next((e for e, _ in draft.events if isinstance(e, OperationRequested)), None)
        warned = KINDS[request.kind].warns(vm, request, backend.policy, context.now)
        plan = plan_message(vm, request, requested, warned)
        message = OperationMessage(done=True)
        message.metadata.Pack(
            OperationMetadata(kind=plan.kind, virtual_machine=plan.virtual_machine, snapshot=plan.snapshot)
        )
        message.response.Pack(plan)
        return message

    async def _response(self, operation: Operation) -> Message | None:
        kind = KINDS[operation.kind]
        copied = kind.volume_snapshot(operation)
        now = self._kept(operation, copied) or await self._viewed(operation, copied)
        result = kind.result(operation)
        return self._writers[type(result)](result, now) if now is not None else None

    def _kept(self, operation: Operation, copied: VolumeSnapshotId | None) -> Resources | None:
        """Return the resources as they were last decided on; None if that is not in memory, or has forgotten one."""
        vm = self._backend.vms.known(operation.vm_id)
        subject = vm.snapshots.get(operation.snapshot_id) if operation.snapshot_id else None
        copy = vm.volume_snapshots.get(copied) if copied else None
        if not vm.version or (operation.snapshot_id and subject is None) or (copied and copy is None):
            return None
        return Resources(vm, subject, copy, self._backend.vm_told(vm, vm.snapshots.values()))

    async def _viewed(self, operation: Operation, copied: VolumeSnapshotId | None) -> Resources | None:
        """Return the resources as the views have them; None without a VM."""
        views = await self._backend.seen("inventory", "tree")
        vm = await views.vm(operation.vm_id)
        if vm is None:
            return None
        standing = (await views.standing([vm.vm_id]))[vm.vm_id]
        subject = await views.snapshot(vm.vm_id, operation.snapshot_id) if operation.snapshot_id else None
        copy = await views.volume_snapshot(vm.vm_id, copied) if copied else None
        return Resources(vm, subject, copy, self._backend.vm_told(vm, standing))
