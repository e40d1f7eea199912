"""A host that refuses a credential is not signed in to again and again: domains lock accounts for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand, HostConnection, NoAnswer
from snapshotd.hyperv.credentials import Credentials
from snapshotd.hyperv.pool import HostPool, HostPools, PoolSettings
from snapshotd.hyperv.winrs import WinRsLimits
from tests.integration.winrm_endpoint import SCRIPT, Endpoint, served

RIGHT, WRONG = "right!1", "wrong!1"
SETTINGS = PoolSettings(sessions_per_host=4, limits=WinRsLimits(connect_s=2, operation_s=2, margin_s=2, close_s=1))


class Host:
    """A host, and an executor's ways to it."""

    def __init__(self, directory: Path, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._users, self._directory = directory / "users", directory
        self._pools = HostPools(Credentials(directory, {}), SCRIPT, SETTINGS)
        self._opened: list[HostPool] = []
        self.accept(RIGHT)

    def accept(self, password: str) -> None:
        """Have the host accept only this password."""
        self._users.write_text(f"WORKGROUP:snap:{password}\n", encoding="utf-8")

    def credential(self, password: str, name: str = "hv") -> None:
        """Write the credential's file."""
        (self._directory / name).touch(0o600)
        (self._directory / name).write_text(f"WORKGROUP\\snap:{password}\n", encoding="utf-8")

    def pool(self, name: str = "hv01", credential: str = "hv") -> HostPool:
        """Open a pool, as for a host on record."""
        port = self.endpoint.port
        way = HostConnection(host=f"hosts/{name}", address="127.0.0.1", port=port, credential=credential)
        self._opened.append(self._pools.open(way))
        return self._opened[-1]

    async def close(self) -> None:
        """Close all pools."""
        for pool in self._opened:
            await pool.close(5)


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("NTLM_USER_FILE", str(tmp_path / "users"))
    with served(Endpoint()) as endpoint:
        yield endpoint


@pytest.fixture
async def host(tmp_path: Path, endpoint: Endpoint) -> AsyncIterator[Host]:
    host = Host(tmp_path, endpoint)
    yield host
    await host.close()


async def run(pool: HostPool, *, asked: bool = False) -> HostAnswer | NoAnswer:
    """Run a report."""
    return await pool.run(HostCommand(protocol=1, kind=HostCommand.REPORT, asked=asked), 10)


async def refused(pool: HostPool, *, asked: bool = False) -> str:
    """Run a report that must end for the credential; return what is told."""
    result = await run(pool, asked=asked)
    assert isinstance(result, NoAnswer), result
    assert NoAnswer.Reason.Name(result.reason) == "AUTHENTICATION_FAILED"
    assert WRONG not in result.detail
    return result.detail


async def test_any_number_of_commands_and_their_repetitions_are_one_refused_sign_in(host: Host) -> None:
    host.credential(WRONG)
    pool = host.pool()
    told = await asyncio.gather(*(refused(pool) for _ in range(10)))
    for _ in range(20):
        told.append(await refused(pool))
    assert host.endpoint.refused == 1
    for text in told:
        assert "the user or the password is wrong" in text
        assert "So that the account is not locked, nothing signs in again before 20" in text
        assert "`snapshotctl host sync hv01`" in text


async def test_a_host_that_is_registered_again_or_twice_is_the_same_to_the_account(host: Host) -> None:
    host.credential(WRONG)
    await refused(host.pool())
    assert "host sync hv02" in await refused(host.pool("hv02"))
    assert host.endpoint.refused == 1


async def test_each_persons_request_is_one_more_attempt_and_says_since_when_it_is_refused(host: Host) -> None:
    host.credential(WRONG)
    pool = host.pool()
    for number in range(1, 4):
        text = await refused(pool, asked=True)
        assert (host.endpoint.refused, ", last 20" in text) == (number, number > 1)
        await refused(pool)
    assert host.endpoint.refused == 3


async def test_requests_of_persons_that_wait_for_a_refusal_take_it(host: Host) -> None:
    host.credential(WRONG)
    pool = host.pool()
    with host.endpoint.changed:  # Nothing is refused before all have asked.
        asking = [asyncio.create_task(refused(pool, asked=True)) for _ in range(10)]
        await asyncio.sleep(0)
    await asyncio.gather(*asking)
    assert host.endpoint.refused == 1


async def test_a_changed_credential_counts_at_once_and_another_wrong_one_is_one_attempt(host: Host) -> None:
    host.credential(WRONG)
    pool = host.pool()
    await refused(pool)
    host.credential(WRONG + "too")
    for _ in range(5):
        await refused(pool)
    assert host.endpoint.refused == 2
    host.credential(RIGHT)
    assert isinstance(await run(pool), HostAnswer)
    assert host.endpoint.refused == 2


async def test_what_a_person_gets_accepted_counts_for_all_that_follows(host: Host) -> None:
    host.credential(RIGHT)
    host.accept("not yet")
    pool = host.pool()
    await refused(pool)
    host.accept(RIGHT)
    await refused(pool)
    assert isinstance(await run(pool, asked=True), HostAnswer)
    host.endpoint.cut_connections()
    assert isinstance(await run(pool), HostAnswer)
    assert host.endpoint.refused == 1


async def test_a_password_that_was_changed_on_the_host_is_found_out_by_one_attempt_however_many_need_it(
    host: Host,
) -> None:
    host.credential(RIGHT)
    pool = host.pool()
    assert all(isinstance(r, HostAnswer) for r in await asyncio.gather(*(run(pool) for _ in range(4))))
    host.accept("changed")
    host.endpoint.cut_connections()
    await asyncio.gather(*(refused(pool) for _ in range(8)))
    assert host.endpoint.refused == 1


async def test_of_two_credentials_of_one_machine_neither_makes_the_others_refusal_forgotten(host: Host) -> None:
    host.credential(WRONG, "bad")
    host.credential(RIGHT, "good")
    bad, good = host.pool("hv01", "bad"), host.pool("hv02", "good")
    for _ in range(3):
        await refused(bad)
        assert isinstance(await run(good), HostAnswer)
        host.endpoint.cut_connections()
    assert host.endpoint.refused == 1


async def test_a_connection_that_is_signed_out_is_left_and_not_signed_in_again(host: Host) -> None:
    host.credential(RIGHT)
    pool = host.pool()
    await run(pool)
    host.endpoint.faults = {"Send": ["signed_out"]}
    result = await run(pool)
    assert isinstance(result, NoAnswer)
    assert NoAnswer.Reason.Name(result.reason) == "CONNECTION_LOST", "the command may have arrived"
    assert host.endpoint.sign_ins == 1
    assert isinstance(await run(pool), HostAnswer)
    assert host.endpoint.sign_ins == 2


async def test_a_host_that_is_not_there_is_told_at_once_to_all_that_waited_for_the_attempt(host: Host) -> None:
    host.credential(RIGHT)
    host.endpoint.faults = {"Create": ["cut_before"] * 4}
    results = await asyncio.gather(*(run(host.pool()) for _ in range(4)))
    reasons = {NoAnswer.Reason.Name(r.reason) for r in results if isinstance(r, NoAnswer)}
    assert reasons == {"HOST_UNREACHABLE"}
