"""The orders under way or being recorded, and the slots of their hosts. Decides nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from snapshotd.dispatch.alarms import Alarms
from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.dispatch.outputs import Abandon, Record, Send
from snapshotd.dispatch.slots import Share, Slots, Waiter
from snapshotd.domain.commands import VmCommand
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.virtual_machine import VirtualMachine

K = TypeVar("K", HostId, VmId)

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
    late_s: float
    """When it is given up: a time of the monotonic clock, so that no clock that is set makes it sooner or later."""
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
        self._of_vm: dict[VmId, dict[str, Flight]] = {}
        """Those of the operations of a VM."""
        self._of_host: dict[HostId, dict[str, Flight]] = {}
        self._of_key: dict[str, str] = {}
        """Those of questions."""
        self._late: Alarms[str] = Alarms()
        self._given_up: dict[str, Flight] = {}
        """The latest effects whose answer is no longer awaited: a late DONE still settles its step."""
        self._recording: dict[VmId, int] = {}
        """How many Records of a VM are under way."""
        self._reserved: dict[VmId, tuple[HostId, Share]] = {}
        self._slots: dict[HostId, Slots] = {}
        self._stirred: dict[HostId, None] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    # --- slots ----------------------------------------------------------------------------------------------------

    def slots(self, host_id: HostId) -> Slots:
        """Return the slots of a host."""
        slots = self._slots.get(host_id)
        if slots is None:
            slots = self._slots[host_id] = Slots(self._per_host)
        return slots

    def load(self, host_id: HostId) -> tuple[int, int, int]:
        """Return how many slots a host has, how many of them are taken, and how many wait for one."""
        slots = self._slots.get(host_id)
        return (slots.count, slots.taken, slots.waiting) if slots is not None else (self._per_host, 0, 0)

    def hosts(self) -> tuple[HostId, ...]:
        """Return the hosts that have had an order, or have one that waits."""
        return tuple(self._slots)

    def wait(self, host_id: HostId, share: Share, waiter: Waiter) -> None:
        """Let somebody wait for a slot of a host."""
        self.slots(host_id).wait(share, waiter)
        self._stirred.setdefault(host_id)

    def leave(self, host_id: HostId, waiter: Waiter) -> None:
        """Let somebody no longer wait for a slot of a host."""
        self.slots(host_id).leave(waiter)

    def stirred(self) -> HostId | None:
        """Return a host at which a slot was given back, or somebody waits for one, once; None: there is none."""
        host_id = next(iter(self._stirred), None)
        if host_id is not None:
            del self._stirred[host_id]
        return host_id

    def reserve(self, vm_id: VmId, host_id: HostId, share: Share) -> None:
        """Keep a slot for what is about to be recorded for a VM."""
        assert vm_id not in self._reserved, vm_id
        self.slots(host_id).take(share)
        self._reserved[vm_id] = (host_id, share)

    def _release(self, host_id: HostId, share: Share) -> None:
        self.slots(host_id).release(share)
        self._stirred.setdefault(host_id)

    def at_work(self, host_id: HostId) -> bool:
        """Return whether an order of an operation is under way on a host, or being recorded."""
        return self.slots(host_id).taken > sum(not flight.number for flight in self.on(host_id))

    # --- what is recorded -----------------------------------------------------------------------------------------

    def record(self, vm_id: VmId, command: VmCommand) -> Record:
        """Return a Record of a command. Until it is carried out, nothing else is due on this VM."""
        self._recording[vm_id] = self._recording.get(vm_id, 0) + 1
        return Record(vm_id, command)

    def recording(self, vm_id: VmId) -> bool:
        """Return whether a Record of a VM is under way."""
        return vm_id in self._recording

    def record_ends(self, vm_id: VmId, *, sends: bool) -> None:
        """Note that it was recorded, or could not be. Give back the slot kept for it if it sends, or was the last."""
        left = self._recording.pop(vm_id, 1) - 1
        if left:
            self._recording[vm_id] = left
        if (sends or not left) and (kept := self._reserved.pop(vm_id, None)) is not None:
            self._release(*kept)

    # --- what is under way ----------------------------------------------------------------------------------------

    def send(self, flight: Flight) -> Send:
        """Put an order under way. There must be a slot for it."""
        order = flight.order
        self.slots(order.host_id).take(flight.share)
        self._sent += 1
        dispatch_id = f"{self._incarnation}-{self._sent}"
        self._under_way[dispatch_id] = flight
        self._of_host.setdefault(order.host_id, {})[dispatch_id] = flight
        if flight.number and order.vm_id is not None:
            self._of_vm.setdefault(order.vm_id, {})[dispatch_id] = flight
        if flight.key:
            self._of_key[flight.key] = dispatch_id
        self._late.by(dispatch_id, math.nextafter(flight.late_s, math.inf))
        return Send(flight.executor, dispatch_id, order)

    def land(self, dispatch_id: str) -> Flight | None:
        """End a flight, and give its slot back; None if there is no such flight."""
        flight = self._under_way.pop(dispatch_id, None)
        if flight is None:
            return None
        order = flight.order
        _remove(self._of_host, order.host_id, dispatch_id)
        if flight.number and order.vm_id is not None:
            _remove(self._of_vm, order.vm_id, dispatch_id)
        self._of_key.pop(flight.key, None)
        self._late.clear(dispatch_id)
        self._release(order.host_id, flight.share)
        return flight

    def get(self, dispatch_id: str) -> Flight | None:
        """Return an order that is under way; None: there is none of that id."""
        return self._under_way.get(dispatch_id)

    def late(self, now_s: float) -> list[str]:
        """Return the ids of the flights that should have been answered, each once."""
        return self._late.due(now_s, len(self._under_way))

    def of_executor(self, executor: str) -> tuple[str, ...]:
        """Return the ids of the flights of an executor."""
        return tuple(dispatch_id for dispatch_id, flight in self._under_way.items() if flight.executor == executor)

    def of_question(self, key: str) -> str | None:
        """Return the id of a question's flight; None: it is not under way."""
        return self._of_key.get(key)

    def of_vm(self, vm_id: VmId) -> Iterable[Flight]:
        """Return the orders of a VM's operations."""
        return self._of_vm.get(vm_id, {}).values()

    def on(self, host_id: HostId) -> Iterable[Flight]:
        """Return the orders under way on a host."""
        return self._of_host.get(host_id, {}).values()

    # --- what is given up -----------------------------------------------------------------------------------------

    def remember(self, dispatch_id: str, flight: Flight) -> None:
        """Keep an effect whose answer did not come, in case it comes after all."""
        self._given_up[dispatch_id] = flight
        while len(self._given_up) > _REMEMBERED:
            del self._given_up[next(iter(self._given_up))]

    def abandon_unwanted(self, vm: VirtualMachine) -> list[Abandon]:
        """Give up the effects on a VM that are not waited for any more, and all that went to a host that it has left.

        A late DONE of an effect still counts.
        """
        under_way = self._of_vm.get(vm.vm_id)
        if not under_way:
            return []
        issued = {s.token for o in vm.active_operations for s in o.steps if s.state is StepState.ISSUED}

        def unwanted_is(f: Flight) -> bool:
            return f.order.host_id != vm.host_id or (f.order.kind is OrderKind.EFFECT and f.order.token not in issued)

        unwanted = [(dispatch_id, f) for dispatch_id, f in under_way.items() if unwanted_is(f)]
        for dispatch_id, flight in unwanted:
            self.land(dispatch_id)
            if flight.order.kind is OrderKind.EFFECT:
                self.remember(dispatch_id, flight)
        return [Abandon(flight.executor, dispatch_id) for dispatch_id, flight in unwanted]

    def held(self, dispatch_id: str, executor: str) -> Flight | None:
        """Return an effect of an executor that was given up, once."""
        flight = self._given_up.get(dispatch_id)
        return self._given_up.pop(dispatch_id) if flight is not None and flight.executor == executor else None


def _remove(index: dict[K, dict[str, Flight]], key: K, dispatch_id: str) -> None:
    of_key = index[key]
    del of_key[dispatch_id]
    if not of_key:
        del index[key]
