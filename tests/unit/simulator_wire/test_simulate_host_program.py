"""The program `simulate-host` and the tests' own client of it, over a host without Hyper-V."""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from winrm.protocol import Protocol

from demo.programs import HostControl, NotStarted
from snapshotd.simulator import main
from snapshotd.simulator.pwsh.engine import find_powershell
from snapshotd.simulator.settings import add_arguments, from_arguments
from tests.simulated_host import (
    PASSWORD,
    USERNAME,
    ControlRefused,
    SimulatedHostProcess,
    SimulatedHostThreads,
)
from tests.unit.simulator_wire.echo_engine import EchoEngine
from tests.unit.simulator_wire.recorded_host import RecordedHost

PROGRAM = (sys.executable, "-m", "tests.unit.simulator_wire.recorded_host")


def open_shell(host: HostControl) -> None:
    """Sign in and open a shell, as a client of the host's."""
    protocol = Protocol(
        f"http://127.0.0.1:{host.port}/wsman",
        transport="ntlm",
        username=host.username,
        password=host.password,
        proxy=None,
        ca_trust_path=None,  # type: ignore[arg-type]  # documented, and not in its type
    )
    protocol.open_shell()
    protocol.transport.close_session()


@pytest.mark.slow
def test_a_process_serves_is_killed_and_serves_again_on_its_ports(tmp_path: Path) -> None:
    with SimulatedHostProcess(tmp_path / "hv01", {}, program=PROGRAM) as host:
        open_shell(host)
        assert host.control("wire")["shells"] == 1
        assert host.control("state", vm="x") == {"asked": "state"}
        with pytest.raises(ControlRefused, match="no action 'fly'"):
            host.control("fly")
        before, pid = (host.listening, host.control_address), host.pid
        host.restart()
        assert (host.listening, host.control_address) == before
        assert host.pid != pid
        assert host.control("wire")["shells"] == 0
        open_shell(host)
        assert host.stop() == 0


@pytest.mark.slow
def test_a_process_that_serves_https_says_where_and_by_which_ca(tmp_path: Path) -> None:
    with SimulatedHostProcess(tmp_path / "hv01", {}, ("--https", "--offer", "negotiate,basic"), PROGRAM) as host:
        host.stop()
        said = host.start()
        context = ssl.create_default_context(cafile=said["ca_file"])
        port = int(said["https"].rpartition(":")[2])
        for kind, trusted in (("valid", True), ("expired", False), ("foreign", False), ("valid", True)):
            host.control("certificate", kind=kind)
            with (
                socket.create_connection(("127.0.0.1", port)) as connection,
                nullcontext() if trusted else pytest.raises(ssl.SSLCertVerificationError),
            ):
                context.wrap_socket(connection, server_hostname="127.0.0.1").close()
        with pytest.raises(ControlRefused, match="no kind of certificate"):
            host.control("certificate", kind="nice")
        with pytest.raises(ControlRefused, match="no way to sign in"):
            host.control("offer", ways=["password"])


@pytest.mark.slow
def test_what_the_program_cannot_serve_is_said_with_exit_code_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for number, (option, value, reason) in enumerate(
            (
                ("--listen", address, f"cannot listen on {address}"),
                ("--control", address, f"cannot listen on {address}"),
                ("--control", "0.0.0.0:0", "Use loopback"),
                ("--offer", "password", "no way to sign in: password"),
                ("--offer", "kerberos", "Add --keytab"),
                ("--client-ca", str(tmp_path), "Add --https"),
                (
                    "--credential",
                    str(tmp_path / "missing"),
                    "snapshotd simulate-host: --credential .*missing: no such file",
                ),
            )
        ):
            host = SimulatedHostProcess(tmp_path / str(number), {}, (option, value), PROGRAM)
            with pytest.raises(NotStarted, match=reason) as refused:
                host.start()
            assert refused.value.code == 2
            assert "Traceback" not in str(refused.value)


@pytest.mark.slow
def test_a_state_directory_belongs_to_one_process_until_that_has_ended(tmp_path: Path) -> None:
    state = tmp_path / "hv01" / "state"
    with SimulatedHostProcess(tmp_path / "hv01", {}, program=PROGRAM) as host:
        other = SimulatedHostProcess(tmp_path / "other", {}, ("--state", str(state)), PROGRAM)
        with pytest.raises(NotStarted, match=f"--state {state} is in use by another simulated host") as refused:
            other.start()
        assert refused.value.code == 2
        host.kill()
        other.start()
        other.stop()


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--inventory", "--truth"])
def test_a_file_that_is_in_no_directory_is_said_with_its_option(tmp_path: Path, option: str) -> None:
    missing = tmp_path / "nosuch" / "file"
    host = SimulatedHostProcess(tmp_path / "hv01", {"host": {"name": "hv01"}, "vms": []}, (option, str(missing)))
    with pytest.raises(NotStarted, match=f"snapshotd simulate-host: {option} {missing}: no such file") as refused:
        host.start()
    assert refused.value.code == 2
    assert not missing.parent.exists()


@pytest.mark.slow
def test_a_vm_moves_between_two_programs_over_one_storage(tmp_path: Path) -> None:
    vm = {"id": "11111111-2222-3333-4444-555555555501", "name": "web01", "disks": [{"location": "SCSI:0:0"}]}
    storage = ("--storage", str(tmp_path / "storage"))
    with (
        SimulatedHostProcess(tmp_path / "hv01", {"host": {"name": "hv01"}, "vms": [vm]}, storage) as one,
        SimulatedHostProcess(tmp_path / "hv02", {"host": {"name": "hv02"}, "vms": []}, storage) as two,
    ):
        one.control("write_disk", vm="web01", location="SCSI:0:0", block="1", data="x")
        two.control("move_in", **one.control("move_out", vm="web01"))
        for host in (one, two):
            host.restart()
        assert one.control("state")["vms"] == []
        assert two.control("read_disk", vm="web01", location="SCSI:0:0")["blocks"] == {"1": "x"}


def test_a_host_in_threads_is_driven_by_the_same_client(tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    with SimulatedHostThreads(RecordedHost(), EchoEngine(), truth) as host:
        open_shell(host)
        assert host.control("wire")["shells"] == 1
        assert host.truth() == []
        truth.write_text('{"n": 1, "decisive": true}\n{"n": 2, "decisive": false}\n{"n": 3, "dec', encoding="utf-8")
        assert [line["n"] for line in host.truth()] == [1, 2]
        assert [line["n"] for line in host.decisive()] == [1]
    assert (host.username, host.password) == (USERNAME, PASSWORD)


def _serve_with_a_signal_at(line: int, directory: Path) -> int:
    """Serve in this process; send SIGTERM at this line of its waiting, or later from outside."""
    (directory / "credential").write_text(f"{USERNAME}:{PASSWORD}\n", encoding="utf-8")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    names = ("state", "inventory", "truth", "credential")
    settings = from_arguments(parser.parse_args([word for n in names for word in (f"--{n}", str(directory / n))]))
    left: int | None = None
    waiting = main.__file__, threading.__file__

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        nonlocal left
        if frame.f_code is main._ready_line.__code__:
            left = line
        elif left is not None and event == "line" and frame.f_code.co_filename in waiting:
            left -= 1
            if left < 0:
                sys.settrace(None)
                left = None
                signal.raise_signal(signal.SIGTERM)
        return trace

    def stuck(*_: object) -> None:
        raise AssertionError("it has not ended")

    before = signal.signal(signal.SIGALRM, stuck)
    late = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    signal.alarm(10)
    late.start()
    sys.settrace(trace)
    try:
        return main.run(settings, lambda _: nullcontext(RecordedHost()), lambda _: EchoEngine())
    finally:
        sys.settrace(None)
        late.cancel()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("line", range(12))
def test_a_signal_ends_it_at_whatever_line_it_comes(line: int, tmp_path: Path) -> None:
    assert _serve_with_a_signal_at(line, tmp_path) == 0


def test_the_command_line_is_read_with_its_units() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    needed = ["--state", "S", "--inventory", "I", "--truth", "T", "--credential", "C"]
    settings = from_arguments(parser.parse_args(needed))
    assert (settings.listen, settings.control, settings.engine) == ("127.0.0.1:0", "127.0.0.1:0", "builtin")
    assert (settings.rtt_ms, settings.powershell_start_ms, dict(settings.durations)) == (0, 0, {})
    assert settings.storage is None
    more = [
        "--storage",
        "D",
        "--rtt-ms",
        "5",
        "--powershell-start-ms",
        "7",
        "--duration",
        "merge=500",
        "start=10",
        "--duration",
        "save=1",
    ]
    settings = from_arguments(parser.parse_args([*needed, *more]))
    assert (settings.rtt_ms, settings.powershell_start_ms, settings.storage) == (5, 7, Path("D"))
    assert dict(settings.durations) == {"merge": 500, "start": 10, "save": 1}


@pytest.mark.parametrize(
    "option", [["--rtt-ms", "-1"], ["--duration", "merge"], ["--duration", "=3"], ["--engine", "x"]]
)
def test_a_wrong_option_is_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--state", "S", "--inventory", "I", "--truth", "T", "--credential", "C", *option])
    assert option[0] in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "executable", "reason"),
    [
        (None, False, "there is no PowerShell at {}"),
        ("#!/bin/sh\n", False, "{} cannot be run: Permission denied"),
        ("no program", True, "{} cannot be run: Exec format error"),
        ("#!/nosuch/interpreter\n", True, "{} cannot be run: No such file or directory"),
        ("#!/bin/sh\nexit 0\n", True, "{} is no PowerShell that can be used here: exit code 0"),
        ("#!/bin/sh\necho oh >&2\n", True, "{} is no PowerShell that can be used here: oh"),
        ("#!/bin/sh\nexit 3\n", True, "{} is no PowerShell that can be used here: exit code 3"),
    ],
)
def test_a_powershell_that_cannot_be_run_is_said_with_its_path_and_the_reason(
    tmp_path: Path, text: str | None, reason: str, *, executable: bool
) -> None:
    program = tmp_path / "x"
    if text is not None:
        program.write_text(text)
        program.chmod(0o755 if executable else 0o644)
    inventory = {"host": {"name": "hv01"}, "vms": []}
    host = SimulatedHostProcess(tmp_path / "hv01", inventory, ("--engine", "pwsh", "--pwsh", str(program)))
    with pytest.raises(NotStarted, match=re.escape(f"--engine pwsh: {reason.format(program)}")) as refused:
        host.start()
    assert refused.value.code == 2
    assert "Name one with --pwsh PATH" in str(refused.value)


@pytest.mark.slow
def test_a_relative_path_is_a_file_of_this_directory_and_not_a_program_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "x"
    program.touch()
    monkeypatch.chdir(tmp_path)
    assert find_powershell(Path("./x")) == program
