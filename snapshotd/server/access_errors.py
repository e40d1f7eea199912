"""Why a call is refused before its service sees it: who its caller is, what it may do, how much it asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snapshotd.domain.errors import SnapshotdError


@dataclass(eq=False)
class SignInMissing(SnapshotdError):
    """A caller that has not said who it is."""

    reason: ClassVar[str] = "SIGN_IN_MISSING"
    text: ClassVar[str] = (
        "Cannot serve {method}: the caller has not signed in. Send a token (`--token-file FILE`), or a certificate "
        "(`--certificate FILE --key FILE`)."
    )
    method: str


@dataclass(eq=False)
class NotAllowed(SnapshotdError):
    """A caller without the role that a call needs."""

    reason: ClassVar[str] = "NOT_ALLOWED"
    text: ClassVar[str] = (
        "Cannot serve {method} to {caller}: {need}. Ask whoever keeps the roles of this server (auth.roles)."
    )
    method: str
    caller: str
    need: str


@dataclass(eq=False)
class TooManyCalls(SnapshotdError):
    """A caller that has more under way, or asks more often, than one caller may."""

    reason: ClassVar[str] = "TOO_MANY_CALLS"
    text: ClassVar[str] = "Cannot serve {method}: {caller} {problem}. Try again later."
    method: str
    caller: str
    problem: str
