"""Who may sign in to a host now: one at a time, and nobody with a credential that the host has refused.

    nobody signs in ──► an attempt ──► accepted: the next one
                            │ └──────► failed: all who waited for it are told the same
                            └─ refused ──► paused, until the credential changes, a person asks, or the pause is over

Domains lock an account after a few wrong passwords, so many commands, and their repetitions, share one attempt.
Knows hosts by address and port, so a host that is registered again begins nothing anew. Does not connect.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from snapshotd.api.v1.executor_pb2 import HostConnection
from snapshotd.hyperv.credentials import Credential
from snapshotd.hyperv.no_answer import (
    AuthenticationFailed,
    CertificateRefused,
    CredentialMissing,
    DeadlineExceeded,
    HostRefused,
    HostUnreachable,
    NoHostAnswer,
)

Sign = Callable[[Callable[[], None], float | None, float], None]
"""Makes an attempt, if it is allowed: the attempt, since when a person asks for it, and when to be done by.

The times are seconds of the monotonic clock.
"""

_REMEMBERED = 16
"""Refused credentials of one host."""
_AT_ONCE = "Correct the credential's file, which then counts at once"
_AT_START = "Correct the credential and restart the executor, which was given it when it started"
_LATE = "another command's sign-in to the host had not ended at the deadline; nothing was sent."


def at_once(attempt: Callable[[], None], asked_s: float | None, deadline: float) -> None:
    """Make an attempt without any condition."""
    del asked_s, deadline
    attempt()


@dataclass(frozen=True, slots=True)
class _Refused:
    """What a host refused."""

    first: datetime
    last: datetime
    last_s: float
    """Of the monotonic clock."""
    words: str


@dataclass(frozen=True, slots=True)
class _Used:
    """A credential as it is used for one host on record."""

    host_id: str
    mark: bytes
    """Stands for its content."""
    cure: str
    """How to correct it."""


@dataclass(slots=True)
class _Attempt:
    """A sign-in under way."""

    mark: bytes
    ended: threading.Event = field(default_factory=threading.Event)
    failure: NoHostAnswer | None = None
    """What those who waited are told."""


class SignIns:
    """The sign-ins of all hosts.

    Args:
        pause_s: how long a refused credential is not tried again by itself.
        now_s: returns seconds of a monotonic clock.
    """

    def __init__(self, pause_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._pause_s = pause_s
        self._now_s = now_s
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._hosts: dict[tuple[str, int], _HostSignIns] = {}

    def of(self, connection: HostConnection, credential: Credential) -> Sign:
        """Return the way to sign in to a host with a credential. It raises as `_HostSignIns.sign` does."""
        parts = (credential.kind.name, credential.username, credential.secret.reveal(), credential.changed)
        text = "\0".join(parts).encode()
        # Kept instead of the secret, to see whether it has changed.
        mark = hashlib.blake2b(text, key=self._key).digest()
        with self._lock:
            host = self._hosts.setdefault(
                (connection.address.lower(), connection.port), _HostSignIns(self._pause_s, self._now_s)
            )
        host_id = connection.host.rpartition("/")[2]

        used = _Used(host_id, mark, _AT_START if credential.given_at_start else _AT_ONCE)

        def sign(attempt: Callable[[], None], asked_s: float | None, deadline: float) -> None:
            host.sign(used, attempt, asked_s=asked_s, deadline=deadline)

        return sign


class _HostSignIns:
    """The sign-ins of one host."""

    def __init__(self, pause_s: float, now_s: Callable[[], float]) -> None:
        self._pause_s = pause_s
        self._now_s = now_s
        self._lock = threading.Lock()
        self._under_way: _Attempt | None = None
        self._refused: dict[bytes, _Refused] = {}
        """By mark: two hosts on record may be one machine, each with its own credential."""

    def sign(self, used: _Used, attempt: Callable[[], None], *, asked_s: float | None, deadline: float) -> None:
        """Make an attempt when no other one is under way. One of this credential that fails meanwhile counts for it.

        Raises what the attempt raises, AuthenticationFailed also without one, and DeadlineExceeded.
        """
        while True:
            own = _Attempt(used.mark)
            with self._lock:
                other = self._under_way
                if other is None:
                    self._check(used, asked_s)
                    self._under_way = own
            if other is None:
                self._make(own, used, attempt)
                return
            if not other.ended.wait(max(0.0, deadline - self._now_s())):
                raise DeadlineExceeded(_LATE)
            if other.failure is not None and other.mark == used.mark:
                raise type(other.failure)(str(other.failure))

    def _check(self, used: _Used, asked_s: float | None) -> None:
        """Raise AuthenticationFailed if the host has refused this credential, and it is not time to try it again.

        Who asked before the refusal waited for it, and takes it: many may ask at once.
        """
        refused = self._refused.get(used.mark)
        if refused is None or (asked_s is not None and asked_s > refused.last_s):
            return
        left_s = refused.last_s + self._pause_s - self._now_s()
        if left_s > 0:
            raise AuthenticationFailed(_told(refused, left_s, used))

    def _make(self, own: _Attempt, used: _Used, attempt: Callable[[], None]) -> None:
        try:
            attempt()
        except AuthenticationFailed as error:
            refused = self._refuse(own.mark, str(error))
            own.failure = AuthenticationFailed(_told(refused, self._pause_s, used))
            raise own.failure from error
        except (HostUnreachable, HostRefused, CredentialMissing, CertificateRefused) as error:
            own.failure = error
            raise
        else:
            self._refused.pop(own.mark, None)
        finally:
            with self._lock:
                self._under_way = None
            own.ended.set()

    def _refuse(self, mark: bytes, words: str) -> _Refused:
        now, before = datetime.now(UTC), self._refused.pop(mark, None)
        refused = _Refused(before.first if before else now, now, self._now_s(), words)
        self._refused[mark] = refused
        for oldest in list(self._refused)[:-_REMEMBERED]:
            del self._refused[oldest]
        return refused


def _told(refused: _Refused, left_s: float, used: _Used) -> str:
    """Return since when a credential is refused, why it is not tried again, and what to do."""
    since = _at(refused.first) if refused.first == refused.last else f"{_at(refused.first)}, last {_at(refused.last)}"
    again = datetime.now(UTC) + timedelta(seconds=left_s)
    return (
        f"{refused.words} ({since}). So that the account is not locked, nothing signs in again before {_at(again)}. "
        f"{used.cure}, or run `snapshotctl host sync {used.host_id}` to try it now."
    )


def _at(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%SZ}"
