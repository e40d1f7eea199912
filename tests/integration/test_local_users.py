"""The socket that tells who is at its other end: the user is the system's, and no caller chooses a name."""

from __future__ import annotations

import asyncio
import getpass
import grp
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from snapshotd.access.identity import Identity
from snapshotd.server import local_users
from snapshotd.server.local_users import LocalUsers
from tests.integration.polling import until

METHOD = "/test.Asking/Ask"


class Asking:
    """Notes who calls."""

    def __init__(self, users: LocalUsers) -> None:
        self.users = users
        self.seen: list[Identity | None] = []

    async def answer(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """Return what was sent."""
        self.seen.append(self.users.of(context.peer()))
        return request


async def ask(address: str, sent: bytes = b"") -> None:
    """Make a call."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(METHOD)
        assert await call(sent) == sent


@pytest_asyncio.fixture
async def asking(tmp_path: Path) -> AsyncIterator[Asking]:
    users = LocalUsers(tmp_path / "sock", tmp_path / "private")
    server, service = grpc.aio.server(), Asking(users)
    handler: Any = grpc.unary_unary_rpc_method_handler(service.answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Asking", {"Ask": handler}),))
    server.add_insecure_port(users.inner().address)
    users.inner().close_to_others()
    await server.start()
    await users.open()
    yield service
    await server.stop(0)
    await users.close()


async def test_a_caller_is_the_user_that_the_system_names_and_its_groups_count(asking: Asking, tmp_path: Path) -> None:
    for _ in range(2):
        await ask(f"unix:{tmp_path}/sock")
    group = grp.getgrgid(os.getgid()).gr_name
    assert [who.subject for who in asking.seen if who] == [f"unix:{getpass.getuser()}"] * 2
    assert all(f"unix:{group}" in who.groups for who in asking.seen if who)


async def test_a_caller_that_comes_by_another_way_is_nobody(asking: Asking, tmp_path: Path) -> None:
    await ask(f"unix:{tmp_path}/sock")
    await ask(asking.users.inner().address)
    assert [who is not None for who in asking.seen] == [True, False]
    assert asking.users.of("unix-abstract:snapshotd-made-up") is None


async def test_what_was_sent_arrives_whole_and_those_who_go_leave_nothing_behind(
    asking: Asking, tmp_path: Path
) -> None:
    assert stat.S_IMODE((tmp_path / "sock").stat().st_mode) == 0o666
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700
    await ask(f"unix:{tmp_path}/sock", b"s" * 300_000)
    mute = socket.socket(socket.AF_UNIX)
    mute.connect(f"{tmp_path}/sock")
    mute.close()
    await until(lambda: not asking.users._users)


async def test_connections_that_say_nothing_are_ended_and_hold_up_nobody(
    asking: Asking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_users, "_FIRST_S", 0.5)
    mute = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    for one in mute:
        one.connect(f"{tmp_path}/sock")
        one.setblocking(False)
    await ask(f"unix:{tmp_path}/sock", b"there")
    assert len(asking.seen) == 1
    for one in mute:
        # Not all of them need have been taken when the call was answered.
        assert await asyncio.get_running_loop().sock_recv(one, 1) == b""
        one.close()
    assert not asking.users._connections


async def test_a_user_has_only_so_many_connections_until_it_ends_some(
    asking: Asking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_users, "_MOST_OF_ONE", 3)
    mute = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for one in mute:
        one.connect(f"{tmp_path}/sock")
    await until(lambda: asking.users._connections.total() == 3)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(f"unix:{tmp_path}/sock")
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    for one in mute:
        one.close()
    await until(lambda: not asking.users._connections)


async def test_what_grpc_ends_is_not_kept_by_a_caller_that_stays(asking: Asking, tmp_path: Path) -> None:
    answers, odd = await asyncio.open_unix_connection(tmp_path / "sock")
    odd.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(10):
        await answers.read()
    await until(lambda: not asking.users._connections)
    odd.close()
