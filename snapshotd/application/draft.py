"""A decision under way: the events so far, and the VM as it will be with them.

Lives for one `decide` and is then dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from snapshotd.domain import events as e
from snapshotd.domain.events import Occasion
from snapshotd.domain.ids import HostId, OperationName, operation_name
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import State
from snapshotd.domain.virtual_machine import VirtualMachine, evolve


class Context(State, frozen=True, kw_only=True):
    """Who asks, when, and under which limits."""

    now: datetime
    actor: str
    policy: Policy
    fresh_id: str
    """A random UUID: it makes the name of an operation that is accepted one that never comes again."""
    request_id: str = ""
    """Empty for what the service does by itself."""
    digest: str = ""
    """Of the request's payload: a request id that comes again with another payload is refused."""


class Draft:
    """Collects events, each applied at once, so that the next is decided on what the last one led to."""

    def __init__(self, vm: VirtualMachine, context: Context) -> None:
        """Start from a VM as it is on record."""
        self.vm = vm
        self.context = context
        self.events: list[tuple[e.VmEvent, OperationName | None]] = []
        self.reporter: HostId | None = None
        """The host whose report is taken in; None: the VM's own."""

    def add(self, events: Iterable[e.VmEvent], number: int | None = None) -> None:
        """Apply and collect events. `number`: the operation that they belong to."""
        name = self.operation(number) if number is not None else None
        for event in events:
            context = self.context
            at = Occasion(
                version=self.vm.version + 1, time=context.now, actor=self._asker(event), request_id=context.request_id
            )
            self.vm = evolve(self.vm, event, at)
            self.events.append((event, name))

    def actor_of(self, event: e.VmEvent) -> str:
        """Return who an event is by: what a host shows by itself is by the host."""
        return (self.reporter or self.vm.host_id) if e.shown_by_host(event) else self._asker(event)

    def _asker(self, event: e.VmEvent) -> str:
        """Return on whose behalf an event happens: what follows an operation is asked for by whoever asked for that."""
        followed = event.follows if isinstance(event, e.OperationRequested) else None
        before = self.vm.operation(followed) if followed else None
        return before.actor if before else self.context.actor

    def operation(self, number: int) -> OperationName:
        """Return the name of an operation: of one on record, or of the one that is being accepted."""
        known = self.vm.operations.get(number)
        return known.name if known else operation_name(self.vm.vm_id, number, self.context.fresh_id)
