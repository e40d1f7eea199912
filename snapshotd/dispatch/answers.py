"""Whether an answer fits the order that it came for. What does not is no answer: the host is observed instead.

An executor's word is bound to what it was asked: the kind of the order, the VM, and the output of the step's action.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.storage_errors import RecordNotReadable
from snapshotd.steps.catalogue import ACTIONS

_V = Verdict
_ANY: Final = frozenset({_V.FAILED, _V.FOREIGN_INSTALLATION, _V.NO_ANSWER})
_READS: Final = _ANY | {_V.REPORTED}
_VERDICTS: Final[Mapping[OrderKind, frozenset[Verdict]]] = {
    OrderKind.REPORT: _READS,
    OrderKind.POLL: _READS,
    OrderKind.OBSERVE: _ANY | {_V.OBSERVED, _V.IN_PROGRESS, _V.STALE, _V.BUSY},
    OrderKind.EFFECT: frozenset(_V) - {_V.REPORTED, _V.OBSERVED},
    OrderKind.TAKE_OVER: _ANY | {_V.DONE},
}
"""What may be answered to what (docs/host-protocol.md)."""
_WITH_REPORT: Final = frozenset(
    {_V.DONE, _V.NO_EFFECT, _V.CHANGED, _V.IN_PROGRESS, _V.WRONG_JOURNAL, _V.OBSERVED, _V.REPORTED}
)
"""Verdicts that come with what is there."""


def fitting(order: Order, answer: HostAnswer) -> HostAnswer:
    """Return the answer if it fits the order, or else NO_ANSWER with what is wrong with it."""
    wrong = _misfit(order, answer)
    if not wrong:
        return answer
    text = f"The answer does not fit what was asked: {wrong}."
    return HostAnswer(verdict=Verdict.NO_ANSWER, error_id="MALFORMED_ANSWER", error_message=text)


def _misfit(order: Order, answer: HostAnswer) -> str:
    if answer.verdict not in _VERDICTS[order.kind]:
        return f"{answer.verdict.name} to {order.kind.name}"
    if order.vm_id is None:
        return ""
    if answer.verdict in _WITH_REPORT and len(answer.listing) != 1:
        return f"{answer.verdict.name} with {len(answer.listing)} reports of VM {order.vm_id}"
    if any(vm.vm_id != order.vm_id or vm.unread is not None for vm in answer.vms):
        return f"it reports another VM than {order.vm_id}"
    if order.kind is not OrderKind.EFFECT or answer.verdict is not Verdict.DONE:
        return "an output of what was not done" if answer.output else ""
    assert order.action is not None, order
    try:
        ACTIONS[order.action].told(answer.output)
    except RecordNotReadable as error:
        return f"the output of {order.action}: {error}"
    return ""
