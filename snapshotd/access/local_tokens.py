"""Tokens for those without an identity provider: `snapshotd_<id>_<secret>`, issued and revoked on the server's machine.

The file of tokens holds the SHA-256 of each secret and never the secret. A slow hash would add nothing: a secret is 32
random bytes, which nobody finds by trying. The daemon notices by itself that the file has changed.
"""

from __future__ import annotations

import fcntl
import hmac
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final

import msgspec

from snapshotd.access.atomic_file import SECRET, give_to_owner, write_file
from snapshotd.access.errors import (
    AccessUnusable,
    TokenExpired,
    TokenMalformed,
    TokenRevoked,
    TokensUnreadable,
    TokenUnknown,
    time_text,
)
from snapshotd.access.identity import NAME_RULE, Identity, is_name
from snapshotd.access.watched_file import WatchedFile
from snapshotd.small_file import SmallFile, read_small

PREFIX: Final = "snapshotd_"
"""How a local token begins, and nothing else does: scanners for leaked secrets find it by that."""
_SECRET_BYTES: Final = 32
_ID_BYTES: Final = 4
_LARGEST_FILE: Final = 4 * 1024 * 1024
"""Bytes of the file of tokens: more than 10,000 of them."""
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_log = logging.getLogger(__name__)

_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class LocalToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is on record of a token."""

    name: str
    """Whom it stands for. Several tokens may stand for one, so that they can be changed without a gap."""
    id: str
    sha256: str
    """Of the secret, in hexadecimal."""
    created: _Time
    expires: _Time
    issued_by: str
    """The user of the machine who issued it."""
    revoked: _Time | None = None


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: list[LocalToken]
    version: int = 1


class LocalTokens:
    """Checks tokens against the file.

    Args:
        path: of the file; none is there until the first token is issued.
        now: tells the time.
    """

    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        self._file = WatchedFile(path, _LARGEST_FILE)
        self._now = now
        self._tokens: Mapping[str, LocalToken] | None = {}
        """By id; None: the file cannot be used, and no token is in force."""
        self._problem = ""

    def verify(self, token: str) -> Identity:
        """Return whom a token stands for. Raises SignInRefused, or TokensUnreadable."""
        parts = token.removeprefix(PREFIX).split("_", 1)
        if not token.startswith(PREFIX) or len(parts) != 2 or not all(parts) or not token.isascii():
            raise TokenMalformed(f"it is not of the form {PREFIX}ID_SECRET")
        identifier, secret = parts
        self._look()
        if self._tokens is None:
            raise TokensUnreadable(identifier)
        found = self._tokens.get(identifier)
        # Before anything is told of the token: who has only its id learns nothing.
        if found is None or not hmac.compare_digest(found.sha256.encode(), _hash(secret).encode()):
            raise TokenUnknown(identifier)
        if found.revoked is not None:
            raise TokenRevoked(identifier, found.name, time_text(found.revoked))
        if found.expires <= self._now():
            raise TokenExpired(f"local token {identifier!r} of {found.name}", time_text(found.expires))
        return Identity(f"token:{found.name}")

    def _look(self) -> None:
        problem = ""
        try:
            news = self._file.news()
            if news is None:
                return
            self._tokens = {token.id: token for token in _parse(news, self._file.path)}
        except FileNotFoundError:
            self._tokens = {}
        except OSError as error:
            self._tokens = None
            problem = f"Cannot read {self._file.path}: {error.strerror}."
        except AccessUnusable as error:
            self._tokens = None
            problem = str(error)
        if problem and problem != self._problem:
            _log.error("%s Until then no local token is accepted.", problem)
        self._problem = problem


class TokenFile:
    """Issues, lists and revokes tokens. All methods raise AccessUnusable.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def issue(self, name: str, valid_for: timedelta, issued_by: str, now: datetime) -> tuple[str, LocalToken]:
        """Issue a token. Return it whole, which is nowhere else, and what is on record of it.

        Args:
            name: whom it stands for.
            valid_for: how long it is in force.
            issued_by: the user of the machine who asks for it.
            now: the time.
        """
        if not is_name(name):
            raise AccessUnusable(f"Cannot issue a token for {name!r}: a name is {NAME_RULE}.")
        if _is_id(name):
            raise AccessUnusable(f"Cannot issue a token for {name!r}: that is what ids of tokens look like. Rename it.")
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        with self._changing() as tokens:
            taken = {token.id for token in tokens}
            identifier = next(i for i in iter(lambda: secrets.token_hex(_ID_BYTES), "") if i not in taken)
            try:
                expires = now + valid_for
            except OverflowError:
                raise AccessUnusable("Cannot issue a token for so long: the year would be above 9999.") from None
            made = LocalToken(name, identifier, _hash(secret), now, expires, issued_by)
            tokens.append(made)
        return f"{PREFIX}{identifier}_{secret}", made

    def revoke(self, which: str, now: datetime) -> Sequence[LocalToken]:
        """Revoke the token of an id, or all of a name, for good. Return those that were not revoked before."""
        with self._changing() as tokens:
            meant = [token for token in tokens if which in (token.id, token.name)]
            if not meant:
                raise AccessUnusable(
                    f"Cannot revoke {which!r}: there is no token of that id or name. See `snapshotd token list`."
                )
            ended = [token for token in meant if token.revoked is None]
            for token in ended:
                tokens[tokens.index(token)] = msgspec.structs.replace(token, revoked=now)
        return ended

    def all(self) -> Sequence[LocalToken]:
        """Return all tokens that were ever issued, the oldest first."""
        try:
            return _parse(read_small(self._path, _LARGEST_FILE), self._path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise AccessUnusable(f"Cannot read {self._path}: {error.strerror}.") from None

    @contextmanager
    def _changing(self) -> Iterator[list[LocalToken]]:
        """Give the tokens to be changed, and write them; one process at a time."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, SECRET)
        except OSError as error:
            raise AccessUnusable(f"Cannot write {self._path}: {error.strerror}.") from None
        try:
            give_to_owner(lock, self._path)
            fcntl.flock(lock, fcntl.LOCK_EX)
            tokens = list(self.all())
            yield tokens
            content = msgspec.json.format(msgspec.json.encode(_Content(tokens)), indent=1)
            if len(content) > _LARGEST_FILE:
                raise AccessUnusable(f"Cannot write {self._path}: it is full. Take out tokens that have expired.")
            write_file(self._path, content, SECRET)
        except OSError as error:
            raise AccessUnusable(f"Cannot write {self._path}: {error.strerror}.") from None
        finally:
            os.close(lock)


def _parse(file: SmallFile, path: Path) -> list[LocalToken]:
    if file.mode & _OTHERS_WRITE:
        raise AccessUnusable(
            f"Cannot rely on {path}: others than its owner may write it. See that it holds no token that nobody "
            "has issued, then set its mode to 600."
        )
    try:
        content = msgspec.json.decode(file.content, type=_Content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise AccessUnusable(f"Cannot read {path}: it is no file of tokens ({error}). Restore it.") from None
    if content.version != 1:
        raise AccessUnusable(f"Cannot read {path}: it is of another release (version {content.version}).")
    if len({token.id for token in content.tokens}) < len(content.tokens):
        raise AccessUnusable(f"Cannot rely on {path}: it has two tokens of one id. Take one out.")
    if odd := next((token for token in content.tokens if not is_name(token.name)), None):
        raise AccessUnusable(f"Cannot rely on {path}: the token {odd.id!r} has no usable name. A name is {NAME_RULE}.")
    return content.tokens


def _is_id(text: str) -> bool:
    return len(text) == 2 * _ID_BYTES and all(digit in "0123456789abcdef" for digit in text)


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
