"""The executor against a real grpc.aio server: it is fed, answers, reconnects, and stops in good order."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import pytest

from snapshotd.api.v1.executor_pb2 import AttachResponse, CheckpointCreated, HostAnswer, HostConnection, NoAnswer
from snapshotd.domain.state import replace
from snapshotd.executor.attach import AttachRefused
from snapshotd.executor.channel import ServerAddressRefused
from snapshotd.executor.clock import Clock
from snapshotd.executor.service import EndedByItself, Executor, run_executor
from snapshotd.executor.settings import ExecutorSettings
from snapshotd.service_manager import ServiceManager
from tests.integration.executor_feed import Feed, Host, Stream
from tests.integration.polling import until


@dataclass
class World:
    """An executor that runs, its server, and the hosts that it opened."""

    feed: Feed
    hosts: list[Host] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    running: asyncio.Task[None] | None = None
    skipped_s: float = 0.0

    def open_pool(self, connection: HostConnection) -> Host:
        self.hosts.append(Host(connection))
        return self.hosts[-1]

    def settings(self, **changes: object) -> ExecutorSettings:
        settings = ExecutorSettings(
            server=f"127.0.0.1:{self.feed.port}", version="1.2.3", reconnect_first_s=0.02, reconnect_longest_s=0.1
        )
        return replace(settings, **changes)  # type: ignore[arg-type]

    async def start(self, **changes: object) -> Stream:
        """Start the executor; wait until it is attached, and tell it of one host."""
        loop = asyncio.get_running_loop()
        clock = Clock(monotonic=lambda: loop.time() + self.skipped_s)
        executor = Executor(self.settings(**changes), self.open_pool, clock=clock)
        self.running = asyncio.create_task(executor.run(self.stop))
        stream = await self.feed.attached()
        stream.host()
        return stream

    async def host(self, number: int = 0) -> Host:
        """Wait until the executor has opened so many hosts."""
        await until(lambda: len(self.hosts) > number)
        return self.hosts[number]

    async def stopped(self) -> None:
        """Stop, and wait for the end."""
        self.stop.set()
        assert self.running is not None
        await asyncio.wait_for(self.running, 10)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    feed = Feed()
    await feed.start()
    world = World(feed)
    yield world
    world.stop.set()
    if world.running is not None:
        world.running.cancel()
        await asyncio.wait([world.running], timeout=10)
    await feed.stop()


async def test_it_says_who_it_is_and_answers_what_it_is_given(world: World) -> None:
    stream = await world.start(hosts=("hv01", "hv02"))
    assert (list(stream.hello.hosts), stream.hello.version) == (["hv01", "hv02"], "1.2.3")
    stream.dispatch("vm1")
    outcome = await stream.outcome()
    assert outcome.dispatch_id == "vm1"
    assert outcome.answer.vms[0].vm_id == "vm1"


async def test_each_incarnation_has_an_id_of_its_own_and_keeps_it_over_reconnects(world: World) -> None:
    first = await world.start()
    first.end()
    again = await world.feed.attached()
    await world.stopped()
    world.stop.clear()
    other = await world.start()
    assert first.hello.executor_id == again.hello.executor_id
    assert other.hello.executor_id != first.hello.executor_id


def attached_task() -> asyncio.Task[None]:
    """Return the task of the executor that stays attached."""
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "attached"]
    return task


async def test_an_attachment_that_has_ended_leaves_no_mark_of_a_cancellation_on_the_next_one(world: World) -> None:
    """With one, a server that hangs would end the executor on Python 3.11.2, by a timeout that is confused."""
    (await world.start()).end()
    await world.feed.attached()
    assert attached_task().cancelling() == 0


async def test_a_server_that_hangs_after_an_attachment_is_waited_for(world: World) -> None:
    stream = await world.start(welcome_s=0.1)
    welcome, world.feed.welcome = world.feed.welcome, None
    stream.end()
    for _ in range(3):
        await world.feed.attached()
    assert world.running is not None
    assert not world.running.done()
    world.feed.welcome = welcome
    stream = await world.feed.attached()
    stream.host()
    stream.dispatch("vm1")
    assert (await stream.outcome()).dispatch_id == "vm1"


async def test_an_executor_that_attaches_no_more_for_a_defect_says_so(world: World) -> None:
    await world.start()
    attached_task().cancel()
    assert world.running is not None
    with pytest.raises(EndedByItself):
        await asyncio.wait_for(asyncio.shield(world.running), 20)


async def test_a_command_gets_its_time_and_the_hosts_journal_directory(world: World) -> None:
    stream = await world.start()
    stream.host(journal_directory=r"C:\ClusterStorage\j")
    stream.dispatch("vm1", in_s=30)
    host = await world.host(1)
    command, timeout_s = await asyncio.wait_for(host.begun.get(), 10)
    assert command.journal_directory == r"C:\ClusterStorage\j"
    assert 25 < timeout_s <= 30


async def test_a_slow_host_does_not_hold_up_another(world: World) -> None:
    stream = await world.start()
    stream.host("hosts/hv02")
    (await world.host()).hold("slow")
    stream.dispatch("slow")
    stream.dispatch("quick", "hosts/hv02")
    assert (await stream.outcome()).dispatch_id == "quick"


async def test_heartbeats_come_at_the_servers_interval_also_while_a_command_runs(world: World) -> None:
    stream = await world.start()
    release = (await world.host()).hold("slow")
    stream.dispatch("slow")
    await until(lambda: stream.received.qsize() >= 3)
    release.set()
    await stream.outcome()
    assert stream.heartbeats >= 3


async def test_what_came_of_a_command_while_the_server_was_away_is_delivered_after_it_is_back(world: World) -> None:
    stream = await world.start()
    host = await world.host()
    release = host.hold("vm1")
    stream.dispatch("vm1")
    await host.next()
    await world.feed.stop()
    release.set()
    await asyncio.sleep(0)
    await world.feed.start()
    again = await world.feed.attached()
    assert (await again.outcome()).dispatch_id == "vm1"
    assert len(world.hosts) == 1, "the host's sessions are kept over a reconnect"


async def test_an_outcome_written_just_before_the_stream_broke_comes_again(world: World) -> None:
    stream = await world.start()
    stream.dispatch("vm1")
    await stream.outcome()
    stream.end()
    again = await world.feed.attached()
    assert (await again.outcome()).dispatch_id == "vm1"


async def test_an_abandoned_dispatch_is_not_told_of_and_others_are(world: World) -> None:
    stream = await world.start()
    host = await world.host()
    release = host.hold("vm1")
    stream.dispatch("vm1")
    await host.next()
    stream.abandon("vm1")
    stream.abandon("never heard of")
    stream.dispatch("vm2")
    assert (await stream.outcome()).dispatch_id == "vm2"
    release.set()
    stream.dispatch("vm3")
    assert (await stream.outcome()).dispatch_id == "vm3"


async def test_a_dispatch_that_comes_twice_runs_once(world: World) -> None:
    stream = await world.start()
    host = await world.host()
    release = host.hold("vm1")
    stream.dispatch("vm1")
    stream.dispatch("vm1")
    stream.dispatch("vm2")
    assert (await stream.outcome()).dispatch_id == "vm2"
    release.set()
    assert (await stream.outcome()).dispatch_id == "vm1"
    assert host.begun.qsize() == 2


async def test_a_released_host_gets_no_more_commands_and_its_sessions_are_closed(world: World) -> None:
    stream = await world.start()
    host = await world.host()
    stream.send(AttachResponse(released_host="hosts/hv01"))
    stream.dispatch("vm1")
    outcome = await stream.outcome()
    assert outcome.no_answer.reason == NoAnswer.HOST_UNREACHABLE
    assert host.begun.empty()
    assert len(host.closed) == 1


async def test_the_same_way_to_a_host_keeps_its_sessions_and_another_way_replaces_them(world: World) -> None:
    stream = await world.start()
    stream.host()
    stream.dispatch("vm1")
    await stream.outcome()
    assert len(world.hosts) == 1
    stream.host(address="127.0.0.2")
    stream.dispatch("vm2")
    await stream.outcome()
    assert [host.begun.qsize() for host in world.hosts] == [1, 1]
    assert world.hosts[0].closed


async def test_a_dispatch_after_its_deadline_is_not_started(world: World) -> None:
    stream = await world.start()
    stream.dispatch("vm1", in_s=-1)
    assert (await stream.outcome()).no_answer.reason == NoAnswer.DEADLINE_EXCEEDED
    assert (await world.host()).begun.empty()


async def test_a_command_says_how_much_time_is_left(world: World) -> None:
    stream = await world.start()
    stream.dispatch("vm1", in_s=60)
    command, timeout_s = await asyncio.wait_for((await world.host()).begun.get(), 10)
    assert command.time_left_ms == int(timeout_s * 1000)
    assert 0 < command.time_left_ms <= 60_000


async def test_a_dispatch_without_a_deadline_gets_the_longest(world: World) -> None:
    stream = await world.start(unlimited_s=77)
    stream.dispatch("vm1", in_s=None)
    host = await world.host()
    assert (await asyncio.wait_for(host.begun.get(), 10))[1] == 77


async def test_no_answer_is_passed_on_as_it_is(world: World) -> None:
    stream = await world.start()
    (await world.host()).result = NoAnswer(reason=NoAnswer.AUTHENTICATION_FAILED, detail="no")
    stream.dispatch("vm1")
    assert (await stream.outcome()).no_answer == NoAnswer(reason=NoAnswer.AUTHENTICATION_FAILED, detail="no")


async def test_a_defect_in_one_command_is_an_unknown_outcome_and_the_next_one_runs(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await world.start()
    stream.dispatch("defect")
    outcome = await stream.outcome()
    assert (outcome.dispatch_id, outcome.no_answer.reason) == ("defect", NoAnswer.CONNECTION_LOST)
    assert "a defect" in caplog.text
    stream.dispatch("vm1")
    assert (await stream.outcome()).dispatch_id == "vm1"


async def test_an_answer_that_the_server_would_not_take_does_not_break_the_stream_for_ever(world: World) -> None:
    stream = await world.start(largest_outcome_bytes=100)
    made = CheckpointCreated(checkpoint_id="x" * 200)
    (await world.host()).result = HostAnswer(protocol=1, verdict=HostAnswer.DONE, checkpoint_create=made)
    stream.dispatch("vm1")
    assert (await stream.outcome()).no_answer.reason == NoAnswer.MALFORMED_ANSWER


async def test_after_a_pause_longer_than_its_lease_it_starts_nothing_and_attaches_anew(world: World) -> None:
    stream = await world.start()
    host = await world.host()
    world.skipped_s = 9.0
    stream.dispatch("vm1")
    again = await world.feed.attached()
    assert host.begun.empty()
    outcome = await again.outcome()
    assert (outcome.dispatch_id, outcome.no_answer.reason) == ("vm1", NoAnswer.CONNECTION_LOST)
    again.dispatch("vm2")
    assert (await again.outcome()).dispatch_id == "vm2"


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20])
async def test_an_executor_that_is_cancelled_ends_at_whatever_moment(world: World, turns: int) -> None:
    stream = await world.start()
    assert world.running is not None
    stream.end()
    for _ in range(turns):
        await asyncio.sleep(0)
    world.running.cancel()
    _, late = await asyncio.wait([world.running], timeout=5)
    assert not late
    assert world.running.cancelled()


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED]
)
async def test_an_executor_that_is_refused_for_good_ends_with_what_the_server_said(
    world: World, code: grpc.StatusCode
) -> None:
    world.feed.refuses = code
    world.running = asyncio.create_task(Executor(world.settings(), world.open_pool).run(world.stop))
    with pytest.raises(AttachRefused, match=f"refused this executor: {code.name}: for a reason."):
        await asyncio.wait_for(world.running, 10)


async def test_an_executor_that_is_refused_for_now_tries_again_and_says_that_it_was_not_attached(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.feed.refuses = grpc.StatusCode.UNAVAILABLE
    world.running = asyncio.create_task(Executor(world.settings(), world.open_pool).run(world.stop))
    await world.feed.attached()
    await world.feed.attached()
    assert f"not attached to 127.0.0.1:{world.feed.port} (UNAVAILABLE: for a reason.); again in" in caplog.text
    assert "detached" not in caplog.text
    world.feed.refuses = None
    detached = f"detached from 127.0.0.1:{world.feed.port} (the server ended the stream)"
    while detached not in caplog.text:
        (await world.feed.attached()).end()


async def test_while_the_server_is_away_the_first_attempt_is_logged_and_then_one_a_minute_with_their_number(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def told(what: str) -> list[str]:
        return [r.getMessage() for r in caplog.records if r.getMessage().startswith(what)]

    world.feed.refuses = grpc.StatusCode.UNAVAILABLE
    clock = Clock(monotonic=lambda: world.skipped_s)
    world.running = asyncio.create_task(Executor(world.settings(), world.open_pool, clock=clock).run(world.stop))
    for _ in range(5):
        await world.feed.attached()
    (first,) = told("not attached to")
    assert "(UNAVAILABLE: for a reason.); again in" in first
    world.skipped_s += 60
    for _ in range(3):
        await world.feed.attached()
    _, second = told("not attached to")
    assert re.search(r"\(UNAVAILABLE: for a reason\.\), [4-7] attempts so far; again in", second), second
    world.feed.refuses = None
    while not told("detached from"):
        (await world.feed.attached()).end()
    world.feed.refuses = grpc.StatusCode.UNAVAILABLE
    while not told("not attached to")[2:]:
        (await world.feed.attached()).end()
    assert "attempts" not in told("not attached to")[2], "it is the first one after the executor was attached"


@pytest.mark.parametrize("first", [None, AttachResponse(released_host="hosts/hv01")])
async def test_without_a_welcome_it_goes_away_and_comes_back(world: World, first: AttachResponse | None) -> None:
    welcome, world.feed.welcome = world.feed.welcome, first
    world.running = asyncio.create_task(Executor(world.settings(welcome_s=0.1), world.open_pool).run(world.stop))
    await world.feed.attached()
    world.feed.welcome = welcome
    async with asyncio.timeout(10):
        while True:
            stream = await world.feed.attached()
            stream.host()
            stream.dispatch("vm1")
            if (await stream.received.get()) is not None:
                return


async def test_a_message_that_it_does_not_know_is_ignored(world: World) -> None:
    stream = await world.start()
    stream.send(AttachResponse())
    stream.dispatch("vm1")
    assert (await stream.outcome()).dispatch_id == "vm1"


async def test_on_stop_it_finishes_what_runs_refuses_what_comes_and_ends_the_stream(world: World) -> None:
    stream = await world.start()
    host = await world.host()
    release = host.hold("vm1")
    stream.dispatch("vm1")
    await host.next()
    world.stop.set()
    # The stop takes effect before anything that is sent after the next round trip.
    await stream.next("heartbeat")
    stream.dispatch("late")
    late = await stream.outcome()
    assert (late.dispatch_id, late.no_answer.reason) == ("late", NoAnswer.CONNECTION_LOST)
    await stream.next("heartbeat")
    release.set()
    assert (await stream.outcome()).dispatch_id == "vm1"
    await stream.half_closed()
    await world.stopped()
    assert host.closed == [0]


async def test_on_stop_all_that_is_left_is_delivered_before_the_stream_is_closed(world: World) -> None:
    stream = await world.start()
    host = await world.host()
    vms = [f"vm{n}" for n in range(5)]
    releases = [host.hold(vm) for vm in vms]
    for vm in vms:
        stream.dispatch(vm)
        await host.next()
    world.stop.set()
    for release in releases:
        release.set()
    assert sorted([(await stream.outcome()).dispatch_id for _ in vms]) == vms
    await stream.half_closed()


async def test_on_stop_a_command_that_comes_after_the_last_outcome_does_not_make_it_attach_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.feed.late = ["late"]
    stream = await world.start()
    await world.host()
    world.stop.set()
    await stream.half_closed()
    await world.stopped()
    assert world.feed.streams.empty()
    assert "not delivered" not in caplog.text


async def test_on_stop_a_command_that_does_not_end_is_cut_off(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stream = await world.start(drain_s=0.05, flush_s=0.05)
    host = await world.host()
    host.hold("vm1")
    stream.dispatch("vm1")
    await host.next()
    await world.stopped()
    assert host.closed == [0]
    assert "1 outcomes not delivered" in caplog.text


async def test_on_stop_without_a_server_it_ends_and_says_what_was_not_delivered(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await world.start(flush_s=0.05)
    host = await world.host()
    release = host.hold("vm1")
    stream.dispatch("vm1")
    await host.next()
    await world.feed.stop()
    release.set()
    await world.stopped()
    assert "1 outcomes not delivered" in caplog.text
    await world.feed.start()


async def test_a_server_off_this_machine_is_an_error_at_once(world: World) -> None:
    with pytest.raises(ServerAddressRefused):
        await Executor(world.settings(server="192.0.2.1:7443"), world.open_pool).run(world.stop)


async def test_sigterm_stops_the_process_in_good_order(world: World) -> None:
    world.running = asyncio.create_task(run_executor(world.settings(), world.open_pool, ServiceManager({})))
    stream = await world.feed.attached()
    os.kill(os.getpid(), signal.SIGTERM)
    await stream.half_closed()
    await asyncio.wait_for(world.running, 10)
