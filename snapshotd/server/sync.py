"""Asks a host what is there, and has every registered VM of it compared with the record."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from snapshotd.application.hosts import Hosts
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.domain.commands import SyncVm
from snapshotd.domain.errors import SnapshotError, VmChanging
from snapshotd.domain.events import DriftDetected, Envelope
from snapshotd.domain.host_errors import (
    HostAnswerLost,
    HostAuthenticationFailed,
    HostCommandFailed,
    HostCredentialMissing,
    HostRefused,
    HostUnreachable,
    NoExecutor,
)
from snapshotd.domain.host_report import HostAnswer, Verdict, VmReport
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.lifecycle import Power
from snapshotd.server.drive import Drive

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Synced:
    """What came of a comparison."""

    compared: int
    drifts: tuple[Envelope, ...]
    """Their events are DriftDetected."""
    skipped: tuple[VmId, ...]
    """VMs that could not be compared: an operation was at work on them, or the log has why not."""


class HostReports:
    """Reports of hosts, asked for when they are needed.

    Args:
        drive: the running core.
        vms: the VMs of the log.
        hosts: the hosts of the log.
    """

    def __init__(self, drive: Drive, vms: VirtualMachines, hosts: Hosts) -> None:
        self._drive = drive
        self._vms = vms
        self._hosts = hosts
        self.answers: dict[HostId, HostAnswer] = {}
        """The last report of each host, for what it says of the host itself."""

    async def report(self, host_id: HostId, vm_id: VmId | None = None) -> HostAnswer:
        """Ask a host for one VM, or for all.

        Raises NotFound, NoExecutor, HostUnreachable, HostAuthenticationFailed, HostCredentialMissing, HostRefused,
        HostAnswerLost, HostCommandFailed.
        """
        host = self._hosts.get(host_id)
        answer = await self._drive.ask(host_id, vm_id)
        if answer is None:
            raise NoExecutor(host_id)
        if answer.verdict is Verdict.NO_ANSWER:
            match answer.error_id:
                case "AUTHENTICATION_FAILED":
                    raise HostAuthenticationFailed(host_id, host.credential, answer.error_message)
                case "CREDENTIAL_MISSING":
                    raise HostCredentialMissing(host_id, host.credential, answer.error_message)
                case "HOST_UNREACHABLE":
                    raise HostUnreachable(host_id, answer.error_message)
                case "HOST_REFUSED":
                    raise HostRefused(host_id, answer.error_message)
                case _:
                    raise HostAnswerLost(host_id, answer.error_id, answer.error_message)
        if answer.verdict is not Verdict.REPORTED:
            detail = answer.error_message or f"the answer was {answer.verdict.name}"
            raise HostCommandFailed(host_id, answer.error_id, detail)
        self.answers[host_id] = answer
        return answer

    def forget(self, host_id: HostId) -> None:
        """Forget what was known of the way to a host, and of itself."""
        self.answers.pop(host_id, None)
        self._drive.dispatcher.contact.pop(host_id, None)

    async def sync(self, host_id: HostId, *, actor: str, request_id: str = "") -> Synced:
        """Compare a host's VMs with the record, and record that it was done. Raises as `report` does.

        A VM that an operation is at work on is left out: the operation itself asks the host. One that cannot be
        compared for another reason does not hold up the others.
        """
        asked = {vm.vm_id: vm.version for vm in self._vms.registered() if vm.host_id == host_id}
        answer = await self.report(host_id)
        reports = {VmId(r.vm_id): r for r in answer.vms}
        drifts: list[Envelope] = []
        skipped: list[VmId] = []
        for vm_id, version in asked.items():
            missing = VmReport(vm_id=vm_id, power=Power.ABSENT, host_state="", description=None)
            command = SyncVm(report=reports.get(vm_id, missing), asked_version=version)
            try:
                decided = await self._drive.request(vm_id, command, actor=actor, request_id=request_id)
            except VmChanging:
                skipped.append(vm_id)
            except SnapshotError as error:
                _log.warning("vm %s: not compared with the record: %s", vm_id, error)
                skipped.append(vm_id)
            except Exception:  # noqa: BLE001
                # A defect of ours on one VM must not keep the others from being compared.
                _log.exception("vm %s: not compared with the record", vm_id)
                skipped.append(vm_id)
            else:
                drifts += [e for e in decided.envelopes if isinstance(e.event, DriftDetected)]
        synced = Synced(len(asked) - len(skipped), tuple(drifts), tuple(skipped))
        recorded = self._hosts.synced(
            host_id, synced.compared, len(drifts), synced.skipped, actor=actor, request_id=request_id
        )
        self._drive.acknowledge(await self._drive.to_the_end(recorded))
        return synced
