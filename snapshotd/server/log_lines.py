"""What the daemon's log says of what was recorded: one line for each operation that ended, each drift, each settling.

The event log has all of it. These lines are for those who watch many services by their logs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from snapshotd.domain import events as e
from snapshotd.domain.events import Envelope
from snapshotd.domain.ids import HostId
from snapshotd.domain.operation import Failure, Operation
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.logs import about

_log = logging.getLogger(__name__)


def of_vm(vm: VirtualMachine) -> dict[str, str]:
    """Return what a line says of a VM."""
    return {"vm": vm.vm_id, "vm_name": vm.name, "host": vm.host_id}


def of_operation(vm: VirtualMachine, operation: Operation) -> dict[str, str]:
    """Return what a line says of an operation; its actor is the one who asked for it."""
    asked = {"actor": operation.actor, "request": operation.request_id}
    return of_vm(vm) | {"operation": operation.name, "kind": operation.kind} | asked


def tell(vm: VirtualMachine, envelopes: Iterable[Envelope]) -> None:
    """Log what was recorded of a VM, as far as somebody on call wants to know it."""
    for envelope in envelopes:
        match envelope.event:
            case e.OperationSucceeded(number=number):
                _say(logging.INFO, "operation succeeded", vm, number)
            case e.OperationCancelled(number=number):
                _say(logging.INFO, "operation cancelled", vm, number)
            case e.OperationFailed(number=number, failure=failure):
                _say(logging.WARNING, f"operation failed: {failure.text}", vm, number, reason=failure.reason)
            case e.OperationSettled(number=number, outcome=outcome, reason=reason, step=step):
                text = f"step {step} settled: {reason}"
                said_by = {"actor": envelope.actor, "request": envelope.request_id}
                _say(logging.WARNING, text, vm, number, reason=outcome.name, **said_by)
            case e.DriftDetected(kind=kind, detail=detail):
                facts = of_vm(vm) | {"operation": envelope.operation or "", "reason": kind.name}
                facts |= {"actor": envelope.actor, "request": envelope.request_id}
                _log.warning("drift: %s", detail, extra=about(**facts))
            case e.VmTakenOver(journal_token=token):
                text = "taken over, from token %d of its journal"
                facts = of_vm(vm) | {"actor": envelope.actor, "request": envelope.request_id}
                _log.warning(text, token, extra=about(**facts))
            case e.LogFoundRolledBack(journal_token=token, foreign=False):
                text = "the log is older than the VM's journal on its host (token %d)"
                _log.error(text, token, extra=about(**of_vm(vm), reason="LOG_ROLLED_BACK"))
            case _:
                pass


def tell_way(host_id: HostId, before: Failure | None, now: Failure | None) -> None:
    """Log that a host does not answer any more, for another reason than before, or answers again."""
    if now is None and before is not None:
        _log.info("host %s answers again", host_id, extra=about(host=host_id))
    elif now is not None and (before is None or before.reason != now.reason):
        facts = about(host=host_id, reason=now.reason)
        _log.warning("host %s does not answer: %s", host_id, now.text, extra=facts)


def _say(level: int, text: str, vm: VirtualMachine, number: int, **more: str) -> None:
    operation = vm.operations.get(number)
    facts = of_operation(vm, operation) if operation is not None else of_vm(vm)
    _log.log(level, "%s", text, extra=about(**facts | more))
