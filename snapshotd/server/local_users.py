"""A socket on this machine that tells who is at its other end. gRPC does not: it sees the socket, and not the user.

    caller ──► the socket that people know ──► a name of this process's choosing ──► gRPC's own, private socket
                  └ SO_PEERCRED: the user          └ is what gRPC tells as the peer of a call

Nobody else can take such a name: the private socket is in a directory that only the service's user can enter.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import secrets
import socket
import struct
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

from snapshotd.access.identity import Identity
from snapshotd.server.private_socket import PrivateSocket

_CREDENTIALS: Final = struct.Struct("3i")
"""Process, user and group, as Linux has them."""
_PIECE: Final = 64 * 1024
_EVERYBODY: Final = 0o666
"""The socket is open to all users of the machine: the gate decides on them."""
_FIRST_S: Final = 10.0
"""How long a connection may say nothing before it is ended. gRPC's clients speak first, and at once."""
_MOST_OF_ONE: Final = 500
"""Connections of one user. Each takes two of this process's files."""
_WAY: Final = "unix"
_PEER: Final = "unix-abstract:"
"""How gRPC's name of a peer with such a name begins."""


class LocalUsers:
    """The callers that are connected by the socket.

    Args:
        path: of the socket that people know.
        directory: of gRPC's own socket.
    """

    def __init__(self, path: Path, directory: Path) -> None:
        self._path = path
        self._directory = directory
        self._inner: PrivateSocket | None = None
        self._users: dict[str, Identity] = {}
        self._connections: Counter[int] = Counter()
        """By the id of the user."""
        self._server: asyncio.Server | None = None

    def of(self, peer: str) -> Identity | None:
        """Return the user at the other end of a call, by gRPC's name of its peer; None: it came by another way."""
        return self._users.get(peer.removeprefix(_PEER))

    def inner(self) -> PrivateSocket:
        """Return the place of gRPC's own socket."""
        if self._inner is None:
            self._inner = PrivateSocket(self._directory, "users")
        return self._inner

    async def open(self) -> None:
        """Begin to take connections. The path was looked at before (address.py)."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._connected, self._path)
        self._path.chmod(_EVERYBODY)

    async def close(self) -> None:
        """Take no more connections. Those that there are end with gRPC's."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        if self._inner is not None:
            self._inner.close()
            self._inner = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = f"snapshotd-{secrets.token_hex(16)}"
        own = writer.get_extra_info("socket")
        _, uid, gid = _CREDENTIALS.unpack(own.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        inner: asyncio.StreamWriter | None = None
        self._connections[uid] += 1
        try:
            if self._connections[uid] > _MOST_OF_ONE:
                return
            async with asyncio.timeout(_FIRST_S):
                first = await reader.read(_PIECE)
            self._users[name] = _identity(uid, gid)
            further = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            further.setblocking(False)
            further.bind(f"\0{name}")
            await asyncio.get_running_loop().sock_connect(further, str(self.inner().path))
            answers, inner = await asyncio.open_unix_connection(sock=further)
            inner.write(first)
            await _pass_both_ways((reader, inner), (answers, writer))
            writer.close()
            async with asyncio.timeout(_FIRST_S):
                await writer.wait_closed()
        except OSError:
            pass  # one of the two ends has gone, or has said nothing (TimeoutError)
        finally:
            self._users.pop(name, None)
            self._connections[uid] -= 1
            self._connections += Counter()  # without those that are at 0
            for end in (writer, inner):
                if end is not None:
                    end.transport.abort()


async def _pass_both_ways(
    sent: tuple[asyncio.StreamReader, asyncio.StreamWriter], answered: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    """Pass on what comes from either end, until gRPC has ended its side: it is not kept by a caller that stays."""
    sending, answering = (asyncio.create_task(_pass_on(*ends)) for ends in (sent, answered))
    try:
        await asyncio.wait((sending, answering), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()  # raises if the caller has gone
        await answering
    finally:
        sending.cancel()
        answering.cancel()
        await asyncio.gather(sending, answering, return_exceptions=True)


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Pass on what comes, and then its end."""
    while piece := await source.read(_PIECE):
        target.write(piece)
        await target.drain()
    with suppress(OSError):
        target.write_eof()


def _identity(uid: int, gid: int) -> Identity:
    """Return who a user of this machine is."""
    try:
        user = pwd.getpwuid(uid).pw_name
        ids = os.getgrouplist(user, gid)
    except KeyError:
        user, ids = f"uid-{uid}", [gid]
    return Identity(f"{_WAY}:{user}", frozenset(f"{_WAY}:{_group(one)}" for one in ids))


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid-{gid}"
