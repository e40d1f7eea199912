"""Who makes the call that is being answered. The gate sets it, once the caller has signed in (gate.py)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from snapshotd.access.bindings import WHOLE, Granted, Sight
from snapshotd.access.roles import SEEING
from snapshotd.domain.actors import Delegated
from snapshotd.domain.ids import HostId
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.vm_record import VmRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The caller of one method."""

    subject: str
    """The name in events."""
    granted: Granted
    method: str = ""
    """The full name of the method."""
    on_behalf_of: str = ""
    """For whom it acts, by its own word."""
    machine: str = ""
    """Where it is, if it need not say who it is: such callers on one machine have one share of all calls."""
    hosts: frozenset[str] = frozenset({"*"})
    """What an executor may serve: ids of hosts, or all."""
    granted_now: Callable[[], Awaitable[Granted]] | None = None
    """Returns its bindings as they are now, for a call that goes on; None: they never change. Raises SignInRefused if
    what it signed in by counts no more."""

    @property
    def actor(self) -> str:
        """The actor of what is recorded for it."""
        return Delegated(self.subject, self.on_behalf_of) if self.on_behalf_of else self.subject

    def sight(self) -> Sight:
        """Return what it may see in lists."""
        return self.granted.sight(SEEING)

    def sees_host(self, host_id: HostId) -> bool:
        """Return whether it may see a host in lists."""
        sight = self.sight()
        return sight.everything or host_id in sight.hosts

    def sees_vm(self, vm: VmRecord | VirtualMachine) -> bool:
        """Return whether it may see a VM in lists."""
        sight = self.sight()
        return sight.everything or vm.owner in sight.accounts or vm.host_id in sight.hosts or vm.vm_id in sight.vms


CALLER: Final[ContextVar[Caller]] = ContextVar("caller")
"""Of the call that this task answers."""


NOBODY: Final = "anonymous"
"""Who has not said who it is, where nobody has to."""


def trusted(name: str) -> Caller:
    """Return a caller that may do everything."""
    return Caller(subject=name, granted=WHOLE)


ME: Final = "@me"
"""Stands in filters for the caller, who need not know what it is called here."""


class Actor(str):
    """An actor's name in an entry of a list."""

    __slots__ = ()

    def like(self, value: str) -> str:
        """Return what a value of a filter stands for."""
        return actor_named(value)


def actor_named(name: str) -> str:
    """Return the actor that a condition names; ME is the caller."""
    return caller().subject if name == ME else name


def caller() -> Caller:
    """Return who makes this call. A call that has passed no gate is a defect: LookupError."""
    return CALLER.get()
