"""Many VMs on few hosts: one dispatcher, records that are carried out when a test says, and orders under way."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta

from snapshotd.dispatch.dispatcher import Dispatcher
from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.dispatch.outputs import Moment, Output, Record, Reply, Send
from snapshotd.domain.commands import VmCommand
from snapshotd.domain.events import Envelope
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import HostId, StreamId, VmId
from tests.fakes import START, World

HV01 = HostId("hv01")


def vm_id(number: int) -> VmId:
    """Return the id of the n-th VM."""
    return VmId(f"11111111-1111-4111-8111-{number:012d}")


class Crowd:
    """VMs, each with a world of its own, and their dispatcher, which has no safety net unless a test asks for it."""

    def __init__(
        self, vms: int, slots: int = 4, hosts: tuple[str, ...] = ("hv01",), *, look_again_s: float = math.inf
    ) -> None:
        self.now, self.seconds = START, 0.0
        self.worlds = {vm_id(n): World(vm_id=vm_id(n), on=hosts[n % len(hosts)]) for n in range(vms)}
        self.dispatcher = Dispatcher(
            World().policy, lease_ttl_s=8, orders_per_host=slots, incarnation="x", look_again_s=look_again_s
        )
        self.records: list[Record] = []
        self.sent: list[Send] = []
        self.replies: list[Reply] = []
        self.others: list[Output] = []
        self.refuses: dict[VmId, Exception] = {}
        """The VMs whose Records fail, and how."""
        self.refused = 0

    @property
    def moment(self) -> Moment:
        """The time, as it is."""
        return Moment(utc=self.now, monotonic_s=self.seconds)

    def attach(self, *hosts: str) -> None:
        """Let an executor sign in that reaches these hosts, or every host."""
        self.take(self.dispatcher.attached("ex", frozenset(hosts or {"*"}), self.moment))

    def ask(self, at: VmId, command: VmCommand) -> None:
        """Have somebody ask something of a VM."""
        world = self.worlds[at]
        world.now = self.now
        world.do(command)
        self.take(self.dispatcher.changed(world.vm, self.moment))

    def question(self, key: str, host_id: HostId = HV01) -> None:
        """Have somebody ask for a report of a host."""
        deadline = self.now + timedelta(minutes=1)
        order = Order(kind=OrderKind.REPORT, host_id=host_id, deadline=deadline)
        self.take(self.dispatcher.asked(key, order, self.moment))

    def take(self, outputs: Iterable[Output]) -> None:
        """Keep what the dispatcher says."""
        for output in outputs:
            match output:
                case Record():
                    self.records.append(output)
                case Send():
                    self.sent.append(output)
                case Reply():
                    self.replies.append(output)
                case _:
                    self.others.append(output)

    def record(self) -> None:
        """Carry out the oldest Record."""
        record = self.records.pop(0)
        if (error := self.refuses.get(record.vm_id)) is not None:
            self.refused += 1
            self.take(self.dispatcher.refused(record.vm_id, error, self.moment))
            return
        world = self.worlds[record.vm_id]
        world.now = self.now
        version = world.vm.version
        draft = world.do(record.command, actor="snapshotd")
        envelopes = tuple(
            Envelope(
                event_id=f"{n}",
                stream=StreamId(f"vm/{record.vm_id}"),
                version=n,
                position=n,
                time=self.now,
                actor="snapshotd",
                request_id="",
                operation=operation,
                event=event,
            )
            for n, (event, operation) in enumerate(draft.events, version + 1)
        )
        self.take(self.dispatcher.recorded(world.vm, envelopes, self.moment))

    def record_all(self) -> None:
        """Carry out every Record."""
        while self.records:
            self.record()

    def answer(self, send: Send, answer: HostAnswer | None = None) -> None:
        """Let the host carry an order out, or answer as given; record what follows."""
        self.sent.remove(send)
        self.take(self.dispatcher.answered("ex", send.dispatch_id, answer or self.carried_out(send.order), self.moment))
        self.record_all()

    def carried_out(self, order: Order) -> HostAnswer:
        """Return the host's answer to an order."""
        if order.vm_id is None:
            return HostAnswer(verdict=Verdict.REPORTED)
        host = self.worlds[order.vm_id].host
        match order.kind:
            case OrderKind.EFFECT:
                return host.effect(order)
            case OrderKind.OBSERVE:
                return host.observe(order.token, order.watched_files)
            case _:
                seen = host.poll(order.watched_files, order.watched_jobs)
                return HostAnswer(verdict=Verdict.REPORTED, vms=(seen,))

    def tick(self, seconds: float = 1.0) -> None:
        """Let time pass, with signs of life of the executor."""
        self.seconds += seconds
        self.now += timedelta(seconds=seconds)
        self.dispatcher.heard("ex", self.moment)
        self.take(self.dispatcher.tick(self.moment))

    def kinds(self) -> list[OrderKind]:
        """Return what is under way."""
        return [send.order.kind for send in self.sent]

    def active(self) -> list[VmId]:
        """Return the VMs whose operation has not ended."""
        return [at for at, world in self.worlds.items() if world.vm.active_operations]
