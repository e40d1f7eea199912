"""The orders under way or being recorded, and the slots of their hosts. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.dispatch.outputs import Abandon, Send
from snapshotd.dispatch.slots import Share, Slots
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.virtual_machine import VirtualMachine

_REMEMBERED = 1000
"""How many given-up effects are remembered, so that a late DONE still counts."""


@dataclass(slots=True, kw_only=True)
class Flight:
    """One order under way."""

    executor: str
    order: Order
    share: Share
    """What its slot is used for."""
    sent_at: datetime
    number: int = 0
    """Of the operation; 0: it belongs to none."""
    key: str = ""
    """Of the question; empty: nobody asked."""
    asked_version: int = 0
    """The VM's version when it was sent."""


class Flights:
    """The orders under way, those given up, and the slots."""

    def __init__(self, per_host: int, incarnation: str) -> None:
        """Start with nothing under way.

        Args:
            per_host: the slots of a host.
            incarnation: makes dispatch ids unique over restarts.
        """
        self._per_host = per_host
        self._incarnation = incarnation
        self._sent = 0
        self._under_way: dict[str, Flight] = {}
        self._given_up: dict[str, Flight] = {}
        """The latest effects whose answer is no longer awaited: a late DONE still settles its step."""
        self._recording: dict[VmId, int] = {}
        """How many Records of a VM are under way."""
        self._reserved: dict[VmId, tuple[HostId, Share]] = {}
        self._slots: dict[HostId, Slots] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def slots(self, host_id: HostId) -> Slots:
        """Return the slots of a host."""
        return self._slots.setdefault(host_id, Slots(self._per_host))

    def hosts(self) -> tuple[HostId, ...]:
        """Return the hosts that have had an order, or have one that waits."""
        return tuple(self._slots)

    def reserve(self, vm_id: VmId, host_id: HostId, share: Share) -> None:
        """Keep a slot for what is about to be recorded for a VM."""
        assert vm_id not in self._reserved, vm_id
        self.slots(host_id).take(share)
        self._reserved[vm_id] = (host_id, share)

    def recording(self, vm_id: VmId) -> bool:
        """Return whether a Record of a VM is under way."""
        return vm_id in self._recording

    def record_begins(self, vm_id: VmId) -> None:
        """Note that something is being recorded for a VM."""
        self._recording[vm_id] = self._recording.get(vm_id, 0) + 1

    def record_ends(self, vm_id: VmId, *, sends: bool) -> None:
        """Note that it was recorded, or could not be. Give back the slot kept for it if it sends, or was the last."""
        left = self._recording.pop(vm_id, 1) - 1
        if left:
            self._recording[vm_id] = left
        if (sends or not left) and (kept := self._reserved.pop(vm_id, None)) is not None:
            self.slots(kept[0]).release(kept[1])

    def at_work(self, host_id: HostId) -> bool:
        """Return whether an order of an operation is under way on a host, or being recorded."""
        kept = any(host == host_id for host, _ in self._reserved.values())
        return kept or any(f.number and f.order.host_id == host_id for f in self._under_way.values())

    def send(self, flight: Flight) -> Send:
        """Put an order under way. There must be a slot for it."""
        self.slots(flight.order.host_id).take(flight.share)
        self._sent += 1
        dispatch_id = f"{self._incarnation}-{self._sent}"
        self._under_way[dispatch_id] = flight
        return Send(flight.executor, dispatch_id, flight.order)

    def land(self, dispatch_id: str) -> Flight | None:
        """End a flight, and give its slot back; None if there is no such flight."""
        flight = self._under_way.pop(dispatch_id, None)
        if flight is not None:
            self.slots(flight.order.host_id).release(flight.share)
        return flight

    def remember(self, dispatch_id: str, flight: Flight) -> None:
        """Keep an effect whose answer did not come, in case it comes after all."""
        self._given_up[dispatch_id] = flight
        for oldest in list(self._given_up)[:-_REMEMBERED]:
            del self._given_up[oldest]

    def abandon_unwanted(self, vm: VirtualMachine) -> list[Abandon]:
        """Give up the effects on a VM that are not waited for any more, and all that went to a host that it has left.

        A late DONE of an effect still counts.
        """
        issued = {s.token for o in vm.active_operations for s in o.steps if s.state is StepState.ISSUED}

        def unwanted_is(f: Flight) -> bool:
            left = f.number != 0 and f.order.host_id != vm.host_id
            return left or (f.order.kind is OrderKind.EFFECT and f.order.token not in issued)

        under_way = ((dispatch_id, f) for dispatch_id, f in self._under_way.items() if f.order.vm_id == vm.vm_id)
        unwanted = [(dispatch_id, f) for dispatch_id, f in under_way if unwanted_is(f)]
        for dispatch_id, flight in unwanted:
            self.land(dispatch_id)
            if flight.order.kind is OrderKind.EFFECT:
                self.remember(dispatch_id, flight)
        return [Abandon(flight.executor, dispatch_id) for dispatch_id, flight in unwanted]

    def late(self, dispatch_id: str, executor: str) -> Flight | None:
        """Return an effect of an executor that was given up, once."""
        flight = self._given_up.get(dispatch_id)
        return self._given_up.pop(dispatch_id) if flight is not None and flight.executor == executor else None

    def which(self, is_meant: Callable[[Flight], bool]) -> tuple[str, ...]:
        """Return the ids of the flights that are meant."""
        return tuple(dispatch_id for dispatch_id, flight in self._under_way.items() if is_meant(flight))

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._under_way.values())

    def get(self, dispatch_id: str) -> Flight | None:
        """Return an order that is under way; None: there is none of that id."""
        return self._under_way.get(dispatch_id)
