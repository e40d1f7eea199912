"""A server with VMs of two accounts on two hosts, callers of every role on every part of it, and what each may do.

The rules here are written down anew, and far simpler than the gate: what somebody may see is told by an owner and a
host, and what may be recorded for somebody by a role and the stream of the event.
"""

from __future__ import annotations

import asyncio
import base64
import random
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from snapshotd.access.local_tokens import TokenFile
from snapshotd.api.v1.host_pb2 import Host, RegisterHostRequest
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.domain.events import Envelope, HostRegistered, HostUpdated, VmDetailsChanged, VmRegistered
from snapshotd.domain.events.volume import VolumeClaimed, VolumeReleased
from snapshotd.domain.ids import StreamId
from snapshotd.domain.lifecycle import SnapshotState
from snapshotd.domain.state import replace
from snapshotd.store.codec import decode, encode
from tests.fakes import VM_ID
from tests.integration.fuzzing import FuzzedCall, aimed_call, fuzzed_call
from tests.integration.whole_server import Served, serve
from tests.integration.writing import write
from tests.unit.projections.histories import history

ROLES: Final = ("viewer", "operator", "auditor", "admin", "executor", "delegate", "none")
HOSTS: Final = {"hv01": "10.77.0.1", "hv02": "10.77.0.2"}
VMS: Final = {
    f"{letter * 8}-1111-4111-8111-{letter * 12}": place
    for letter, place in zip(
        "2345", (("acme", "hv01"), ("umbra", "hv01"), ("acme", "hv02"), ("umbra", "hv02")), strict=True
    )
}
"""By id, the account and the host at the start."""
ONE: Final = min(VMS)
SCOPES: Final[Mapping[str, tuple[str, str]]] = {
    "all": ("", ""),
    "account": ("account", "acme"),
    "host": ("host", "hv01"),
    "vm": ("vm", ONE),
}
_SCOPES_OF: Final = {"none": ("all",), "delegate": ("all",), "executor": ("all", "host")}
_SEEING: Final = ("viewer", "operator", "auditor", "admin")
_BY_ADMINS: Final = (
    *("VmRegistered", "VmUnregistered", "TakenOver", "OperationSettled"),
    *("HostRegistered", "HostUpdated", "HostRemoved", "HostTakenOver"),
)
_GUID: Final = re.compile(str(VM_ID).encode(), re.IGNORECASE)
_SNAPSHOT: Final = re.compile(rb"aaaaaaaa-0000-4000-8000-000000000001", re.IGNORECASE)
_HOST: Final = re.compile(rb"hv01")
_TOKEN: Final = re.compile(rb"W[yz][A-Za-z0-9_-]{10,}={0,2}")


@dataclass(frozen=True)
class Person:
    """A caller with one role on one part."""

    role: str
    scope: str
    token: str

    @property
    def subject(self) -> str:
        """Return the name in events."""
        return f"token:{self.role}-{self.scope}"

    def covers(self, account: str, host: str, vm_id: str = "") -> bool:
        """Return whether its role is on a VM, or, without an account, on a host."""
        kind, part = SCOPES[self.scope]
        return part in ("", {"account": account, "host": host, "vm": vm_id}.get(kind))


@dataclass
class World:
    """A server, its callers, and what is known of its VMs from the events alone."""

    served: Served
    people: Sequence[Person]
    vms: dict[str, tuple[str, str]] = field(default_factory=lambda: dict(VMS))
    position: int = 0

    def visible(self, person: Person) -> set[str]:
        """Return the VMs that somebody may know of."""
        seeing = person.role in _SEEING
        return {vm_id for vm_id, (account, host) in self.vms.items() if seeing and person.covers(account, host, vm_id)}

    def hidden(self, person: Person) -> tuple[set[bytes], set[bytes]]:
        """Return what answers to somebody must not hold: names that a request can hold, and names that none can."""
        visible = self.visible(person)
        hidden = [vm_id.encode() for vm_id in self.vms if vm_id not in visible]
        own = {h for h in HOSTS if person.role in _SEEING and person.covers("", h)}
        theirs = own | {self.vms[vm_id][1] for vm_id in visible}
        told = {*hidden, *(h.encode() for h in HOSTS if h not in theirs)}
        return told, {*map(_mark, hidden), *(HOSTS[h].encode() for h in HOSTS if h not in own)}

    async def leaks(self, person: Person, request: bytes, answers: Iterable[bytes], error: bytes) -> list[bytes]:
        """Return what somebody was told and must not know."""
        named, marks = self.hidden(person)
        told = b"\n".join(_opened(answer) for answer in answers)
        found = [name for name in named | marks if name in told]
        found += [name for name in named if name in error and name not in request.lower()]
        found += [mark for mark in marks if mark in error]
        written = await self._written(person) if found else b""
        return [name for name in found if name not in written]

    async def _written(self, person: Person) -> bytes:
        """Return what callers have written into what somebody may see: a snapshot may be called after any VM."""
        visible = {f"vm/{vm_id}" for vm_id in self.visible(person)}
        visible |= {f"host/{h}" for h in HOSTS if person.role in _SEEING and person.covers("", h)}
        events = await self.served.log.read_all(0, 1_000_000)
        own = [e for e in events if e.stream in visible and e.actor.startswith("token:")]
        return "\n".join(encode(e.event)[1] for e in own).lower().encode()

    async def wrongly_recorded(self, person: Person) -> list[Envelope]:
        """Return the events since the last call that somebody's role does not allow, and take all of them in."""
        events = await self.served.log.read_all(self.position, 1_000)
        wrong = [event for event in events if not self._may_record(person, event)]
        for envelope in events:
            self.position = envelope.position
            vm_id, event = envelope.stream.partition("/")[2], envelope.event
            if isinstance(event, VmRegistered):
                self.vms[vm_id] = (event.owner, event.host_id)
            elif isinstance(event, VmDetailsChanged):
                self.vms[vm_id] = (event.after.owner, self.vms[vm_id][1])
        return wrong

    def _may_record(self, person: Person, envelope: Envelope) -> bool:
        kind, _, name = envelope.stream.partition("/")
        if kind == "access":
            return True
        event = envelope.event
        if person.role not in ("operator", "admin") or envelope.actor != person.subject:
            return False
        gives_away = isinstance(event, VmDetailsChanged) and event.before.owner != event.after.owner
        if person.role == "operator" and (gives_away or type(event).__name__.endswith(_BY_ADMINS)):
            return False
        if isinstance(event, HostRegistered | HostUpdated):
            return person.scope == "all"
        if kind == "host":
            return person.covers("", name)
        vm_id = event.vm_id if isinstance(event, VolumeClaimed | VolumeReleased) else name
        return person.covers(*self.vms[vm_id], vm_id)


def fuzzed(chance: random.Random, person: Person) -> FuzzedCall:
    """Return a call by somebody. Each name in it is of any of the VMs and hosts: one request may name several."""
    call = aimed_call(chance) if chance.random() < 0.6 else fuzzed_call(chance)
    message = call.message
    if message is not None:
        message = _GUID.sub(lambda _: chance.choice(list(VMS)).encode(), message)
        message = _SNAPSHOT.sub(lambda _: chance.choice(snapshot_ids()).encode(), message)
        message = _HOST.sub(lambda _: chance.choice(list(HOSTS)).encode(), message)
    metadata = [*call.metadata, ("authorization", f"Bearer {person.token}")]
    if chance.random() < 0.02:
        metadata.append(("x-snapshotd-on-behalf-of", "bob"))
    return FuzzedCall(call.path, message, metadata, call.endless)


@asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    """Run a server with VMs, hosts and people."""
    tokens, now = TokenFile(directory / "tokens.json"), datetime.now(UTC)
    people = [
        Person(role, scope, tokens.issue(f"{role}-{scope}", timedelta(hours=1), "test", now)[0])
        for role in ROLES
        for scope in SCOPES
        if scope in _SCOPES_OF.get(role, SCOPES)
    ]
    (directory / "roles.toml").write_text("\n".join(map(_binding, people)))
    flags = {"auth.mode": "required", "auth.roles": str(directory / "roles.toml")}
    async with serve(directory, flags) as served:
        await write(served.log, _histories())
        following = asyncio.create_task(served.projections.run())
        built = World(served, people)
        admin = next(p for p in people if (p.role, p.scope) == ("admin", "all"))
        for host_id, address in HOSTS.items():
            host = Host(address=address, credential=f"credential-of-{address}")
            register: Any = HostServiceStub(served.channel).RegisterHost
            request = RegisterHostRequest(host_id=host_id, host=host)
            await register(request, metadata=(("authorization", f"Bearer {admin.token}"),))
        built.position = served.log.head_position()
        yield built
        following.cancel()


@cache
def _histories() -> Sequence[Envelope]:
    """Return the same history of each VM, in its own words."""
    return [_of(vm_id, envelope) for vm_id in VMS for envelope in history(7, 30).envelopes]


@cache
def snapshot_ids() -> Sequence[str]:
    """Return the ids of snapshots; each VM has those."""
    return [s.snapshot_id for s in history(7, 30).vm.snapshots.values() if s.state is SnapshotState.READY]


def _of(vm_id: str, envelope: Envelope) -> Envelope:
    account, host = VMS[vm_id]
    topic, text = encode(envelope.event)
    for before, after in (
        (str(VM_ID), vm_id),
        ("web01", _mark(vm_id.encode()).decode()),
        ("by hand", _mark(vm_id.encode()).decode()),
        ('"hv01"', f'"{host}"'),
    ):
        text = text.replace(before, after)
    event = decode(topic, re.sub(r'"owner":"[^"]*"', f'"owner":"{account}"', text))
    operation: Any = envelope.operation.replace(VM_ID, vm_id) if envelope.operation else None
    return replace(envelope, stream=StreamId(f"vm/{vm_id}"), event=event, operation=operation)


def _mark(vm_id: bytes) -> bytes:
    """Return the name of a VM, which is in the names of its files too, and in no request."""
    return b"quokka-" + vm_id[:4]


def _opened(answer: bytes) -> bytes:
    """Return an answer in lower case, with what its page tokens hold."""
    tokens = [base64.urlsafe_b64decode(found + b"==") for found in _TOKEN.findall(answer)]
    return b"\n".join([answer, *tokens]).lower()


def _binding(person: Person) -> str:
    kind, part = SCOPES[person.scope]
    on = f'{kind} = "{part}"\n' if kind else ""
    return (
        f'[[binding]]\nrole = "{person.role}"\nsubjects = ["{person.subject}"]\n{on}' if person.role != "none" else ""
    )
