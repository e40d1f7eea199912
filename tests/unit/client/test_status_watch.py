"""The status as it changes: redrawn on a terminal, a line for each change elsewhere, until Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
from collections.abc import Sequence

import grpc
import pytest

from snapshotd.api.v1.admin_pb2 import GetStatusResponse, HostState, OperationCounts, Problem, ProjectionState
from tests.unit.client.fake_service import Ctl, FakeService, Refuse

STOPS = Refuse(grpc.StatusCode.UNAVAILABLE, "It stops.", "STOPPING")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapshotd.client.status_commands._LOOK_S", 0.001)


def answers(service: FakeService, *answered: GetStatusResponse | Refuse) -> None:
    """Let the service answer so, one after another; after the last, a person types Ctrl-C."""
    left = list(answered)

    def answer(_: object) -> GetStatusResponse:
        if not left:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return GetStatusResponse()
        following = left.pop(0)
        if isinstance(following, Refuse):
            raise following
        return following

    service.answers["GetStatus"] = answer


def state(position: int, away: Sequence[str] = (), running: int = 0) -> GetStatusResponse:
    """Return a state with two hosts."""
    hosts = [HostState(host=f"hosts/{name}", reachable=name not in away) for name in ("hv01", "hv02")]
    for host in hosts:
        if not host.reachable:
            host.wait.reason = "HOST_UNREACHABLE"
    return GetStatusResponse(log_head_position=position, hosts=hosts, operations=OperationCounts(running=running))


def test_into_a_pipe_there_is_a_line_for_each_change_and_none_for_what_only_grows(
    ctl: Ctl, service: FakeService
) -> None:
    busy = state(9, running=1)
    busy.hosts[0].orders_waiting = 3
    stopped = state(12, running=1)
    stopped.projections.append(ProjectionState(name="tree", state=ProjectionState.STOPPED))
    stopped.problems.append(Problem(subject="event log", reason="DISK_FULL"))
    answers(service, state(5), state(7), busy, state(9, ["hv02"], running=1), stopped)
    said = ctl("status", "--watch")
    assert (said.code, said.err) == (0, "")
    lines = [re.split("  ", line, maxsplit=1)[1] for line in said.out.splitlines()]
    assert lines == [
        "5 events, operations: 0 pending, 0 running, 0 of them waiting; 0 executors; all hosts reached",
        (
            "9 events (+2), operations: 0 pending, 1 running, 0 of them waiting; 3 orders queued; 0 executors; "
            "all hosts reached"
        ),
        (
            "9 events, operations: 0 pending, 1 running, 0 of them waiting; 0 executors; "
            "not reached: hv02 (HOST_UNREACHABLE)"
        ),
        (
            "12 events (+3), operations: 0 pending, 1 running, 0 of them waiting; 0 executors; all hosts reached; "
            "views held up: tree (STOPPED); problems: event log (DISK_FULL)"
        ),
    ]


def test_an_executor_is_shown_by_the_name_that_it_signed_in_by_first(ctl: Ctl, service: FakeService) -> None:
    told = state(5)
    for number, signed_in_as in enumerate(("executor:ex1", "token:ex1", "executor:twice", "executor:twice", "")):
        told.executors.add(executor_id=f"ex-{number}", signed_in_as=signed_in_as, serves=["*"])
    del told.hosts[:]
    for number in range(6):
        told.hosts.add(host=f"hosts/hv{number}", executor=f"ex-{number}")
    service.answers["GetStatus"] = lambda _: told
    executors, hosts = (part.splitlines()[2:] for part in ctl("status").out.split("\n\n")[-2:])
    shown = ["ex1 (ex-0)", "token:ex1 (ex-1)", "twice (ex-2)", "twice (ex-3)", "ex-4"]
    assert [line.split("  ")[0] for line in executors] == shown
    serving = ["ex1", "token:ex1", "ex-2", "ex-3", "ex-4", "ex-5"]
    assert [line.split("  ")[-1].strip() for line in hosts] == serving, "the last one has detached meanwhile"


def test_on_a_terminal_it_is_redrawn_each_time(ctl: Ctl, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = state(7)
    busy.hosts[0].orders_under_way, busy.hosts[0].orders_waiting = 4, 2
    answers(service, state(5), busy)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    said = ctl("status", "--watch")
    screens = said.out.split("\x1b[H\x1b[2J")[1:]
    assert [re.findall(r"Events: +(\d+)", screen) for screen in screens] == [["5"], ["7"]]
    assert re.search(r"hv01 +yes +4, 2 wait", screens[1])
    assert (said.code, screens[1].endswith("Ctrl-C ends this.\n")) == (0, True)


def test_a_server_that_goes_and_comes_back_is_told_once_each(ctl: Ctl, service: FakeService) -> None:
    answers(service, state(5), STOPS, STOPS, state(5, running=1))
    said = ctl("status", "--watch", "-o", "json")
    assert [json.loads(line)["operations"]["running"] for line in said.out.splitlines()] == [0, 1]
    assert (said.code, said.err.count("Lost the server"), said.err.count("is back.")) == (0, 1, 1)


def test_a_first_call_that_is_refused_ends_it(ctl: Ctl, service: FakeService) -> None:
    answers(service, Refuse(grpc.StatusCode.PERMISSION_DENIED, "Not you.", "ACTOR_NOT_ALLOWED"))
    assert ctl("status", "--watch").code == 3
    assert ctl("status", "--watch", "-o", "csv").code == 2
