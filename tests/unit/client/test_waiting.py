"""Waiting for an operation: its name first, through an outage of the server, and what is said when it is given up."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import pytest
from google.longrunning.operations_pb2 import ListOperationsResponse, Operation
from google.protobuf.empty_pb2 import Empty
from google.rpc.error_details_pb2 import ErrorInfo

from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.api.v1.virtual_machine_pb2 import ListVirtualMachinesResponse, VirtualMachine
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.progress import Shown, wait_for
from tests.unit.client.fake_service import Ctl, FakeService, Refuse

NAME = "operations/11111111-2222-3333-4444-555555555501.7"


def operation(*, done: bool = False) -> Operation:
    """Return an operation at its first step, or one that has ended."""
    state = OperationMetadata.SUCCEEDED if done else OperationMetadata.RUNNING
    step = OperationMetadata(state=state, current_step="" if done else "merge", current_step_number=2, step_count=2)
    made = Operation(name=NAME, done=done)
    made.metadata.Pack(step)
    return made


@dataclass
class Clock:
    """A clock that pauses move on."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def pause(self, pause_s: float) -> None:
        self.now_s += pause_s


def wait(
    service: FakeService,
    pause: Callable[[float], None],
    clock: Callable[[], float] = time.monotonic,
    away_s: float = 99.0,
) -> tuple[Operation | Failed, list[str]]:
    """Wait; return what came of it, and the lines that were shown."""
    out = io.StringIO()
    with Server(service.address, "ann", 5.0, pause=pause, clock=clock) as server:
        try:
            result: Operation | Failed = wait_for(server, NAME, None, out, away_s)
        except Failed as failed:
            result = failed
    return result, out.getvalue().splitlines()


def test_waiting_goes_on_when_the_server_is_back(service: FakeService) -> None:
    pauses = []

    def begun(_: object) -> Operation:
        service.answers["WaitOperation"] = lambda _: operation(done=True)
        raise Refuse(grpc.StatusCode.UNAVAILABLE)

    def come_back(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 6:
            service.start()
        elif len(pauses) == 1:
            service.stop()

    service.answers["WaitOperation"] = begun
    ended, lines = wait(service, come_back)
    assert isinstance(ended, Operation)
    assert ended.done
    assert lines == [
        f"Waiting for {NAME}",
        f"no answer from {service.address}; retrying for up to 99 s",
        "SUCCEEDED",
    ]


def test_each_outage_has_its_own_time(service: FakeService) -> None:
    clock = Clock()

    def answer(_: object) -> Operation:
        # Away from 0 to 60 s, and from 61 to 120 s.
        if clock.now_s < 60 or 61 <= clock.now_s < 120:
            raise Refuse(grpc.StatusCode.UNAVAILABLE, "Behind.", "VIEW_BEHIND")
        clock.now_s += 1
        return operation(done=clock.now_s > 120)

    service.answers["WaitOperation"] = answer
    ended, lines = wait(service, clock.pause, clock=clock, away_s=99.0)
    assert isinstance(ended, Operation), ended
    assert len(lines) == 5
    clock.now_s = 0
    given_up, _ = wait(service, clock.pause, clock=clock, away_s=50.0)
    assert isinstance(given_up, Failed)
    assert 50 <= clock.now_s < 60


@pytest.mark.parametrize(
    ("refusal", "code", "text"),
    [
        (Refuse(grpc.StatusCode.UNAVAILABLE), ExitCode.UNAVAILABLE, "Cannot reach a server at"),
        (Refuse(grpc.StatusCode.CANCELLED), ExitCode.UNAVAILABLE, "Cannot reach a server at"),
        (Refuse(grpc.StatusCode.UNAVAILABLE, "Behind.", "VIEW_BEHIND"), ExitCode.UNAVAILABLE, "Behind. [VIEW_BEHIND]"),
        (Refuse(grpc.StatusCode.UNAVAILABLE, "Stopped.", "VIEW_STOPPED"), ExitCode.UNAVAILABLE, "[VIEW_STOPPED]"),
    ],
)
def test_giving_up_says_that_the_operation_goes_on(
    service: FakeService, refusal: Refuse, code: ExitCode, text: str
) -> None:
    def refuse(_: object) -> Operation:
        raise refusal

    service.answers["WaitOperation"] = refuse
    failed, _ = wait(service, lambda _: None, away_s=0.0)
    assert isinstance(failed, Failed)
    assert failed.exit_code is code
    assert text in failed.whole
    assert failed.whole.endswith(f"{NAME} goes on. To wait again:\n  snapshotctl operation wait {NAME}")


def test_an_operation_that_nobody_knows_is_not_said_to_go_on(ctl: Ctl, service: FakeService) -> None:
    def refuse(_: object) -> Operation:
        raise Refuse(grpc.StatusCode.NOT_FOUND, "None.", "OPERATION_NOT_FOUND")

    def once(_: object) -> Operation:
        service.answers["WaitOperation"] = refuse
        return operation()

    service.answers["WaitOperation"] = refuse
    unknown = ctl("operation", "wait", NAME)
    assert (unknown.code, "goes on" in unknown.err) == (4, False)
    service.answers["WaitOperation"] = once
    known = ctl("operation", "wait", NAME)
    assert (known.code, "goes on" in known.err) == (4, True)


def test_time_that_is_up_says_how_far_it_is(ctl: Ctl, service: FakeService) -> None:
    service.answers["WaitOperation"] = lambda _: operation()
    said = ctl("operation", "wait", NAME, "--for", "0")
    assert (said.code, said.out) == (7, "")
    assert said.err.splitlines()[:2] == [f"Waiting for {NAME}", "RUNNING step 2/2 merge"]
    assert f"snapshotctl operation wait {NAME}" in said.err


def test_ctrl_c_says_how_to_wait_again(service: FakeService) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    def refuse(_: object) -> Operation:
        raise Refuse(grpc.StatusCode.UNAVAILABLE)

    service.answers["WaitOperation"] = refuse
    failed, _ = wait(service, interrupt)
    assert isinstance(failed, Failed)
    assert (failed.exit_code, "goes on" in str(failed)) == (ExitCode.INTERRUPTED, True)


@pytest.mark.parametrize(
    ("reason", "text", "helped"),
    [
        ("FALLBACK_REFUSED", "Only with memory.", True),
        ("HOST_ERROR", "A production checkpoint cannot be created for 'web01'.", True),
        ("HOST_ERROR", "No room.", False),
    ],
)
def test_an_operation_that_failed_is_an_error_with_its_reason_and_what_helps(
    ctl: Ctl, service: FakeService, reason: str, text: str, *, helped: bool
) -> None:
    failed = operation(done=True)
    failed.error.message = text
    failed.error.details.add().Pack(ErrorInfo(reason=reason, domain="snapshotd"))
    service.answers["WaitOperation"] = lambda _: failed
    said = ctl("operation", "wait", NAME)
    assert (said.code, said.out) == (1, "")
    assert f"snapshotctl: {NAME} did not succeed: {text} [{reason}]\n" in said.err
    assert ("--allow-fallback" in said.err) is helped
    as_json = ctl("operation", "wait", NAME, "-o", "json")
    assert (as_json.code, json.loads(as_json.out)["error"]["message"]) == (1, text)


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        (OperationMetadata.CREATE_SNAPSHOT, "`snapshot create --allow-fallback`"),
        (OperationMetadata.TAKE_VOLUME_SNAPSHOT, "`volume-snapshot take --allow-fallback`"),
    ],
)
def test_what_helps_where_a_guest_cannot_be_frozen_is_of_the_command_that_was_typed(
    ctl: Ctl, service: FakeService, kind: OperationMetadata.Kind.ValueType, command: str
) -> None:
    failed = Operation(name=NAME, done=True)
    failed.metadata.Pack(OperationMetadata(kind=kind))
    failed.error.message = "Only with memory."
    failed.error.details.add().Pack(ErrorInfo(reason="FALLBACK_REFUSED", domain="snapshotd"))
    service.answers["WaitOperation"] = lambda _: failed
    assert command in ctl("operation", "wait", NAME).err


@pytest.mark.parametrize(("done", "text"), [(False, "will end at its next safe point."), (True, "is CANCELLED.")])
def test_cancelling_tells_what_it_has_come_to(ctl: Ctl, service: FakeService, *, done: bool, text: str) -> None:
    made = Operation(name=NAME, done=done)
    made.metadata.Pack(OperationMetadata(state=OperationMetadata.CANCELLED if done else OperationMetadata.RUNNING))
    service.answers |= {"CancelOperation": lambda _: Empty(), "GetOperation": lambda _: made}
    assert ctl("operation", "cancel", NAME).out == f"{NAME} {text}\n"


def test_the_active_operation_of_a_vm_is_shown_by_the_vm(ctl: Ctl, service: FakeService) -> None:
    vm = VirtualMachine(name=NAME.replace("operations", "virtualMachines").partition(".")[0], display_name="web01")
    service.answers |= {
        "ListVirtualMachines": lambda _: ListVirtualMachinesResponse(virtual_machines=[vm]),
        "ListOperations": lambda _: ListOperationsResponse(operations=[Operation(name=NAME)]),
        "GetOperation": lambda request: Operation(name=request.name),
    }
    assert NAME in ctl("operation", "show", "--vm", "web01").out


class Terminal(io.StringIO):
    """Keeps what is shown on a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("width", "bar", "end"), [(120, 20, "(waits for MERGE_IN_PROGRESS: x"), (80, 20, "IN_P…"), (40, 10, "step 2…")]
)
def test_the_bar_stays_where_the_text_is_too_long(
    monkeypatch: pytest.MonkeyPatch, width: int, bar: int, end: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    lines = shown_on_a_terminal()
    (line,) = {line for line in lines if "62%" in line}
    assert len(line) <= width
    assert line.count("━") + line.count("╺") == bar
    assert end in line


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert shown_on_a_terminal() == [LONG]


LONG = "RUNNING step 2/2 merge (waits for MERGE_IN_PROGRESS: " + "x" * 200 + ")"


def shown_on_a_terminal() -> list[str]:
    """Show a long text; return the lines without what steers the terminal."""
    out = Terminal()
    with Shown(out) as shown:
        shown.say(LONG, 62)
    return [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", out.getvalue())) if line]
