"""VirtualMachineService: registers, shows, starts, stops, restarts and unregisters VMs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from google.longrunning.operations_pb2 import Operation
from google.protobuf.empty_pb2 import Empty

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.api.v1.executor_pb2 import Power
from snapshotd.application.virtual_machines import Decided
from snapshotd.domain.answered_requests import answered_before
from snapshotd.domain.commands import RegisterVm, UnregisterVm, UpdateVm
from snapshotd.domain.destroy_errors import refuse_destroyed
from snapshotd.domain.details import VmDetails, check_labels
from snapshotd.domain.errors import InvalidArgument, NotFound, VmNameAmbiguous, registered_already
from snapshotd.domain.export import ExportPolicy
from snapshotd.domain.export_errors import ExportDirectoryMissing
from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import HostId, VmId, is_guid
from snapshotd.domain.names import folded, same_but_for_case
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.storage_errors import NOT_READ
from snapshotd.domain.vm_record import VmRecord
from snapshotd.operations import vm_export, vm_restart, vm_start, vm_stop
from snapshotd.operations.power_change import StopParams
from snapshotd.ports.views import VM_FIELDS, VM_SEARCHED, PageQuery
from snapshotd.server.as_of import past, point_of
from snapshotd.server.backend import Backend
from snapshotd.server.callers import Caller, caller
from snapshotd.server.destroy_service import DestroyMethods
from snapshotd.server.interceptors import Context
from snapshotd.server.listing import AnyCase, Columns, Fields, Id, SortedPage, beginning, equal, matcher, values_of
from snapshotd.server.offering_service import OfferingMethods
from snapshotd.server.operation_messages import vm_name
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.ownership import refuse_unusable
from snapshotd.server.paging import that_fit
from snapshotd.server.registering import Refused, each, matching, name_of
from snapshotd.server.requests import (
    digest_of,
    host_id_of,
    mask_of,
    page_size_of,
    request_id_of,
    timeout_of,
    vm_id_of,
)
from snapshotd.server.resource_messages import refused_message, vm_message
from snapshotd.server.seeing import narrowed
from snapshotd.server.take_over import TakeOver, wish_of
from snapshotd.server.volume_service import VolumeMethods
from snapshotd.server.volume_snapshot_service import VolumeSnapshotCalls
from snapshotd.steps.vm_stop import StopMode

VM_FILTERS: Fields[VmRecord] = {
    "uid": lambda vm: Id(vm.vm_id),
    "display_name": lambda vm: vm.name,
    "any_case_name": lambda vm: AnyCase(vm.name),
    **{field: VM_SEARCHED[field] for field in ("host", "owner", "state", "power")},
}
_WORDS = {"state": values_of(pb.VirtualMachine.State.keys()), "power": values_of(Power.keys())}
VM_COLUMNS: Columns = {
    "uid": beginning("name"),
    "display_name": equal("display_name"),
    "any_case_name": equal("any_case_name", folded),
    **{field: equal(field) for field in ("host", "owner", "state", "power")},
}
"""What VMs can be filtered by, and what the columns tell of that."""
_MODES = {
    pb.StopVirtualMachineRequest.MODE_UNSPECIFIED: StopMode.SHUTDOWN,
    pb.StopVirtualMachineRequest.SHUTDOWN: StopMode.SHUTDOWN,
    pb.StopVirtualMachineRequest.TURN_OFF: StopMode.TURN_OFF,
    pb.StopVirtualMachineRequest.SAVE: StopMode.SAVE,
    pb.StopVirtualMachineRequest.PAUSE: StopMode.PAUSE,
}
_LONGEST_SHUTDOWN_S = 24 * 3600.0
_OWNER_LIMIT = 100


class VirtualMachineService(VolumeMethods, VolumeSnapshotCalls, OfferingMethods, DestroyMethods):
    """The servicer.

    Args:
        backend: of the server.
        operations: makes the answers of long work.
    """

    def __init__(self, backend: Backend, operations: OperationReader) -> None:
        super().__init__(backend, operations)
        self._take_over = TakeOver(backend)
        operations.writes(vm_export.TheExport, _export_response)

    async def RegisterVirtualMachine(
        self, request: pb.RegisterVirtualMachineRequest, context: Context
    ) -> pb.VirtualMachine:
        """Register a VM that its host reports."""
        actor, host_id = caller().actor, host_id_of(request.host, "host")
        request_id, digest = request_id_of(request.request_id), digest_of(request)
        said = _said(request, actor)
        self._backend.hosts.get(host_id)
        if request.WhichOneof("identity") == "vm_id":
            vm_id = request.vm_id.lower()
            if not is_guid(vm_id):
                raise InvalidArgument("vm_id", request.vm_id[:80], "must be Hyper-V's id of the VM, a GUID.")
            if await self._registered_before(VmId(vm_id), actor, request_id, digest):
                return await self._message(await self._backend.vm(VmId(vm_id)))
            report = await self._report(host_id, VmId(vm_id))
        else:
            report = await self._named(host_id, request.vm_name)
        return await self._registered(await self._register(host_id, report, said, actor, request_id, digest))

    async def RegisterHostVirtualMachines(
        self, request: pb.RegisterHostVirtualMachinesRequest, context: Context
    ) -> pb.RegisterHostVirtualMachinesResponse:
        """Register the VMs of a host that match, by one report."""
        actor, host_id = caller().actor, host_id_of(request.host, "host")
        request_id, digest = request_id_of(request.request_id), digest_of(request)
        said, matches = _said(request, actor), matching(request.name_patterns)
        self._backend.hosts.get(host_id)
        answer = await self._backend.reports.report(host_id, asked=True)
        refuse_unusable(host_id, answer, self._backend.installation_id)
        found = [vm for vm in answer.vms if (name := name_of(vm)) is not None and matches(name)]
        hosts = await self._backend.vms.places([VmId(vm.vm_id) for vm in found])
        new = [vm for vm in found if hosts.get(VmId(vm.vm_id)) != host_id]

        async def register(vm: VmReport) -> None:
            if not request.validate_only:
                await self._register_one(host_id, vm, said, actor, request_id, digest)
                return
            refuse_destroyed(await self._backend.runtime.load(VmId(vm.vm_id)))
            if VmId(vm.vm_id) in hosts:
                raise registered_already(VmId(vm.vm_id))

        async def all_of_them() -> tuple[tuple[VmId, ...], tuple[Refused, ...]]:
            self._backend.hosts.get(host_id)  # it may have been removed while it was asked
            return await each(new, register)

        registered, refused = await self._backend.reports.locks.alone(host_id, all_of_them)
        now = self._backend.clock.now()
        return pb.RegisterHostVirtualMachinesResponse(
            registered=map(vm_name, registered),
            registered_before=len(found) - len(new),
            refused=that_fit([refused_message(one, now) for one in refused]),
        )

    async def UnregisterVirtualMachine(self, request: pb.UnregisterVirtualMachineRequest, context: Context) -> Empty:
        """Unregister a VM. Nothing on its host is touched."""
        await self._backend.runtime.request(
            vm_id_of(request.name),
            UnregisterVm(),
            actor=caller().actor,
            request_id=request_id_of(request.request_id),
            digest=digest_of(request),
        )
        return Empty()

    async def TakeOverVirtualMachine(
        self, request: pb.TakeOverVirtualMachineRequest, context: Context
    ) -> pb.TakeOverVirtualMachineResponse:
        """Take a VM over."""
        one = await self._take_over.vm(vm_id_of(request.name), wish_of(request))
        return pb.TakeOverVirtualMachineResponse(taken_over=one.message(self._backend.clock.now()))

    async def GetVirtualMachine(self, request: pb.GetVirtualMachineRequest, context: Context) -> pb.VirtualMachine:
        """Return a VM."""
        vm_id = vm_id_of(request.name)
        point = point_of(request.WhichOneof("as_of"), request.as_of_time, request.as_of_version)
        if point is None:
            return await self._message(await self._backend.vm(vm_id))
        then, limit = await past(self._backend, vm_id, point), self._backend.policy.max_per_vm
        return await asyncio.to_thread(vm_message, then.vm, then.snapshots.values(), limit, None)

    async def ListVirtualMachines(
        self, request: pb.ListVirtualMachinesRequest, context: Context
    ) -> pb.ListVirtualMachinesResponse:
        """Return the registered VMs, or all that ever were."""
        size = page_size_of(request.page_size)
        matches = matcher(request.filter, VM_FILTERS, lambda vm: vm.labels, _WORDS)
        matches = narrowed(matches, Caller.sees_vm)
        arguments = ("vms", request.filter, request.order_by, *(["all"] if request.show_unregistered else []))
        page = SortedPage(request.order_by, request.page_token, VM_FIELDS, VM_FIELDS, "display_name", arguments)
        views = await self._backend.seen("inventory", "tree")
        standing: dict[VmId, tuple[Snapshot, ...]] = {}

        async def build(some: Sequence[VmRecord]) -> Sequence[pb.VirtualMachine]:
            # In a thread: what a VM has of disks and files can take longer than the loop may be held.
            return await asyncio.to_thread(lambda: [self._backend.vm_told(vm, standing[vm.vm_id]) for vm in some])

        async def find(query: PageQuery) -> Sequence[VmRecord]:
            found = await views.vms(query, unregistered=request.show_unregistered)
            standing.clear()
            standing.update(await views.standing([vm.vm_id for vm in found if matches(vm)]))
            return found

        vms, token = await page.read(find, matches, size, build, VM_COLUMNS)
        return pb.ListVirtualMachinesResponse(virtual_machines=vms, next_page_token=token)

    async def UpdateVirtualMachine(
        self, request: pb.UpdateVirtualMachineRequest, context: Context
    ) -> pb.VirtualMachine:
        """Change what people say of a VM: its owner, its labels, or when it is exported."""
        actor, asked = caller().actor, request.virtual_machine
        present = {"owner": asked.owner != "", "labels": bool(asked.labels), "export_policy": asked.export_policy != 0}
        fields = mask_of(request.update_mask, present)
        labels = dict(asked.labels)
        check_labels(labels, "virtual_machine.labels")
        command = UpdateVm(
            owner=_checked_owner(asked.owner, "virtual_machine.owner") if "owner" in fields else None,
            labels=labels if "labels" in fields else None,
            export_policy=_policy_of(asked.export_policy) if "export_policy" in fields else None,
        )
        vm_id = vm_id_of(asked.name, "virtual_machine.name")
        by_itself = command.export_policy in (ExportPolicy.ON_STOP, ExportPolicy.ON_SNAPSHOT)
        if by_itself and not self._backend.policy.export_directory:
            raise ExportDirectoryMissing((await self._backend.runtime.load(vm_id)).name)
        request_id, digest = request_id_of(request.request_id), digest_of(request)
        return await self._registered(
            await self._backend.runtime.request(vm_id, command, actor=actor, request_id=request_id, digest=digest)
        )

    async def StartVirtualMachine(self, request: pb.StartVirtualMachineRequest, context: Context) -> Operation:
        """Start, or resume, a VM."""
        vm_id, there = vm_id_of(request.name), host_id_of(request.host, "host") if request.host else None
        wanted = vm_start.START_VIRTUAL_MACHINE.request(vm_start.Params(there))
        if (await self._backend.runtime.load(vm_id)).released is not None:
            # Somebody may have brought it back: what is on a host already is not imported a second time.
            await self._backend.reports.look(vm_id)
        return await self._operations.answer(vm_id, wanted, request, within=there)

    async def ExportVirtualMachine(self, request: pb.ExportVirtualMachineRequest, context: Context) -> Operation:
        """Export a VM with its checkpoints."""
        policy = self._backend.policy
        params = vm_export.Params(
            directory=request.directory or policy.export_directory, attempts=policy.export_attempts
        )
        wanted = vm_export.EXPORT_VIRTUAL_MACHINE.request(params)
        return await self._operations.answer(vm_id_of(request.name), wanted, request)

    async def StopVirtualMachine(self, request: pb.StopVirtualMachineRequest, context: Context) -> Operation:
        """Shut a VM down, turn it off, save or pause it."""
        if request.mode not in _MODES:
            raise InvalidArgument("mode", str(request.mode), "must be SHUTDOWN, TURN_OFF, SAVE or PAUSE.")
        wanted = vm_stop.STOP_VIRTUAL_MACHINE.request(_stop_params(request, _MODES[request.mode]))
        return await self._operations.answer(vm_id_of(request.name), wanted, request)

    async def RestartVirtualMachine(self, request: pb.RestartVirtualMachineRequest, context: Context) -> Operation:
        """Shut a VM down, or turn it off, and start it again."""
        mode = _MODES.get(request.mode)
        if mode not in (StopMode.SHUTDOWN, StopMode.TURN_OFF):
            raise InvalidArgument("mode", str(request.mode), "must be SHUTDOWN or TURN_OFF.")
        wanted = vm_restart.RESTART_VIRTUAL_MACHINE.request(_stop_params(request, mode))
        return await self._operations.answer(vm_id_of(request.name), wanted, request)

    async def _registered_before(self, vm_id: VmId, actor: str, request_id: str, digest: str) -> bool:
        """Return whether this request was answered before: then no host is asked. Raises RequestIdReused."""
        vm = await self._backend.runtime.load(vm_id)
        return answered_before(vm.requests, actor, request_id, digest) is not None

    async def _register(
        self, host_id: HostId, report: VmReport, said: VmDetails, actor: str, request_id: str, digest: str
    ) -> Decided:
        async def register() -> Decided:
            self._backend.hosts.get(host_id)  # it may have been removed while it was asked
            return await self._register_one(host_id, report, said, actor, request_id, digest)

        return await self._backend.reports.locks.alone(host_id, register)

    async def _register_one(
        self, host_id: HostId, report: VmReport, said: VmDetails, actor: str, request_id: str, digest: str
    ) -> Decided:
        """Register a VM. The host's lock is held."""
        last = self._backend.reports.answers.get(host_id)
        inherits = last is not None and bool(last.former_installation_ids)
        command = RegisterVm(host_id=host_id, owner=said.owner, report=report, labels=said.labels, inherits=inherits)
        return await self._backend.runtime.request(
            VmId(report.vm_id), command, actor=actor, request_id=request_id, digest=digest
        )

    async def _registered(self, decided: Decided) -> pb.VirtualMachine:
        """Return a VM that was registered. It is durable, so it is shown even if its view cannot be read."""
        vm = decided.vm
        try:
            return await self._message(await self._backend.vm(vm.vm_id))
        except NOT_READ:
            if not decided.envelopes:
                raise
            return self._backend.vm_told(vm, vm.snapshots.values())

    async def _report(self, host_id: HostId, vm_id: VmId) -> VmReport:
        answer = await self._backend.reports.report(host_id, vm_id, asked=True)
        refuse_unusable(host_id, answer, self._backend.installation_id)
        if answer.vm is None or answer.vm.description is None or answer.vm.vm_id != vm_id:
            raise NotFound("virtual machine", vm_id, f"Host {host_id} does not have it. {_discover(host_id)}")
        return answer.vm

    async def _named(self, host_id: HostId, name: str) -> VmReport:
        if not name:
            raise InvalidArgument("identity", "", "must be vm_id or vm_name.")
        answer = await self._backend.reports.report(host_id, asked=True)
        refuse_unusable(host_id, answer, self._backend.installation_id)
        # Also those that the host could not read: another one of the name must not be taken for the one that is meant.
        named = [(vm, its_name) for vm in answer.vms if (its_name := name_of(vm)) is not None]
        found = [vm for vm, its_name in named if its_name == name]
        found = found or [vm for vm, its_name in named if same_but_for_case(its_name, name)]
        if not found:
            raise NotFound("virtual machine", name[:100], f"Host {host_id} has none of that name. {_discover(host_id)}")
        if len(found) > 1:
            raise VmNameAmbiguous(name, host_id, ", ".join(sorted(vm.vm_id for vm in found)))
        return await self._report(host_id, VmId(found[0].vm_id)) if found[0].unread else found[0]

    async def _message(self, vm: VmRecord) -> pb.VirtualMachine:
        standing = await (await self._backend.seen("tree")).standing([vm.vm_id])
        return self._backend.vm_told(vm, standing[vm.vm_id])


def _stop_params(request: pb.StopVirtualMachineRequest | pb.RestartVirtualMachineRequest, mode: StopMode) -> StopParams:
    """Return how to stop. Raises InvalidArgument for a timeout that is none, or not of a shutdown."""
    if not request.HasField("shutdown_timeout"):
        return StopParams(mode)
    timeout_s, field = timeout_of(request.shutdown_timeout, "shutdown_timeout"), "shutdown_timeout"
    if mode is not StopMode.SHUTDOWN:
        raise InvalidArgument(
            field, f"{timeout_s:g} s", "goes with mode SHUTDOWN only: nothing else waits for the guest."
        )
    if not 0 < timeout_s <= _LONGEST_SHUTDOWN_S:
        text = "must be above 0 and at most 24 h. Leave it out, and the VM is never turned off."
        raise InvalidArgument(field, f"{timeout_s:g} s", text)
    return StopParams(mode, timeout_s)


def _discover(host_id: HostId) -> str:
    return f"See `snapshotctl host discover {host_id}`."


def _said(request: pb.RegisterVirtualMachineRequest | pb.RegisterHostVirtualMachinesRequest, actor: str) -> VmDetails:
    """Return what is said of a VM that is registered: the caller owns it, if nobody else is named."""
    labels = dict(request.labels)
    check_labels(labels, "labels")
    return VmDetails(owner=_checked_owner(request.owner or actor, "owner"), labels=labels)


def _policy_of(policy: pb.VirtualMachine.ExportPolicy.ValueType) -> ExportPolicy:
    """Return an export policy. Raises InvalidArgument."""
    if policy == pb.VirtualMachine.EXPORT_POLICY_UNSPECIFIED:
        return ExportPolicy.AS_SERVER
    if policy not in pb.VirtualMachine.ExportPolicy.values():
        raise InvalidArgument("virtual_machine.export_policy", str(policy), "must be NEVER, ON_STOP or ON_SNAPSHOT.")
    return ExportPolicy[pb.VirtualMachine.ExportPolicy.Name(policy)]


def _export_response(made: vm_export.TheExport, _: object) -> pb.ExportVirtualMachineResponse:
    return pb.ExportVirtualMachineResponse(directory=made.directory, size_bytes=made.size_bytes)


def _checked_owner(owner: str, called: str) -> str:
    """Return an owner. Raises InvalidArgument, with what its field is called."""
    if not 0 < len(owner) <= _OWNER_LIMIT or not owner.isprintable() or owner.strip() != owner:
        problem = f"must be 1 to {_OWNER_LIMIT} printable characters, without blanks around them."
        raise InvalidArgument(called, owner[:40], problem)
    return owner
