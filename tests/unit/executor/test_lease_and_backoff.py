"""The lease by which an executor fences itself, the back-off of its reconnects, and where it may connect to."""

from __future__ import annotations

import pytest

from snapshotd.executor.backoff import Backoff
from snapshotd.executor.channel import ServerAddressRefused, open_channel
from snapshotd.executor.lease import Lease
from snapshotd.executor.settings import ExecutorSettings


def test_a_lease_ends_a_fifth_before_the_servers() -> None:
    lease = Lease(10, now=100)
    assert lease.holds(107.9)
    assert not lease.holds(108.1)


def test_a_heartbeat_renews_the_lease_from_when_it_was_begun() -> None:
    lease = Lease(10, now=100)
    lease.renew(105)
    assert lease.holds(112.9)
    assert not lease.holds(113.1)


def test_a_lease_that_ran_out_is_not_renewed() -> None:
    with pytest.raises(AssertionError):
        Lease(10, now=100).renew(109)


def test_a_lease_without_a_time_to_live_holds() -> None:
    assert Lease(0, now=0).holds(1e9)


def test_delays_double_up_to_the_longest_and_begin_again_after_success() -> None:
    backoff = Backoff(0.2, 1.0, lambda: 1.0)
    assert [backoff.next_s() for _ in range(5)] == [0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.reset()
    assert backoff.next_s() == 0.2


def test_jitter_takes_up_to_half_of_a_delay() -> None:
    assert Backoff(0.2, 10, lambda: 0.0).next_s() == 0.1


@pytest.mark.parametrize(
    "server", ["10.0.0.1:7443", "example.org:7443", "0.0.0.0:7443", "[::]:1", "dns:///example.org:1"]
)
def test_a_server_off_this_machine_is_refused_without_tls(server: str) -> None:
    with pytest.raises(ServerAddressRefused, match="TLS"):
        open_channel(ExecutorSettings(server=server))


@pytest.mark.parametrize("server", ["127.0.0.1:7443", "[::1]:7443", "localhost:7443", "unix:/run/snapshotd.sock"])
async def test_a_server_on_this_machine_is_fine(server: str) -> None:
    await open_channel(ExecutorSettings(server=server)).channel.close()
