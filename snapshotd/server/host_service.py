"""HostService: registers hosts, asks them, compares them with the record, takes them over, and removes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.empty_pb2 import Empty

from snapshotd.api.v1 import host_pb2 as pb
from snapshotd.api.v1.host_pb2_grpc import HostServiceServicer
from snapshotd.domain.commands import UnregisterVm
from snapshotd.domain.events import DriftDetected, Envelope
from snapshotd.domain.host import Host, HostRecord
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.state import replace
from snapshotd.domain.storage_errors import NOT_READ
from snapshotd.ports.views import HOST_FIELDS
from snapshotd.server.backend import Backend
from snapshotd.server.callers import caller
from snapshotd.server.executor_service import ExecutorService
from snapshotd.server.host_way import transport_name, way_of
from snapshotd.server.interceptors import Context
from snapshotd.server.listing import Fields, SortedPage, matcher, values_of
from snapshotd.server.operation_messages import snapshot_name, vm_name, wait_message
from snapshotd.server.ownership import journals_wait
from snapshotd.server.paging import in_slices, that_fit
from snapshotd.server.requests import digest_of, host_id_of, page_size_of, refuse_labels, request_id_of
from snapshotd.server.resource_messages import discovered_message, host_message
from snapshotd.server.seeing import narrowed
from snapshotd.server.sync import Skipped
from snapshotd.server.take_over import TakeOver, wish_of
from snapshotd.server.wire_values import timestamp

_WHY_LIMIT: Final = 500
"""Characters of the reason why a VM was left out: a host may say much, and of every VM the same."""


class HostService(HostServiceServicer):
    """The servicer.

    Args:
        backend: of the server.
        executors: are told when a host is removed, or reached in another way.
    """

    def __init__(self, backend: Backend, executors: ExecutorService) -> None:
        self._backend = backend
        self._executors = executors
        self._take_over = TakeOver(backend)
        self._filters: Fields[HostRecord] = {
            "state": lambda host: pb.Host.State.Name(self._message(host, 0).state),
            "address": lambda host: host.address,
            "executor": lambda host: self._message(host, 0).executor,
        }

    async def RegisterHost(self, request: pb.RegisterHostRequest, context: Context) -> pb.Host:
        """Register a host."""
        actor = caller().actor
        refuse_labels(request.host.labels, "hosts")
        transport = request.host.transport or pb.Host.NTLM_HTTP
        wanted = Host(
            host_id=HostId(request.host_id),
            address=request.host.address,
            port=request.host.port,
            transport=transport_name(transport),
            credential=request.host.credential,
            ca_file=request.host.ca_file,
            journal_directory=request.host.journal_directory,
        )
        request_id, digest = request_id_of(request.request_id), digest_of(request)

        async def register() -> None:
            _, envelopes = await self._backend.hosts.register(wanted, actor=actor, request_id=request_id, digest=digest)
            self._backend.runtime.acknowledge(envelopes)

        await self._backend.reports.locks.alone(wanted.host_id, register)
        return await self._changed(wanted.host_id)

    async def UpdateHost(self, request: pb.UpdateHostRequest, context: Context) -> pb.Host:
        """Change how a host is reached. What it was asked on the old way goes on there; it is synced on the new one."""
        actor, host_id = caller().actor, host_id_of(request.host.name, "host.name")
        request_id, digest = request_id_of(request.request_id), digest_of(request)
        way = way_of(request)

        async def update() -> None:
            envelopes = await self._backend.hosts.update(
                host_id, way, actor=actor, request_id=request_id, digest=digest
            )
            self._backend.runtime.acknowledge(envelopes)
            if envelopes:
                self._backend.reports.forget(host_id)
                self._executors.reached_anew(host_id)

        await self._backend.reports.locks.alone(host_id, update)
        return await self._changed(host_id)

    async def GetHost(self, request: pb.GetHostRequest, context: Context) -> pb.Host:
        """Return a host."""
        return await self._on_record(host_id_of(request.name))

    async def ListHosts(self, request: pb.ListHostsRequest, context: Context) -> pb.ListHostsResponse:
        """Return all hosts."""
        size = page_size_of(request.page_size)
        matches = matcher(request.filter, self._filters, words={"state": values_of(pb.Host.State.keys())})
        matches = narrowed(matches, lambda by, host: by.sees_host(host.host_id))
        arguments = ("hosts", request.filter, request.order_by)
        page = SortedPage(request.order_by, request.page_token, HOST_FIELDS, HOST_FIELDS, "name", arguments)
        views = await self._backend.seen("inventory")
        counts = await views.vm_counts()

        async def build(some: Sequence[HostRecord]) -> Sequence[pb.Host]:
            return [self._message(host, counts.get(host.host_id, 0)) for host in some]

        hosts, token = await page.read(views.hosts, matches, size, build)
        return pb.ListHostsResponse(hosts=hosts, next_page_token=token)

    async def RemoveHost(self, request: pb.RemoveHostRequest, context: Context) -> Empty:
        """Remove a host from the record."""
        actor, host_id = caller().actor, host_id_of(request.name)
        request_id, digest = request_id_of(request.request_id), digest_of(request)

        async def remove() -> None:
            vms = list(await self._backend.vms.on_host(host_id))
            seen = self._backend.hosts.answered(host_id, actor=actor, request_id=request_id, digest=digest)
            if request.unregister and not seen:
                await self._backend.runtime.request_of_all(
                    vms, UnregisterVm(), actor=actor, request_id=request_id, digest=digest
                )
                vms = []
            envelopes = await self._backend.hosts.remove(
                host_id, len(vms), actor=actor, request_id=request_id, digest=digest
            )
            self._backend.runtime.acknowledge(envelopes)
            self._executors.release(host_id)
            self._backend.reports.forget(host_id)

        await self._backend.reports.locks.alone(host_id, remove)
        return Empty()

    async def TakeOverHost(self, request: pb.TakeOverHostRequest, context: Context) -> pb.TakeOverHostResponse:
        """Take a host over, with its VMs."""
        host_id = host_id_of(request.name)
        whole = await self._take_over.host(host_id, wish_of(request))
        now = self._backend.clock.now()
        told = that_fit([one.message(now) for one in whole.vms])
        return pb.TakeOverHostResponse(
            host=await self._changed(host_id),
            former_installation_id=whole.former,
            virtual_machines=told,
            virtual_machines_omitted=len(whole.vms) - len(told),
            unregistered_count=whole.unregistered,
            changes_hands=whole.changes_hands,
        )

    async def SyncHost(self, request: pb.SyncHostRequest, context: Context) -> pb.SyncHostResponse:
        """Compare a host with the record, and record what differs."""
        actor, host_id = caller().actor, host_id_of(request.name)
        request_id = request_id_of(request.request_id)
        synced = await self._backend.reports.sync(host_id, actor=actor, request_id=request_id, asked=True)
        drifts: list[pb.Drift] = []
        async for some in in_slices(synced.drifts):
            drifts += map(_drift, some)
        told = that_fit(drifts)
        return pb.SyncHostResponse(
            host=await self._changed(host_id),
            virtual_machines_compared=synced.vms,
            drifts=told,
            drifts_omitted=len(drifts) - len(told),
            virtual_machines_skipped=[vm_name(vm.vm_id) for vm in synced.skipped],
            skip_reasons=that_fit([_skipped(vm) for vm in synced.skipped]),
        )

    async def DiscoverVirtualMachines(
        self, request: pb.DiscoverVirtualMachinesRequest, context: Context
    ) -> pb.DiscoverVirtualMachinesResponse:
        """Ask a host which VMs it has."""
        host_id = host_id_of(request.name)
        answer = await self._backend.reports.report(host_id, asked=True)
        known = await self._backend.vms.places([VmId(vm.vm_id) for vm in answer.vms])
        found: list[pb.DiscoveredVirtualMachine] = []
        async for some in in_slices(vm for vm in answer.vms if vm.description or vm.unread):
            found += [discovered_message(vm, registered=vm.vm_id in known) for vm in some]
        found.sort(key=lambda vm: (vm.display_name, vm.vm_id))
        told = that_fit(found)
        return pb.DiscoverVirtualMachinesResponse(
            virtual_machines=told,
            virtual_machines_omitted=len(found) - len(told),
            host_time=timestamp(answer.host_time),
            wait=wait_message(journals_wait(host_id, answer, self._backend.installation_id, self._backend.clock.now())),
        )

    async def _changed(self, host_id: HostId) -> pb.Host:
        """Return a host that was just changed. The change is durable, whether a view has taken it in or not."""
        try:
            return await self._on_record(host_id)
        except NOT_READ:
            vms = await self._backend.vms.on_host(host_id)
            return self._message(self._backend.hosts.get(host_id), len(vms))

    async def _on_record(self, host_id: HostId) -> pb.Host:
        host = await self._backend.host(host_id)
        return self._message(host, (await self._backend.views.vm_counts()).get(host_id, 0))

    def _message(self, host: HostRecord, vm_count: int) -> pb.Host:
        dispatcher = self._backend.runtime.dispatcher
        contact = (host.host_id in dispatcher.reach.contact, dispatcher.reach.contact.get(host.host_id))
        executor = dispatcher.feeding.fed(host.host_id) or ""
        host = replace(host, synced_at=self._backend.reports.last_synced(host))
        last, why = self._backend.reports.answers.get(host.host_id), self._backend.why(host.host_id)
        return host_message(host, vm_count, executor, contact, last, why)


def _skipped(vm: Skipped) -> pb.SkippedVirtualMachine:
    name, text = vm_name(vm.vm_id), vm.why.text[:_WHY_LIMIT]
    return pb.SkippedVirtualMachine(name=name, display_name=vm.name, reason=vm.why.reason, message=text)


def _drift(envelope: Envelope) -> pb.Drift:
    event = envelope.event
    assert isinstance(event, DriftDetected), envelope
    vm_id = VmId(envelope.stream.partition("/")[2])
    subject = snapshot_name(vm_id, event.snapshot_id) or vm_name(vm_id)
    return pb.Drift(
        kind=event.kind.name,
        subject=subject,
        message=event.detail,
        recorded=event.recorded,
        observed=event.observed,
    )
