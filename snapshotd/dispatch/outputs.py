"""What the dispatcher is told with every call, the time, and what it returns, for others to carry out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from snapshotd.dispatch.orders import Order
from snapshotd.domain.commands import VmCommand
from snapshotd.domain.host_report import HostAnswer
from snapshotd.domain.ids import VmId


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The time on two clocks: the one that people and hosts use, and one that never jumps."""

    utc: datetime
    monotonic_s: float


@dataclass(frozen=True, slots=True)
class Record:
    """Decide this command on this VM and append; then call `recorded` or `refused`."""

    vm_id: VmId
    command: VmCommand


@dataclass(frozen=True, slots=True)
class Send:
    """Send this order to this executor."""

    executor: str
    dispatch_id: str
    order: Order


@dataclass(frozen=True, slots=True)
class Abandon:
    """Nobody waits for this order any more; its executor may drop it."""

    executor: str
    dispatch_id: str


@dataclass(frozen=True, slots=True)
class End:
    """End the stream of this executor: nothing was heard of it for too long."""

    executor: str


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer the question with this key. None: no executor serves the host."""

    key: str
    answer: HostAnswer | None


@dataclass(frozen=True, slots=True)
class Fault:
    """Log this: a VM could not be gone on with, for the n-th time in a row. It is tried again later."""

    vm_id: VmId
    error: Exception
    times: int


Output = Record | Send | Abandon | End | Reply | Fault
