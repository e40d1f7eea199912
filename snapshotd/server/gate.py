"""Lets calls in: who makes it, whether that caller may, and whether it has too many under way already.

    sign in ──► a role on anything? ──► the request is read ──► the role on what it names? ──► the service
       │              │                                              │
       └──────────────┴── refused, and recorded (refusals.py) ◄──────┘

What a caller may not know of is told as not found, in the words for what is not on record.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final, Protocol, TypeAlias

import grpc
from google.protobuf.message import Message

from snapshotd.access.bindings import Granted, Place
from snapshotd.access.errors import SignInRefused
from snapshotd.access.roles import RULES, SEEING, Concern, Role, Rule
from snapshotd.domain.errors import InvalidArgument, NotFound, SnapshotdError
from snapshotd.domain.ids import VmId
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.server.access_errors import NotAllowed, SignInMissing, TooManyCalls
from snapshotd.server.callers import NOBODY, Caller
from snapshotd.server.crowd import Crowd
from snapshotd.server.named import NamedVm, beyond, named_in, value_of, weighty
from snapshotd.server.requests import host_id_of

Context = grpc.aio.ServicerContext[Any, Any]
SignIn: TypeAlias = Callable[[Context, str], Awaitable[Caller | None]]
"""Returns the caller of a method, or None if it has not said who it is. Raises a SnapshotdError for a false one."""
LoadVm: TypeAlias = Callable[[VmId], Awaitable[VirtualMachine]]
"""Returns a VM as the log has it."""

BEHALF_METADATA: Final = "x-snapshotd-on-behalf-of"
"""For whom a delegate makes a call."""
_LONGEST: Final = 200
_ADMIN: Final = frozenset({Role.ADMIN})
_NONE_LEFT: Final = "it was barred since the call began, or has no role any more"


class Refusals(Protocol):
    """Keeps who was refused."""

    def refused(self, subject: str, method: str, error: SnapshotdError, peer: str) -> None:
        """Record a refusal."""
        ...


class Gate:
    """Decides on each call, before its service does.

    Args:
        sign_in: finds out who makes a call.
        load_vm: for a VM's account and host.
        crowd: the calls that are under way.
        refusals: is told of who was refused.
    """

    def __init__(self, sign_in: SignIn, load_vm: LoadVm, crowd: Crowd, refusals: Refusals) -> None:
        self._sign_in = sign_in
        self._load_vm = load_vm
        self._crowd = crowd
        self._refusals = refusals

    async def admit(self, method: str, context: Context) -> AbstractContextManager[Caller]:
        """Return the caller of a method, which counts as under way until the end.

        Raises a SnapshotdError for one that may not call it, on whatever.
        """
        subject = ""
        try:
            rule = RULES.get(method)
            if rule is not None and rule.concern is Concern.NOTHING:
                caller: Caller | None = Caller(
                    subject=NOBODY, granted=Granted(), method=method, machine=_machine(context.peer())
                )
            else:
                caller = await self._sign_in(context, method)
            if caller is None:
                raise SignInMissing(method.removeprefix("/"))
            subject = caller.subject
            if rule is None or not (rule.concern is Concern.NOTHING or caller.granted.somewhere(rule.roles)):
                raise _not_allowed(caller, rule)
            _check_behalf(caller)
            self._crowd.check(caller)
        except (InvalidArgument, TooManyCalls):
            raise  # it says nothing of who the caller is, or what it may do
        except SnapshotdError as error:
            self._refusals.refused(subject, method, error, context.peer())
            raise
        return self._crowd.enter(caller)

    async def check(self, caller: Caller, request: Message, peer: str) -> None:
        """Return if a caller may do what its request asks. Raises NotAllowed, NotFound and InvalidArgument."""
        rule = RULES[caller.method]
        if rule.concern is Concern.NOTHING:
            return
        roles = _ADMIN if weighty(rule, request) else rule.roles
        everywhere = caller.granted.everywhere(_ADMIN if beyond(rule, request) else roles)
        if everywhere or rule.concern in (Concern.ANYTHING, Concern.OWN):
            return
        error = await self._problem(caller, rule, roles, request)
        if error is not None:
            self._refusals.refused(caller.subject, caller.method, error, peer)
            raise error

    async def still(self, caller: Caller, request: Message | None, peer: str) -> None:
        """Return if a call that goes on may have what comes next.

        Roles may have changed, and whose a VM is; a token may have been revoked.

        Args:
            caller: as it was when the call began.
            request: of the call; None: it sends any number of them.
            peer: where the caller is.

        Raises as `check` does, and SignInRefused.
        """
        rule = RULES[caller.method]
        try:
            granted = caller.granted if caller.granted_now is None else await caller.granted_now()
        except SignInRefused as refused:
            self._refusals.refused(caller.subject, caller.method, refused, peer)
            raise
        if request is not None and rule.concern is not Concern.LISTED:
            await self.check(caller if granted is caller.granted else replace(caller, granted=granted), request, peer)
        elif granted != caller.granted:
            # What is listed was narrowed by the roles of before, and an executor's hosts likewise.
            need = "its roles have changed since the call began; call again" if granted.bindings else _NONE_LEFT
            error = NotAllowed(caller.method.removeprefix("/"), caller.subject, need)
            self._refusals.refused(caller.subject, caller.method, error, peer)
            raise error

    async def _problem(
        self, caller: Caller, rule: Rule, roles: frozenset[Role], request: Message
    ) -> NotAllowed | NotFound | None:
        """Return why a caller may not do what its request asks. Raises NotFound for what is not on record."""
        named = named_in(rule, request)
        if named is None:
            # A list holds what its caller may see.
            return None if rule.concern is Concern.LISTED else _not_allowed(caller, rule)
        if isinstance(named, NamedVm):
            vm = await self._load_vm(named.vm_id)
            if not vm.version:
                raise named.hidden
            place, hidden = Place(vm_id=vm.vm_id, account=vm.owner, host_id=vm.host_id), named.hidden
            if field := beyond(rule, request):
                host_id = host_id_of(value_of(request, field), field) if field == "host" else vm.host_id
                if caller.granted.at(place, roles) and not caller.granted.at(Place(host_id=host_id), _ADMIN):
                    need = f"with {field} it takes the role {Role.ADMIN} on the host"
                    return NotAllowed(caller.method.removeprefix("/"), caller.subject, need)
        else:
            place, hidden = Place(host_id=named), NotFound("host", named, "See `snapshotctl host list`.")
        if caller.granted.at(place, roles):
            return None
        return _not_allowed(caller, rule, roles) if caller.granted.at(place, SEEING) else hidden


def _machine(peer: str) -> str:
    """Return the machine of gRPC's name of a peer: `ipv4:10.0.0.9:1` without the port."""
    return peer.rpartition(":")[0] if peer.startswith("ip") else "this machine"


def _check_behalf(caller: Caller) -> None:
    """Raise NotAllowed if a caller says that it acts for somebody and may not, InvalidArgument for a bad name."""
    name = caller.on_behalf_of
    if not name:
        return
    if len(name) > _LONGEST or not name.isprintable() or name.strip() != name:
        raise InvalidArgument(
            BEHALF_METADATA, name[:40], f"must be 1 to {_LONGEST} printable characters, without blanks around them."
        )
    if not caller.granted.somewhere({Role.DELEGATE}):
        raise NotAllowed(caller.method.removeprefix("/"), caller.subject, "to act for somebody takes the role delegate")


def _not_allowed(caller: Caller, rule: Rule | None, roles: frozenset[Role] | None = None) -> NotAllowed:
    if rule is None:
        return NotAllowed(caller.method.removeprefix("/"), caller.subject, "there is no rule for this method")
    needed = " or ".join(sorted(roles or rule.roles))
    what = "everything" if rule.concern is Concern.NAMED else rule.concern.value
    return NotAllowed(caller.method.removeprefix("/"), caller.subject, f"it takes the role {needed} on {what}")
