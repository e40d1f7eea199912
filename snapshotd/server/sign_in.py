"""Finds out who makes a call: by what it carries, on the server's machine also by its own word.

    x-snapshotd-executor-secret   the executor in this process, over its own socket
    authorization: Bearer …       a local token, or one of the identity provider
    a certificate                 of the users' CA, or of the executors'
    a socket on this machine      the user at its other end

The first that a call has counts: one that is false is refused, whatever else it has.
"""

from __future__ import annotations

from typing import Final

from snapshotd.access.bindings import WHOLE
from snapshotd.domain.errors import InvalidArgument
from snapshotd.server.callers import Caller
from snapshotd.server.gate import BEHALF_METADATA, Context
from snapshotd.server.request_errors import ActorNotAllowed
from snapshotd.server.runtime import ITSELF

ACTOR_METADATA: Final = "x-snapshotd-actor"
"""The name of a caller in trust mode."""
_NOBODY: Final = "anonymous"
_LONGEST: Final = 100
_LOCAL: Final = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")


def _metadata(context: Context) -> dict[str, str]:
    pairs = context.invocation_metadata() or ()
    return {key: value if isinstance(value, str) else value.decode(errors="replace") for key, value in pairs}


async def trusting(context: Context, method: str) -> Caller | None:
    """Return a caller on this machine under the name that it gives. Raises ActorNotAllowed, InvalidArgument."""
    peer = context.peer()
    if not peer.startswith(_LOCAL):
        raise ActorNotAllowed(peer, 'it is not on this machine, and auth.mode is "trust".')
    told = _metadata(context)
    name = told.get(ACTOR_METADATA, _NOBODY)
    if not 0 < len(name) <= _LONGEST or not name.isprintable() or name.strip() != name:
        problem = f"must be 1 to {_LONGEST} printable characters, without blanks around them."
        raise InvalidArgument(ACTOR_METADATA, name[:40], problem)
    if name.casefold() == ITSELF:
        raise InvalidArgument(ACTOR_METADATA, name, "is the name of the service itself; use another one.")
    return Caller(subject=name, granted=WHOLE, method=method, on_behalf_of=told.get(BEHALF_METADATA, ""))
