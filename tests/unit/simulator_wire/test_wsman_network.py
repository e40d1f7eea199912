"""Connections that are cut, and answers that are lost."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from winrm.exceptions import WinRMOperationTimeoutError

from snapshotd.simulator.listener import PortInUse
from snapshotd.simulator.network import Drop, Network
from snapshotd.simulator.ntlm import Accounts
from snapshotd.simulator.shells import Quotas, Shells
from snapshotd.simulator.wsman import WsmanEndpoint
from tests.unit.simulator_wire.conftest import CUT, Wire, read_line
from tests.unit.simulator_wire.echo_engine import EchoEngine, effect, host_command


def test_a_command_dropped_before_never_reaches_the_script(wire: Wire) -> None:
    protocol, shell, command = wire.serve()
    wire.network.plan_drop("before", ["checkpoint_create"], 1)
    protocol.send_command_input(shell, command, host_command("OBSERVE"))
    assert read_line(protocol, shell, command) == b"did OBSERVE\r\n"
    with pytest.raises(CUT):
        protocol.send_command_input(shell, command, effect("checkpoint_create"))
    assert wire.engine.effects == ["OBSERVE"]
    assert wire.shells.open_shells == 1

    protocol, shell, command = wire.serve()
    protocol.send_command_input(shell, command, effect("checkpoint_create"))
    assert read_line(protocol, shell, command) == b"did checkpoint_create\r\n"


def test_a_command_dropped_after_takes_effect_and_loses_only_its_answer(wire: Wire) -> None:
    protocol, shell, command = wire.serve()
    wire.network.plan_drop("after", ["checkpoint_remove"], 1)
    protocol.send_command_input(shell, command, effect("checkpoint_remove"))
    with pytest.raises(CUT):
        protocol.get_command_output_raw(shell, command)
    assert wire.engine.effects == ["checkpoint_remove"]

    again = wire.client()
    again.send_command_input(shell, command, host_command("REPORT"))
    assert read_line(again, shell, command) == b"did REPORT\r\n"


@pytest.mark.slow
def test_a_lost_answer_that_is_late_lets_receives_time_out_until_it_is_there(wire: Wire) -> None:
    protocol, shell, command = wire.serve(operation_s=1)
    wire.network.plan_drop("after", [], 1)
    process = wire.engine.processes[0]
    with process.changed:
        # The script is at work: what it writes is held back.
        answer = process._answer
        process._answer = lambda line: None  # type: ignore[method-assign]
    protocol.send_command_input(shell, command, effect("vm_start"))
    with pytest.raises(WinRMOperationTimeoutError):
        protocol.get_command_output_raw(shell, command)
    with process.changed:
        answer(effect("vm_start").strip())
        process.changed.notify_all()
    with pytest.raises(CUT):
        protocol.get_command_output_raw(shell, command)


def test_a_drop_counts_and_any_kind_is_meant_when_none_is_named(wire: Wire) -> None:
    wire.network.plan_drop("before", [], 2)
    for _ in range(2):
        protocol, shell, command = wire.serve()
        protocol.send_command_input(shell, command, b"no command\r\n")
        with pytest.raises(CUT):
            protocol.send_command_input(shell, command, host_command("REPORT"))
    protocol, shell, command = wire.serve()
    protocol.send_command_input(shell, command, host_command("REPORT"))
    assert wire.engine.effects == ["REPORT"]


def test_an_action_means_its_effects_and_not_their_observations(wire: Wire) -> None:
    wire.network.plan_drop("before", ["checkpoint_create"], 1)
    assert wire.network.judge([host_command("OBSERVE", "checkpoint_create"), effect("vm_start")]) is None
    assert wire.network.judge([effect("checkpoint_create")]) is Drop.BEFORE
    wire.network.plan_drop("after", ["EFFECT"], 1)
    assert wire.network.judge([host_command("OBSERVE", "vm_start")]) is None
    assert wire.network.judge([effect("vm_start")]) is Drop.AFTER


def test_what_is_planned_can_be_taken_back_and_nonsense_is_refused(wire: Wire) -> None:
    assert wire.network.plan_drop("before", ["checkpoint_create"], 5) == 0
    assert wire.network.judge([effect("checkpoint_create")]) is Drop.BEFORE
    assert wire.network.plan_drop("after", ["checkpoint_create"], 0) == 0
    assert wire.network.plan_drop("before", ["checkpoint_create"], 0) == 4
    assert wire.network.judge([effect("checkpoint_create")]) is None
    for when, kinds, count in (("during", [], 1), ("after", ["SHUTDOWN"], 1), ("after", [], -1)):
        with pytest.raises(ValueError, match=r"during|SHUTDOWN|-1"):
            wire.network.plan_drop(when, kinds, count)


def test_a_command_in_two_requests_is_one_command(wire: Wire) -> None:
    protocol, shell, command = wire.serve()
    wire.network.plan_drop("before", ["checkpoint_create"], 1)
    line = effect("checkpoint_create")
    protocol.send_command_input(shell, command, line[:10])
    with pytest.raises(CUT):
        protocol.send_command_input(shell, command, line[10:])
    assert wire.engine.effects == []


@pytest.mark.slow
def test_network_down_cuts_connections_and_refuses_new_ones_until_it_is_up(wire: Wire) -> None:
    protocol, shell, command = wire.serve(operation_s=20)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(protocol.get_command_output_raw, shell, command)
        while wire.shells._shells[shell].requests == 0:
            time.sleep(0.005)
        wire.network.set_up(up=False)
        with pytest.raises(CUT):
            waiting.result(5)
        with pytest.raises(CUT):
            wire.client().open_shell()
    assert wire.network.open_connections == 0

    wire.network.set_up(up=True)
    again = wire.client()
    again.send_command_input(shell, command, b"still here\r\n")
    assert read_line(again, shell, command) == b"still here\r\n"


@pytest.mark.slow
def test_output_is_not_taken_for_a_connection_that_was_cut(wire: Wire) -> None:
    protocol, shell, command = wire.serve(operation_s=20)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(protocol.get_command_output_raw, shell, command)
        while wire.shells._shells[shell].requests == 0:
            time.sleep(0.005)
        wire.network.cut_all()
        with pytest.raises(CUT):
            waiting.result(5)
    again = wire.client()
    again.send_command_input(shell, command, b"for the second\r\n")
    assert read_line(again, shell, command) == b"for the second\r\n"


@pytest.mark.slow
def test_output_is_not_taken_for_a_client_that_went_away(wire: Wire) -> None:
    protocol, shell, command = wire.serve(operation_s=20)
    protocol.transport.read_timeout_sec = 0.2  # type: ignore[assignment]  # requests takes parts of a second
    with pytest.raises(CUT):
        protocol.get_command_output_raw(shell, command)
    protocol.transport.close_session()
    again = wire.client()
    again.send_command_input(shell, command, b"for the second\r\n")
    assert read_line(again, shell, command) == b"for the second\r\n"


def test_a_request_takes_the_time_of_its_way(wire: Wire) -> None:
    protocol, shell, command = wire.serve()
    wire.network.rtt_s = 0.1
    begun = time.monotonic()
    protocol.send_command_input(shell, command, b"x\r\n")
    protocol.get_command_output_raw(shell, command)
    assert time.monotonic() - begun >= 0.2


def test_a_process_takes_its_time_to_start(wire: Wire) -> None:
    wire.shells._start_s = 0.2
    begun = time.monotonic()
    wire.serve()
    assert time.monotonic() - begun >= 0.2


def test_killed_processes_leave_their_shells(wire: Wire) -> None:
    protocol, shell, command = wire.serve()
    assert wire.shells.running_processes == 1
    assert wire.shells.kill_processes() == 1
    assert protocol.get_command_output(shell, command) == (b"", b"", 1)
    assert (wire.shells.open_shells, wire.shells.running_processes) == (1, 0)


def test_a_port_in_use_is_named(wire: Wire) -> None:
    network = Network()
    accounts = Accounts("a:b", "HV01")
    with pytest.raises(PortInUse, match=wire.endpoint.address):
        WsmanEndpoint(wire.endpoint.address, accounts, Shells(EchoEngine(), network, Quotas()), network, "HV01")
    accounts.close()


def test_what_is_no_address_is_refused() -> None:
    network = Network()
    accounts = Accounts("a:b", "HV01")
    for address in ("", "5985", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", ":80"):
        with pytest.raises(ValueError, match="host:port"):
            WsmanEndpoint(address, accounts, Shells(EchoEngine(), network, Quotas()), network, "HV01")
    accounts.close()


def test_a_closed_endpoint_lets_nobody_in(wire: Wire) -> None:
    host, port = wire.endpoint.address.rsplit(":", 1)
    wire.serve()
    wire.endpoint.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
    assert wire.engine.processes[0].killed
