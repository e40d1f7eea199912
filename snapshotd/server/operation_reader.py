"""Operations as they are answered: on record, with why they wait just now, and with what came of them."""

from __future__ import annotations

from typing import TypeAlias

from google.longrunning.operations_pb2 import Operation as OperationMessage

from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan
from snapshotd.api.v1.snapshot_pb2 import DeleteSnapshotResponse, RevertToSnapshotResponse, Snapshot
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine as VmMessage
from snapshotd.application.decide import decide, operation_for
from snapshotd.application.draft import Context
from snapshotd.domain.commands import OperationRequest, StartVm, StopVm
from snapshotd.domain.errors import ViewBehind, ViewStopped
from snapshotd.domain.events import OperationRequested
from snapshotd.domain.ids import SnapshotId, VmId
from snapshotd.domain.lifecycle import OperationState, SnapshotState
from snapshotd.domain.operation import OperationKind
from snapshotd.operations.catalogue import kind_of
from snapshotd.operations.preview import may_lose, preview
from snapshotd.ports.views import OperationRow
from snapshotd.server.operation_messages import (
    kind_message,
    operation_message,
    planned_step,
    row_of,
    snapshot_name,
    vm_name,
)
from snapshotd.server.parts import Parts
from snapshotd.server.resource_messages import snapshot_message, vm_message
from snapshotd.server.wire_values import wire_power

Response: TypeAlias = VmMessage | Snapshot | RevertToSnapshotResponse | DeleteSnapshotResponse


class OperationReader:
    """Makes long-running operations of what is on record.

    Args:
        parts: the server's.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def message(self, row: OperationRow) -> OperationMessage:
        """Return an operation; one that succeeded with its response, as the resources are now."""
        message = self._bare(row)
        if row.state is OperationState.SUCCEEDED:
            response = await self._response(row)
            if response is not None:
                message.response.Pack(response)
        return message

    def _bare(self, row: OperationRow) -> OperationMessage:
        dispatcher = self._parts.drive.dispatcher
        return operation_message(row, dispatcher.wait(row.vm_id, row.number), dispatcher.percent(row.vm_id, row.number))

    async def request(
        self, vm_id: VmId, request: OperationRequest, *, actor: str, request_id: str, digest: str
    ) -> OperationMessage:
        """Have a request decided; return its operation when it is durable. Raises what refused it."""
        decided = await self._parts.drive.request(vm_id, request, actor=actor, request_id=request_id, digest=digest)
        operation = operation_for(decided.draft, request)
        if operation is None:
            # Answered so long ago that the aggregate has forgotten the operation, and not the request.
            number = decided.vm.requests[actor, request_id].operation
            assert number is not None, request_id
            return await self.message(await self._parts.operation(vm_id, number))
        row = row_of(decided.vm, operation)
        try:
            return await self.message(row)
        except (ViewStopped, ViewBehind):
            # What was asked for is durable; only what became of the resources cannot be told just now.
            return self._bare(row)

    async def plan(self, vm_id: VmId, request: OperationRequest, actor: str) -> OperationMessage:
        """Make every check, record nothing, and return what the request would lead to. Raises what would refuse it."""
        vm = await self._parts.drive.load(vm_id)
        context = Context(now=self._parts.clock.now(), actor=actor, policy=self._parts.policy)
        draft = decide(vm, request, context)
        requested = next((e for e, _ in draft.events if isinstance(e, OperationRequested)), None)
        steps = requested.steps if requested else ()
        seen = preview(vm, request)
        made = None
        if kind_of(request).kind is OperationKind.CREATE_SNAPSHOT and requested is not None:
            made = requested.snapshot_id

        def named(snapshot_id: SnapshotId | None) -> str:
            name = snapshot_name(vm_id, snapshot_id)
            return f"{vm_name(vm_id)}/snapshots/-" if made is not None and snapshot_id == made else name

        target = None if isinstance(request, StartVm | StopVm) else request.snapshot_id
        plan = Plan(
            kind=kind_message(kind_of(request).kind),
            virtual_machine=vm_name(vm_id),
            snapshot=named(target),
            steps=[planned_step(s, vm_id, vm.host_id, may_lose(vm, s)) for s in steps],
            children_moved=[
                Plan.Move(
                    snapshot=named(child),
                    old_parent=named(vm.snapshots[child].parent_id),
                    new_parent=named(parent),
                )
                for child, parent in seen.moved
            ],
            new_current=named(seen.current),
            old_current=named(vm.current_id),
            power_before=wire_power(vm.power),
            power_after=wire_power(seen.power),
            snapshots_discarded=[named(s) for s in seen.discarded],
            guest_memory_lost=seen.memory_lost,
            warnings=list(seen.warnings),
        )
        for step in plan.steps:
            step.snapshot = plan.snapshot if made is not None else step.snapshot
        if requested is None:
            plan.warnings.append("An operation that does just this is active; the call would be answered with it.")
        message = OperationMessage(done=True)
        message.metadata.Pack(
            OperationMetadata(kind=plan.kind, virtual_machine=plan.virtual_machine, snapshot=plan.snapshot)
        )
        message.response.Pack(plan)
        return message

    async def _response(self, row: OperationRow) -> Response | None:
        views = await self._parts.seen("inventory", "tree")
        vm = await views.vm(row.vm_id)
        if vm is None:
            return None
        snapshots = await views.snapshots(row.vm_id)
        observed = self._parts.drive.observed.get(row.vm_id)
        told = vm_message(vm, snapshots, self._parts.policy.max_per_vm, observed)
        own = next((s for s in snapshots if s.snapshot_id == row.snapshot_id), None)
        match row.kind:
            case OperationKind.CREATE_SNAPSHOT if own is not None:
                return snapshot_message(own, vm)
            case OperationKind.REVERT_TO_SNAPSHOT:
                return RevertToSnapshotResponse(
                    virtual_machine=told, snapshot=snapshot_name(row.vm_id, row.snapshot_id)
                )
            case OperationKind.DELETE_SNAPSHOT:
                gone = own is not None and own.state is SnapshotState.REMOVED
                removed = [snapshot_name(row.vm_id, row.snapshot_id)] if gone else []
                return DeleteSnapshotResponse(removed=removed, current_snapshot=told.current_snapshot)
            case _:
                return told
