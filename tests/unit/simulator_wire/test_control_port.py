"""The control port: which actions there are, and what makes no sense."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests
from winrm.exceptions import InvalidCredentialsError, WinRMTransportError, WSManFaultError

from snapshotd.simulator.listener import PortInUse
from snapshotd.simulator.running import MODEL_ACTIONS, RunningHost
from tests.unit.simulator_wire.conftest import CUT, PASSWORD, USER, Wire
from tests.unit.simulator_wire.echo_engine import EchoEngine
from tests.unit.simulator_wire.recorded_host import RecordedHost


@dataclass
class Controlled:
    """A running host over it, and its control port."""

    running: RunningHost
    host: RecordedHost
    engine: EchoEngine

    def post(self, action: str, **arguments: object) -> tuple[int, dict[str, object]]:
        answer = requests.post(f"http://{self.running.control}/{action}", json=arguments, timeout=5)
        return answer.status_code, answer.json()

    def wire(self) -> Wire:
        return Wire(self.engine, self.running._network, self.running._shells, self.running._endpoint)


@pytest.fixture
def controlled() -> Iterator[Controlled]:
    host, engine = RecordedHost(), EchoEngine()
    running = RunningHost(host, engine, f"{USER}:{PASSWORD}")
    running.start()
    yield Controlled(running, host, engine)
    running.close()


@pytest.mark.parametrize("action", MODEL_ACTIONS)
def test_an_action_on_the_model_reaches_it_with_its_arguments(controlled: Controlled, action: str) -> None:
    assert controlled.post(action, vm="v", x=1) == (200, {"asked": action})
    assert controlled.host.asked == [(action, {"vm": "v", "x": 1})]


def test_what_the_model_refuses_is_a_bad_request_with_its_reason(controlled: Controlled) -> None:
    code, answer = controlled.post("read_disk", vm="nobody")
    assert code == 400
    assert "no VM nobody" in str(answer["error"])


def test_what_this_machine_cannot_do_is_told_and_is_no_bad_request(controlled: Controlled) -> None:
    code, answer = controlled.post("read_disk", vm="full")
    assert (code, answer["error"]) == (500, "read_disk: this machine failed: [Errno 28] No space left on device")


def test_what_makes_no_sense_is_refused_with_the_reason(controlled: Controlled) -> None:
    for action, arguments, code, reason in (
        ("fly", {}, 404, "drop"),
        ("network", {}, 400, "up"),
        ("network", {"up": "yes"}, 400, "up"),
        ("network", {"up": True, "more": 1}, 400, "more"),
        ("drop", {"when": "during"}, 400, "during"),
        ("account", {"lock_after": -1}, 400, "lock_after"),
        ("account", {"lock_after": True}, 400, "lock_after"),
        ("account", {"locked": "no"}, 400, "locked"),
        ("quotas", {"shells": -1}, 400, "shells"),
        ("quotas", {"operations": True}, 400, "operations"),
        ("quotas", {"memory": 1}, 400, "no quota memory"),
        ("drop", {"when": "before", "kinds": ["NOTHING"]}, 400, "NOTHING"),
    ):
        answer = controlled.post(action, **arguments)
        assert answer[0] == code, action
        assert reason in str(answer[1]["error"])
    url = f"http://{controlled.running.control}/state"
    for body in (b"[1]", b"{", b"\xff"):
        assert requests.post(url, data=body, timeout=5).status_code == 400
    assert requests.get(url, timeout=5).status_code == 405
    assert controlled.host.asked == []


def test_the_network_is_cut_and_restored_from_the_control_port(controlled: Controlled) -> None:
    wire = controlled.wire()
    protocol, shell, command = wire.serve()
    assert controlled.post("wire")[1] == {"requests": 2, "connections": 1, "shells": 1, "processes": 1}
    controlled.post("network", up=False)
    with pytest.raises(CUT):
        protocol.send_command_input(shell, command, b"x\r\n")
    controlled.post("network", up=True)
    wire.client().send_command_input(shell, command, b"x\r\n")
    for client in wire.clients:
        client.transport.close_session()


def test_a_restart_cuts_connections_ends_shells_and_then_restarts_the_model(controlled: Controlled) -> None:
    wire = controlled.wire()
    protocol, shell, command = wire.serve()
    assert controlled.post("restart_host") == (200, {})
    assert controlled.host.asked == [("restart_host", {})]
    assert controlled.engine.processes[0].killed
    with pytest.raises(WinRMTransportError):
        # pywinrm opens a new connection, signs in, and sends what it sealed for the old one.
        protocol.send_command_input(shell, command, b"x\r\n")
    wire.client().open_shell()
    assert controlled.post("wire")[1]["shells"] == 1
    for client in wire.clients:
        client.transport.close_session()


def test_refused_sign_ins_are_counted_and_lock_the_account_until_it_is_unlocked(controlled: Controlled) -> None:
    def refused(wire: Wire, password: str = PASSWORD) -> None:
        with pytest.raises(InvalidCredentialsError):
            wire.client(password=password).open_shell()

    wire = controlled.wire()
    assert controlled.post("account", lock_after=3) == (200, {"refused": 0, "locked": False})
    for _ in range(2):
        refused(wire, "wrong")
    wire.client().open_shell()  # the count is of those in a row
    for _ in range(3):
        assert controlled.post("account")[1]["locked"] is False
        refused(wire, "wrong")
    assert controlled.post("account") == (200, {"refused": 5, "locked": True})
    refused(wire)
    assert controlled.post("account", locked=False) == (200, {"refused": 6, "locked": False})
    wire.client().open_shell()
    controlled.post("account", locked=True)
    refused(wire)
    for client in wire.clients:
        client.transport.close_session()


def test_quotas_change_from_the_control_port(controlled: Controlled) -> None:
    assert controlled.post("quotas") == (200, {"shells": 30, "processes": 25, "operations": 1500})
    assert controlled.post("quotas", shells=1, operations=2)[1] == {"shells": 1, "processes": 25, "operations": 2}
    wire = controlled.wire()
    protocol = wire.client()
    shell = protocol.open_shell()
    with pytest.raises(WSManFaultError, match="1 concurrent shells"):
        protocol.open_shell()
    protocol.run_command(shell, "echo")
    with pytest.raises(WSManFaultError, match="2 concurrent operations"):
        protocol.run_command(shell, "echo")
    controlled.post("quotas", operations=3)
    protocol.run_command(shell, "echo")
    protocol.transport.close_session()


def test_what_is_no_sign_in_locks_nothing(controlled: Controlled) -> None:
    controlled.post("account", lock_after=1)
    for header in ("", "Basic dTpw", "Negotiate", "Negotiate AAAA", "Negotiate !"):
        url = f"http://{controlled.running.listening}/wsman"
        assert requests.post(url, headers={"Authorization": header}, timeout=5).status_code == 401
    assert controlled.post("account") == (200, {"refused": 0, "locked": False})


def test_a_plan_to_drop_says_how_many_have_not_come(controlled: Controlled) -> None:
    assert controlled.post("drop", when="after", kinds=["checkpoint_create"], count=2) == (200, {"left": 0})
    assert controlled.post("drop", when="after", kinds=["checkpoint_create"], count=0) == (200, {"left": 2})


def test_killed_scripts_are_counted(controlled: Controlled) -> None:
    wire = controlled.wire()
    wire.serve()
    assert controlled.post("kill_scripts") == (200, {"killed": 1})
    assert controlled.engine.processes[0].killed
    wire.clients[0].transport.close_session()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "example.org:0"])
def test_the_control_port_is_on_loopback_only(address: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        RunningHost(RecordedHost(), EchoEngine(), "a:b", control=address)


def test_a_port_in_use_is_told_before_anything_is_started(controlled: Controlled) -> None:
    with pytest.raises(PortInUse, match="cannot listen"):
        RunningHost(RecordedHost(), EchoEngine(), "a:b", listen=controlled.running.listening)
    with pytest.raises(PortInUse, match="cannot listen"):
        RunningHost(RecordedHost(), EchoEngine(), "a:b", control=controlled.running.control)
