"""Shells, commands and their streams, as pywinrm's Protocol sees them."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import winrm
from winrm.exceptions import WinRMOperationTimeoutError, WSManFaultError

from snapshotd.simulator.network import Network
from snapshotd.simulator.shells import Quotas, Shells
from tests.unit.simulator_wire.conftest import PASSWORD, USER, Wire, read_line
from tests.unit.simulator_wire.echo_engine import EchoEngine, EchoProcess


def test_an_ordinary_session_runs_a_command_and_leaves_nothing(wire: Wire) -> None:
    session = winrm.Session(wire.endpoint.address, (USER, PASSWORD), transport="ntlm", proxy=None, ca_trust_path=None)
    session.protocol.transport.endpoint = f"http://{wire.endpoint.address}/wsman"
    answer = session.run_cmd("echo", ["a", "<b>", "&", "'c'"])
    assert (answer.status_code, answer.std_out, answer.std_err) == (0, b"a <b> & 'c'\r\n", b"")
    assert wire.engine.command_lines == ["echo a <b> & 'c'"]
    assert wire.shells.open_shells == 0


def test_a_kept_process_is_fed_by_stdin_and_answers_each_line(wire: Wire) -> None:
    protocol, shell, command = wire.serve()
    for line in (b"one\r\n", b"two\r\n", b"x" * 40_000 + b"\r\n"):
        protocol.send_command_input(shell, command, line)
        assert read_line(protocol, shell, command) == line
    protocol.send_command_input(shell, command, b"", end=True)
    assert protocol.get_command_output_raw(shell, command) == (b"", b"", 0, True)


def test_a_line_sent_in_pieces_is_one_line(wire: Wire) -> None:
    protocol, shell, command = wire.serve()
    for piece in (b"to", b"geth", b"er\r\n"):
        protocol.send_command_input(shell, command, piece)
    assert read_line(protocol, shell, command) == b"together\r\n"


def test_stderr_and_the_exit_code_come_back(wire: Wire) -> None:
    protocol, shell, command = wire.serve()
    protocol.send_command_input(shell, command, b"warn careful\r\nexit 3\r\n")
    assert protocol.get_command_output(shell, command) == (b"", b"careful\r\n", 3)


def test_output_over_the_envelope_size_comes_in_several_replies(wire: Wire) -> None:
    protocol = wire.client()
    shell = protocol.open_shell()
    command = protocol.run_command(shell, "big", ["400000"])
    before = wire.endpoint.requests
    assert protocol.get_command_output(shell, command) == (b"x" * 400_000, b"", 0)
    assert wire.endpoint.requests - before == 4


class ProcessThatIsNotWaitedFor(EchoProcess):
    """It goes on after its output, and must not be waited for while some of that is to be handed out."""

    def read(self, timeout_s: float) -> tuple[bytes, bytes, int | None]:
        assert self.stdout or timeout_s == 0.0, "waits, and there is output"
        return super().read(timeout_s)


class EngineThatGoesOn(EchoEngine):
    """Writes once, and its process goes on."""

    def start(self, command_line: str) -> EchoProcess:
        return ProcessThatIsNotWaitedFor(self, stdout=b"x" * int(command_line))


def test_output_that_is_there_is_handed_out_without_waiting_for_more() -> None:
    shells = Shells(EngineThatGoesOn(), Network(), Quotas())
    shell = shells.create(None)
    command = shells.start(shell, "250")
    replies = [shells.receive(shell, command, 5.0, 100, lambda: True) for _ in range(3)]
    assert [(len(reply.stdout), reply.exit_code) for reply in replies] == [(100, None), (100, None), (50, None)]


@pytest.mark.slow
def test_a_receive_without_output_times_out_and_the_next_one_gets_it(wire: Wire) -> None:
    protocol, shell, command = wire.serve(operation_s=1)
    protocol.send_command_input(shell, command, b"quiet\r\n")
    begun = time.monotonic()
    with pytest.raises(WinRMOperationTimeoutError):
        protocol.get_command_output_raw(shell, command)
    assert time.monotonic() - begun > 0.9
    protocol.send_command_input(shell, command, b"late\r\n")
    assert read_line(protocol, shell, command) == b"late\r\n"


def test_a_waiting_receive_returns_as_soon_as_there_is_output(wire: Wire) -> None:
    protocol, shell, command = wire.serve(operation_s=20)
    writer = wire.client()
    received = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(protocol.get_command_output_raw, shell, command)
        answer.add_done_callback(lambda _: received.set())
        writer.send_command_input(shell, command, b"now\r\n")
        assert received.wait(5)
        assert answer.result() == (b"now\r\n", b"", -1, False)


def test_signal_ends_the_process_and_forgets_the_command(wire: Wire) -> None:
    protocol, shell, command = wire.serve()
    protocol.cleanup_command(shell, command)
    assert wire.engine.processes[0].killed
    with pytest.raises(WSManFaultError) as caught:
        protocol.get_command_output_raw(shell, command)
    assert caught.value.wsman_fault_code == 2150858843
    assert wire.shells.open_shells == 1


def test_delete_ends_what_runs_in_the_shell(wire: Wire) -> None:
    protocol, shell, _ = wire.serve()
    protocol.close_shell(shell, close_session=False)
    assert wire.engine.processes[0].killed
    assert wire.shells.open_shells == 0
    with pytest.raises(WSManFaultError) as caught:
        protocol.close_shell(shell)
    assert caught.value.wsman_fault_code == 2150858843


def test_a_receive_that_waits_while_its_shell_is_deleted_is_aborted(wire: Wire) -> None:
    protocol, shell, command = wire.serve(operation_s=20)
    other = wire.client()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(protocol.get_command_output_raw, shell, command)
        other.close_shell(shell)
        with pytest.raises(WSManFaultError) as caught:
            answer.result(10)
    # Deleted before the Receive came: there is no such shell; while it waited: aborted.
    assert caught.value.wsman_fault_code in {995, 2150858843}


@pytest.mark.parametrize("call", ["run", "send", "receive", "signal"])
def test_a_shell_that_is_not_there_is_a_fault_of_the_sender(wire: Wire, call: str) -> None:
    protocol = wire.client()
    shell = "11111111-2222-3333-4444-555555555555"
    calls: dict[str, Callable[[], object]] = {
        "run": lambda: protocol.run_command(shell, "echo"),
        "send": lambda: protocol.send_command_input(shell, "C", b"x"),
        "receive": lambda: protocol.get_command_output_raw(shell, "C"),
        "signal": lambda: protocol.cleanup_command(shell, "C"),
    }
    with pytest.raises(WSManFaultError) as caught:
        calls[call]()
    fault = caught.value
    assert (fault.code, fault.wsman_fault_code) == (500, 2150858843)
    assert (fault.fault_code, fault.fault_subcode) == ("s:Sender", "w:InvalidSelectors")
    assert shell in fault.reason


def test_a_command_that_is_not_there_is_a_fault(wire: Wire) -> None:
    protocol, shell, _ = wire.serve()
    with pytest.raises(WSManFaultError, match="command C<1>") as caught:
        protocol.send_command_input(shell, "C<1>", b"x")
    assert caught.value.wsman_fault_code == 2150858843


def test_an_action_or_a_resource_that_is_not_there_is_a_fault(wire: Wire) -> None:
    protocol = wire.client()
    for code, action, resource in (
        (2150858753, "http://schemas.xmlsoap.org/ws/2004/09/transfer/Get", "windows/shell/cmd"),
        (2150858752, "http://schemas.xmlsoap.org/ws/2004/09/transfer/Create", "windows/shell/Microsoft.PowerShell"),
    ):
        message = (
            '<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope" '
            'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
            'xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"><e:Header>'
            f"<a:MessageID>uuid:1</a:MessageID><a:Action>{action}</a:Action>"
            f"<w:ResourceURI>http://schemas.microsoft.com/wbem/wsman/1/{resource}</w:ResourceURI>"
            "</e:Header><e:Body/></e:Envelope>"
        )
        with pytest.raises(WSManFaultError) as caught:
            protocol.send_message(message)
        assert caught.value.wsman_fault_code == code


def test_a_command_line_that_cmd_cannot_take_ends_at_once(wire: Wire) -> None:
    protocol = wire.client()
    shell = protocol.open_shell()
    command = protocol.run_command(shell, "echo", ["x" * 8200])
    stdout, stderr, code = protocol.get_command_output(shell, command)
    assert (stdout, code) == (b"", 1)
    assert b"too long" in stderr
    assert wire.engine.command_lines == []


def test_the_shells_of_a_user_are_limited(wire_with: Callable[[Quotas], Wire]) -> None:
    wire = wire_with(Quotas(shells_per_user=2))
    protocol = wire.client()
    first, _ = protocol.open_shell(), protocol.open_shell()
    with pytest.raises(WSManFaultError, match="maximum number of 2 concurrent shells") as caught:
        protocol.open_shell()
    assert caught.value.wsman_fault_code == 2150859173
    protocol.close_shell(first, close_session=False)
    protocol.open_shell()


def test_the_processes_of_a_shell_are_limited(wire_with: Callable[[Quotas], Wire]) -> None:
    wire = wire_with(Quotas(processes_per_shell=1))
    protocol, shell, _ = wire.serve()
    with pytest.raises(WSManFaultError) as caught:
        protocol.run_command(shell, "serve")
    assert caught.value.fault_subcode == "w:QuotaLimit"


def test_the_operations_of_a_user_are_limited_and_the_end_of_a_command_frees_none(
    wire_with: Callable[[Quotas], Wire],
) -> None:
    wire = wire_with(Quotas(operations_per_user=4))
    protocol = wire.client()
    kept, used = protocol.open_shell(), protocol.open_shell()
    for _ in range(2):
        command = protocol.run_command(used, "echo", ["x"])
        protocol.get_command_output(used, command)
        protocol.cleanup_command(used, command)
    for refused in (lambda: protocol.run_command(used, "echo"), lambda: protocol.run_command(kept, "echo")):
        with pytest.raises(WSManFaultError, match="maximum number of 4 concurrent operations") as caught:
            refused()  # type: ignore[no-untyped-call]  # it has no types
        assert (caught.value.wsman_fault_code, caught.value.fault_subcode) == (2150859174, "w:QuotaLimit")
    with pytest.raises(WSManFaultError, match="4 concurrent operations"):
        protocol.open_shell()
    assert len(wire.engine.command_lines) == 2
    protocol.close_shell(used, close_session=False)
    protocol.run_command(kept, "echo")


@pytest.mark.slow
def test_a_shell_that_nobody_uses_is_ended_with_its_process(wire: Wire) -> None:
    protocol = wire.client(operation_s=3)
    kept = protocol.open_shell(idle_timeout="PT1S")
    used = protocol.open_shell(idle_timeout="PT1.5S")
    protocol.run_command(kept, "serve")
    command = protocol.run_command(used, "serve")
    with pytest.raises(WinRMOperationTimeoutError):
        # Waits for longer than the shell may idle; a pending Receive is use.
        protocol.get_command_output_raw(used, command)
    assert [process.killed for process in wire.engine.processes] == [True, False]
    assert wire.shells.open_shells == 1


@pytest.mark.slow
def test_many_threads_with_a_client_each_get_their_own_answers(wire: Wire) -> None:
    def talk(number: int) -> list[bytes]:
        protocol, shell, command = wire.serve()
        lines = []
        for turn in range(5):
            protocol.send_command_input(shell, command, b"%d/%d\r\n" % (number, turn))
            lines.append(read_line(protocol, shell, command))
        protocol.close_shell(shell)
        return lines

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(talk, range(12)))
    assert answers == [[b"%d/%d\r\n" % (number, turn) for turn in range(5)] for number in range(12)]
    assert wire.shells.open_shells == 0


class EngineThatCannotStart(EchoEngine):
    """Its program is not one that this machine can run."""

    def start(self, command_line: str) -> EchoProcess:
        raise OSError(8, "Exec format error", command_line)


def test_a_process_that_cannot_be_started_is_a_fault_with_the_reason_and_not_a_cut_connection(
    wire_with: Callable[..., Wire], caplog: pytest.LogCaptureFixture
) -> None:
    wire = wire_with(Quotas(), EngineThatCannotStart())
    protocol = wire.client()
    shell = protocol.open_shell()
    with pytest.raises(WSManFaultError) as caught:
        protocol.run_command(shell, "serve")
    assert "Exec format error: 'serve'" in caught.value.reason
    assert (caught.value.code, caught.value.fault_code) == (500, "s:Receiver")
    assert "Exec format error" in caplog.text


def test_a_send_that_is_not_base64_is_refused(wire: Wire) -> None:
    protocol, shell, command = wire.serve()
    sent: list[str] = []
    original = protocol.send_message

    def spoil(message: str) -> bytes:
        sent.append(re.sub(base64.b64encode(b"hello").decode(), "aGVsbG8*", message))
        return original(sent[-1])

    protocol.send_message = spoil  # type: ignore[method-assign]
    with pytest.raises(WSManFaultError, match="not base64"):
        protocol.send_command_input(shell, command, b"hello")
