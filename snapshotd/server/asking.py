"""Asks hosts for reports of their VMs: of one, of all, or of all as they come. Compares nothing.

A report of all VMs comes in parts, and each of its VMs is read when somebody needs the whole of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from snapshotd.application.hosts import Hosts
from snapshotd.dispatch.watch import Wait, still
from snapshotd.domain.host import HostRecord
from snapshotd.domain.host_errors import (
    HostAnswerLost,
    HostAuthenticationFailed,
    HostCommandFailed,
    HostCredentialMissing,
    HostRefused,
    HostUnreachable,
    NoExecutor,
)
from snapshotd.domain.host_report import HostAnswer, Listed, Verdict, VmReport
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.operation import Failure
from snapshotd.domain.state import replace
from snapshotd.server.paging import in_slices
from snapshotd.server.runtime import Runtime

_MALFORMED: Final = "MALFORMED_ANSWER"


class Asking:
    """Asks hosts, and keeps what the last report said of the host itself.

    Args:
        runtime: the running core.
        hosts: the hosts of the log.
    """

    def __init__(self, runtime: Runtime, hosts: Hosts) -> None:
        self._runtime = runtime
        self._hosts = hosts
        self.answers: dict[HostId, HostAnswer] = {}
        """The last report of each host, without its VMs."""
        self.refusals: dict[HostId, Wait] = {}
        """Why a host answered, and gave no report, when it was last asked for all."""

    async def report(self, host_id: HostId, vm_id: VmId | None = None, *, asked: bool) -> HostAnswer:
        """Return a host's report of one VM, or of all, read whole. `asked`: a person asks for it now.

        Raises NotFound, NoExecutor, HostUnreachable, HostAuthenticationFailed, HostCredentialMissing, HostRefused,
        HostAnswerLost, HostCommandFailed.
        """
        if vm_id is not None:
            answer = await self._part(host_id, vm_id, asked=asked)
            self._keep(host_id, answer)
            return answer
        parts = [part async for part in self.parts(host_id, asked=asked)]
        vms: list[VmReport] = []
        async for some in in_slices(vm for part in parts for vm in part.listing):
            vms += [read_whole(host_id, vm) for vm in some]
        return replace(parts[0], vms=tuple(vms), listed=(), more=False)

    def _keep(self, host_id: HostId, answer: HostAnswer) -> None:
        """Keep what an answer says of the host itself."""
        self.answers[host_id] = replace(answer, vms=(), listed=(), more=False)

    async def one(self, host_id: HostId, vm_id: VmId) -> VmReport | None:
        """Return what a host says of one VM, without a person asking for it. Raises as `report` does."""
        return (await self.report(host_id, vm_id, asked=False)).vm

    async def parts(self, host_id: HostId, *, asked: bool) -> AsyncIterator[HostAnswer]:
        """Yield a host's report of all VMs, as it comes. Raises as `report` does."""
        part = await self._of_all(host_id, asked=asked)
        self._keep(host_id, part)
        yield part
        while part.more:
            after = part.listing[-1].vm_id
            part = await self._of_all(host_id, after)
            if any(vm.vm_id <= after for vm in part.listing) or (part.more and not part.listing):
                raise HostAnswerLost(host_id, _MALFORMED, "A part of the report does not follow the last one.")
            yield part

    async def _of_all(self, host_id: HostId, after_vm_id: str = "", *, asked: bool = False) -> HostAnswer:
        """Return a part of a report of all VMs, and note whether the host gave one. Raises as `report` does."""
        try:
            answer = await self._part(host_id, after_vm_id=after_vm_id, asked=asked)
        except HostCommandFailed as error:
            now = self._runtime.moment().utc
            self.refusals[host_id] = still(self.refusals.get(host_id), Failure.of(error), now)
            raise
        self.refusals.pop(host_id, None)
        return answer

    async def _part(
        self, host_id: HostId, vm_id: VmId | None = None, after_vm_id: str = "", *, asked: bool = False
    ) -> HostAnswer:
        """Return a report of one VM, or of as many as fit into an answer. Raises as `report` does."""
        host = self._hosts.get(host_id)
        answer = answered(host, await self._runtime.ask(host_id, vm_id, after_vm_id, asked=asked))
        if answer.verdict is not Verdict.REPORTED:
            detail = answer.error_message or f"the answer was {answer.verdict.name}"
            raise HostCommandFailed(host_id, answer.error_id, detail)
        return answer

    def forget(self, host_id: HostId) -> None:
        """Forget what a host reported of itself, and whether it gave a report."""
        self.answers.pop(host_id, None)
        self.refusals.pop(host_id, None)


def answered(host: HostRecord, answer: HostAnswer | None) -> HostAnswer:
    """Return what a host has answered.

    Raises NoExecutor, HostUnreachable, HostAuthenticationFailed, HostCredentialMissing, HostRefused, HostAnswerLost.
    """
    if answer is None:
        raise NoExecutor(host.host_id)
    if answer.verdict is not Verdict.NO_ANSWER:
        return answer
    match answer.error_id:
        case "AUTHENTICATION_FAILED":
            raise HostAuthenticationFailed(host.host_id, host.credential, answer.error_message)
        case "CREDENTIAL_MISSING":
            raise HostCredentialMissing(host.host_id, host.credential, answer.error_message)
        case "HOST_UNREACHABLE":
            raise HostUnreachable(host.host_id, answer.error_message)
        case "HOST_REFUSED":
            raise HostRefused(host.host_id, answer.error_message)
        case _:
            raise HostAnswerLost(host.host_id, answer.error_id, answer.error_message)


def read_whole(host_id: HostId, vm: Listed) -> VmReport:
    """Return the whole of what a host has told of a VM. Raises HostAnswerLost if it breaks the host protocol."""
    try:
        return vm.read()
    except ValueError as error:
        text = f"What it says of VM {vm.vm_id} breaks the host protocol: {error}"
        raise HostAnswerLost(host_id, _MALFORMED, text) from error
