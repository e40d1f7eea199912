"""AdminService: the state of the service at a glance, and settling what cannot end by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from google.longrunning.operations_pb2 import Operation as OperationMessage

from snapshotd.api.v1 import admin_pb2 as pb
from snapshotd.api.v1.admin_pb2_grpc import AdminServiceServicer
from snapshotd.api.v1.operation_pb2 import Failure, Wait
from snapshotd.application.standing import CLAIMED, ROLLED_BACK
from snapshotd.dispatch import watch as dispatch
from snapshotd.domain.conditions import claimed
from snapshotd.domain.errors import InvalidArgument, LogRolledBack, SnapshotdError
from snapshotd.domain.host_errors import NoExecutor
from snapshotd.domain.ids import HostId
from snapshotd.domain.lifecycle import OperationState
from snapshotd.domain.operation import Operation, SettledAs
from snapshotd.domain.storage_errors import LogUnavailable, ViewsUnreadable
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.trouble import Trouble
from snapshotd.ports.views import ProjectionProgress
from snapshotd.server.backend import Backend
from snapshotd.server.callers import caller
from snapshotd.server.executor_service import Attached, ExecutorService
from snapshotd.server.interceptors import Context
from snapshotd.server.operation_messages import (
    failure_message,
    host_name,
    kind_message,
    vm_name,
    wait_message,
    wait_of,
)
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.paging import in_slices
from snapshotd.server.requests import digest_of, operation_of, request_id_of
from snapshotd.server.settling import Settling, reason_of
from snapshotd.server.wire_values import timestamp

_TOLD: Final = 20
"""The most VMs of one problem, and overdue operations, that are listed; the others are counted."""
_RECENT: Final = timedelta(hours=24)
"""How far back failures are told."""
_LATEST: Final = 5
"""How many of them are listed."""
_OUTCOMES: Final = {pb.SettleOperationRequest.Outcome.Value(o.name): o for o in SettledAs}


class AdminService(AdminServiceServicer):
    """The servicer.

    Args:
        backend: of the server.
        executors: the attached executors.
        operations: makes the messages of operations.
    """

    def __init__(self, backend: Backend, executors: ExecutorService, operations: OperationReader) -> None:
        self._backend = backend
        self._executors = executors
        self._operations = operations
        self._settling = Settling(backend)

    async def SettleOperation(self, request: pb.SettleOperationRequest, context: Context) -> OperationMessage:
        """Record what a person says became of an operation's step; return the operation as it is then."""
        actor, name = caller().actor, operation_of(request.name)
        if request.outcome not in _OUTCOMES:
            problem = f"must be {', '.join(o.name for o in SettledAs)}."
            raise InvalidArgument("outcome", str(request.outcome), problem)
        settled = await self._settling.settle(
            name,
            _OUTCOMES[request.outcome],
            reason_of(request.reason),
            actor=actor,
            request_id=request_id_of(request.request_id),
            digest=digest_of(request),
        )
        return await self._operations.durable(settled or await self._backend.operation(name))

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:
        """Return the state of everything, from what is known now, so that it works if a view has stopped.

        What only the views tell is left out if they cannot be read: `problems` says so.
        """
        del request
        backend = self._backend
        problems = [_problem(subject, trouble) for subject, trouble in backend.troubles()]
        status = pb.GetStatusResponse(
            version=backend.version,
            installation_id=backend.installation_id,
            start_time=timestamp(backend.started_at),
            log_head_position=backend.log.head_position(),
            projections=[_projection(p) for p in backend.views.progress()],
        )
        await self._tell_operations(status)
        try:
            status.recent_failures.CopyFrom(await self._failures())
        except ViewsUnreadable as error:
            problems.append(pb.Problem(subject="views", reason=error.reason, message=error.message()))
        try:
            problems += _of_vms(*await backend.needing(ROLLED_BACK, _TOLD), _rolled_back)
            problems += _of_vms(*await backend.needing(CLAIMED, _TOLD), claimed)
        except LogUnavailable as error:
            problems.append(pb.Problem(subject="event log", reason=error.reason, message=error.message()))
        async for some in in_slices(sorted(backend.hosts.registered(), key=lambda h: h.host_id)):
            status.hosts.extend(self._host(host.host_id, backend.reports.last_synced(host)) for host in some)
        status.executors.extend(self._executor(a, status.hosts) for a in self._executors.attached.values())
        status.problems.extend(problems)
        return status

    def _host(self, host_id: HostId, last_sync_at: datetime | None) -> pb.HostState:
        """Return the state of a host. Without an executor it is not reachable, whatever its last answer was."""
        dispatcher = self._backend.runtime.dispatcher
        executor = dispatcher.feeding.fed(host_id) or ""
        wait = wait_message(self._backend.why(host_id))
        if not executor:
            missing = NoExecutor(host_id)
            wait = Wait(reason=missing.reason, message=missing.message())
        _, under_way, waiting = dispatcher.flights.load(host_id)
        return pb.HostState(
            host=host_name(host_id),
            executor=executor,
            reachable=bool(executor) and dispatcher.reach.answers(host_id),
            last_sync_time=timestamp(last_sync_at),
            wait=wait,
            orders_under_way=under_way,
            orders_waiting=waiting,
        )

    async def _tell_operations(self, status: pb.GetStatusResponse) -> None:
        """Write how many operations are active, why they wait, and which are overdue."""
        backend, counts = self._backend, pb.OperationCounts()
        oldest: dispatch.Wait | None = None
        late: list[tuple[datetime, Operation]] = []
        async for some in in_slices(backend.vms.with_work()):
            for row in (operation for vm in some for operation in vm.active_operations):
                counts.pending += row.state is OperationState.PENDING
                counts.running += row.state is OperationState.RUNNING
                wait = wait_of(row, backend.wait(row))
                counts.waiting += wait is not None
                if wait is not None and (oldest is None or wait.since < oldest.since):
                    oldest, counts.oldest_waiting = wait, row.name
                if (since := backend.overdue_since(row)) is not None:
                    late.append((since, row))
        if oldest is not None:
            counts.oldest_wait.CopyFrom(wait_message(oldest))
        status.operations.CopyFrom(counts)
        status.overdue_operation_count = len(late)
        for since, row in sorted(late, key=lambda found: found[0])[:_TOLD]:
            status.overdue_operations.append(self._overdue(since, row))

    def _overdue(self, since: datetime, operation: Operation) -> pb.OverdueOperation:
        return pb.OverdueOperation(
            operation=operation.name,
            virtual_machine=vm_name(operation.vm_id),
            display_name=self._backend.vms.known(operation.vm_id).name,
            kind=kind_message(operation.kind),
            since=timestamp(since),
            message=self._backend.why_overdue(operation),
        )

    async def _failures(self) -> pb.RecentFailures:
        since = self._backend.clock.now() - _RECENT
        count, latest = await self._backend.views.failures(since, _LATEST)
        return pb.RecentFailures(
            count=count,
            since=timestamp(since),
            latest=[
                pb.FailedOperation(
                    operation=operation.name,
                    virtual_machine=vm_name(operation.vm_id),
                    display_name=await self._vm_name(operation),
                    kind=kind_message(operation.kind),
                    actor=operation.actor,
                    failure=failure_message(operation.failure, operation.ended_at),
                )
                for operation in latest
            ],
        )

    async def _vm_name(self, operation: Operation) -> str:
        vm = await self._backend.views.vm(operation.vm_id)
        return vm.name if vm is not None else ""

    def _executor(self, attached: Attached, hosts: Iterable[pb.HostState]) -> pb.ExecutorState:
        return pb.ExecutorState(
            executor_id=attached.executor,
            signed_in_as=attached.signed_in_as,
            serves=sorted(attached.serves),
            hosts=[host.host for host in hosts if host.executor == attached.executor],
            version=attached.version,
            attach_time=timestamp(attached.since),
            last_heard_time=timestamp(attached.heard),
        )


def _projection(progress: ProjectionProgress) -> pb.ProjectionState:
    failure = None
    if progress.failure:
        reason = f"PROJECTION_{progress.state.name}"
        failure = Failure(reason=reason, message=progress.failure, time=timestamp(progress.stopped_at))
    return pb.ProjectionState(
        name=progress.name,
        position=progress.position,
        state=pb.ProjectionState.State.Value(progress.state.name),
        failure=failure,
    )


def _of_vms(
    vms: Sequence[VirtualMachine], count: int, error_of: Callable[[VirtualMachine], SnapshotdError]
) -> Iterator[pb.Problem]:
    """Yield a problem for each VM, and one with the number of those left out. All have an error of one reason."""
    for vm in vms:
        error = error_of(vm)
        yield pb.Problem(subject=f"VM {vm.vm_id}", reason=error.reason, message=error.message())
    more = count - len(vms)
    if more > 0 and vms:
        text = f"{count} VMs in all are so; {more} of them are left out here. See `snapshotctl vm list`."
        yield pb.Problem(subject=f"{more} more VMs", reason=error_of(vms[-1]).reason, message=text)


def _rolled_back(vm: VirtualMachine) -> LogRolledBack:
    return LogRolledBack(vm.name, vm.rolled_back)


def _problem(subject: str, trouble: Trouble) -> pb.Problem:
    return pb.Problem(subject=subject, reason=trouble.reason, message=trouble.message, since=timestamp(trouble.since))
