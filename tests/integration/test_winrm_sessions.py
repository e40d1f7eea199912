"""Sessions and pools over real sockets, with pywinrm, against an endpoint that fails where a test says."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import requests

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand, HostConnection, HostError, NoAnswer
from snapshotd.hyperv.credentials import Credential, Credentials, Secret
from snapshotd.hyperv.exchange import Exchange
from snapshotd.hyperv.one_connection import OneConnectionAdapter
from snapshotd.hyperv.pool import HostPool, HostPools, PoolSettings
from snapshotd.hyperv.transport import Broken, SignInRefused
from snapshotd.hyperv.ways import way_of
from snapshotd.hyperv.winrs import WinRsLimits
from tests.integration.polling import until
from tests.integration.winrm_endpoint import NO_SUCH_SHELL, SCRIPT, Endpoint, answer_line, reports, served

CANARY = "kanarienvogel-Geheim!1"

SETTINGS = PoolSettings(sessions_per_host=2, limits=WinRsLimits(connect_s=2, operation_s=2, margin_s=2, close_s=1))

Open = Callable[..., HostPool]


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    users = tmp_path / "users"
    users.write_text(f"WORKGROUP:snap:{CANARY}\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(users))
    with served(Endpoint()) as endpoint:
        yield endpoint


@pytest.fixture
def open_pool(endpoint: Endpoint) -> Open:
    def make(password: str = CANARY, settings: PoolSettings = SETTINGS, **connection: object) -> HostPool:
        credentials = Credentials(None, {"SNAPSHOTD_CREDENTIAL_HV": f"WORKGROUP\\snap:{password}"})
        way = HostConnection(
            host="hosts/hv01",
            address="127.0.0.1",
            port=endpoint.port,
            transport=HostConnection.NTLM_HTTP,
            credential="hv",
        )
        for name, value in connection.items():
            setattr(way, name, value)
        return HostPools(credentials, SCRIPT, settings).open(way)

    return make


def report(vm: str = "vm1") -> HostCommand:
    return HostCommand(protocol=1, kind=HostCommand.REPORT, vm_id=vm)


async def reason_of(pool: HostPool, timeout_s: float = 10) -> str:
    """Run one command that is to have no answer; say why."""
    result = await pool.run(report(), timeout_s)
    await pool.close(5)
    assert isinstance(result, NoAnswer), result
    assert CANARY not in result.detail
    return NoAnswer.Reason.Name(result.reason)


async def test_a_command_is_answered_and_the_next_one_costs_two_requests(endpoint: Endpoint, open_pool: Open) -> None:
    endpoint.script = lambda c: answer_line(HostAnswer(protocol=1, verdict=HostAnswer.DONE))
    endpoint.piece_bytes = 1000
    pool = open_pool()
    assert isinstance(await pool.run(report("a"), 10), HostAnswer)
    before = len(endpoint.requests)
    answer = await pool.run(report("b"), 10)
    assert isinstance(answer, HostAnswer)
    assert answer.verdict == HostAnswer.DONE
    assert endpoint.requests[before:] == ["Send", "Receive"]
    assert [c.vm_id for c in endpoint.commands] == ["a", "b"]
    await pool.close(5)
    assert endpoint.created == 1
    assert not endpoint.shells, "the shell was not given back"


async def test_an_account_without_rights_signs_in_anew_for_the_next_command(
    endpoint: Endpoint, open_pool: Open
) -> None:
    """It has the groups that it had when it signed in: else it would never see that it was made a member of one."""
    missing = HostError(id="RightsMissing,snapshotd", message="…")
    endpoint.script = lambda c: answer_line(HostAnswer(protocol=1, verdict=HostAnswer.NOT_BEGUN, error=missing))
    pool = open_pool()
    for created in (1, 2):
        answer = await pool.run(report(), 10)
        assert isinstance(answer, HostAnswer)
        assert answer.verdict == HostAnswer.NOT_BEGUN
        assert (endpoint.created, len(endpoint.shells)) == (created, 0)
    await pool.close(5)


async def test_two_sessions_run_two_commands_at_once(endpoint: Endpoint, open_pool: Open) -> None:
    together = threading.Barrier(2)

    def meet(command: HostCommand) -> bytes:
        endpoint.changed.release()
        together.wait(5)
        endpoint.changed.acquire()
        return reports(command)

    endpoint.script = meet
    pool = open_pool()
    results = await asyncio.gather(*(pool.run(report(f"vm{n}"), 10) for n in range(2)))
    await pool.close(5)
    assert [r.vms[0].vm_id for r in results if isinstance(r, HostAnswer)] == ["vm0", "vm1"]


async def test_an_unreachable_host_is_told_as_such(open_pool: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert await reason_of(open_pool(port=port)) == "HOST_UNREACHABLE"


async def test_a_wrong_password_is_told_as_such(endpoint: Endpoint, open_pool: Open) -> None:
    assert await reason_of(open_pool(password="wrong")) == "AUTHENTICATION_FAILED"
    assert not endpoint.commands


async def test_a_missing_credential_is_told_before_anything_is_sent(endpoint: Endpoint, open_pool: Open) -> None:
    assert await reason_of(open_pool(credential="other")) == "CREDENTIAL_MISSING"
    assert not endpoint.connections


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ({"transport": HostConnection.CERTIFICATE_HTTPS}, "CREDENTIAL_MISSING"),
        ({"transport": HostConnection.KERBEROS_HTTP, "address": "hv01"}, "CREDENTIAL_MISSING"),
        ({"transport": HostConnection.KERBEROS_HTTPS, "address": "10.0.0.1"}, "HOST_REFUSED"),
        ({"transport": HostConnection.NTLM_HTTP, "ca_file": "/ca.pem"}, "HOST_REFUSED"),
        ({"transport": HostConnection.NTLM_HTTPS, "ca_file": "/no/such/file"}, "HOST_REFUSED"),
        ({"transport": 99}, "HOST_REFUSED"),
    ],
)
async def test_a_way_that_its_credential_or_its_host_does_not_allow_is_refused_before_anything_is_sent(
    endpoint: Endpoint, open_pool: Open, way: dict[str, object], reason: str
) -> None:
    assert await reason_of(open_pool(**way)) == reason
    assert not endpoint.connections


@pytest.mark.parametrize("address", ["", "a/b", "user@host", "host:1/x?", "-a", "a b", "fe80::1%]:1@evil"])
async def test_an_address_that_would_change_the_url_is_refused(open_pool: Open, address: str) -> None:
    assert await reason_of(open_pool(address=address)) == "HOST_REFUSED"


async def test_a_quota_on_shells_is_a_refusal_and_nothing_was_sent(endpoint: Endpoint, open_pool: Open) -> None:
    endpoint.faults = {"Create": [2150859173]}
    assert await reason_of(open_pool()) == "HOST_REFUSED"
    assert not endpoint.commands


@pytest.mark.parametrize("ready", [b"MISMATCH 43\r\n", b"READY 43\r\n"])
async def test_a_host_with_another_script_is_a_refusal(endpoint: Endpoint, open_pool: Open, ready: bytes) -> None:
    endpoint.ready = ready
    assert await reason_of(open_pool()) == "HOST_REFUSED"
    assert not endpoint.shells


@pytest.mark.parametrize("action", ["Create", "Command", "Send", "Receive"])
@pytest.mark.parametrize("moment", ["cut_before", "cut_after"])
async def test_a_connection_lost_before_the_command_leaves_says_nothing_was_sent(
    endpoint: Endpoint, open_pool: Open, action: str, moment: str
) -> None:
    endpoint.faults = {action: [moment]}
    assert await reason_of(open_pool()) == "HOST_UNREACHABLE"
    assert not endpoint.commands


@pytest.mark.parametrize(
    ("action", "fault", "arrived"),
    [
        ("Send", "cut_before", 0),
        ("Send", "cut_after", 1),
        ("Send", 995, 0),
        ("Send", 2150858793, 0),
        ("Send", "unsealed", 1),
        ("Send", "redirect", 1),
        ("Send", "unauthorized", 1),
        ("Receive", "cut_before", 1),
        ("Receive", "cut_after", 1),
        ("Receive", 995, 1),
        ("Receive", NO_SUCH_SHELL, 1),
        ("Receive", "unsealed", 1),
        ("Receive", "redirect", 1),
    ],
)
async def test_once_the_line_may_have_left_the_outcome_is_unknown_and_nothing_is_repeated(
    endpoint: Endpoint, open_pool: Open, action: str, fault: int | str, arrived: int
) -> None:
    pool = open_pool()
    assert isinstance(await pool.run(report("first"), 10), HostAnswer)
    endpoint.faults = {action: [fault]}
    assert await reason_of(pool) == "CONNECTION_LOST"
    assert [c.vm_id for c in endpoint.commands] == ["first"] + ["vm1"] * arrived


async def test_who_looks_for_the_reason_is_told_of_a_redirect(endpoint: Endpoint, open_pool: Open) -> None:
    endpoint.faults = {"Create": ["redirect"]}
    pool = open_pool()
    result = await pool.run(report(), 10)
    await pool.close(5)
    assert isinstance(result, NoAnswer)
    assert NoAnswer.Reason.Name(result.reason) == "HOST_UNREACHABLE", "no command was sent"
    assert "redirect (HTTP 307 to 'https://127.0.0.1:1/wsman')" in result.detail


def exchange_with(endpoint: Endpoint, password: str = CANARY) -> Exchange:
    adapter = OneConnectionAdapter(2)
    adapter.begin(2)
    way = way_of(HostConnection(transport=HostConnection.NTLM_HTTP))
    credential = Credential("WORKGROUP\\snap", Secret(password))
    return Exchange(f"http://127.0.0.1:{endpoint.port}/wsman", way, credential, adapter)


def test_a_session_has_no_way_to_https_since_only_its_one_connection_is_held_to_the_rules(endpoint: Endpoint) -> None:
    transport = exchange_with(endpoint)
    with transport.build_session() as session, pytest.raises(requests.exceptions.InvalidSchema):
        session.post("https://127.0.0.1:1/wsman")


def test_a_session_goes_past_every_proxy_and_leaves_the_environment_alone(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: dict[str, str] = {}

    def note(name: str, value: str | None) -> nullcontext[None]:
        changed.update({} if value is None else {name: value})
        return nullcontext()

    monkeypatch.setattr(requests.utils, "set_environ", note)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        for variable in ("http_proxy", "all_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(variable, url)
        with exchange_with(endpoint).build_session():
            assert endpoint.sign_ins == 1
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert not changed, "threads share the environment"


async def test_after_a_failure_the_next_command_gets_a_new_session(endpoint: Endpoint, open_pool: Open) -> None:
    pool = open_pool()
    await pool.run(report(), 10)
    endpoint.faults = {"Receive": ["cut_before"]}
    assert isinstance(await pool.run(report(), 10), NoAnswer)
    assert isinstance(await pool.run(report(), 10), HostAnswer)
    await pool.close(5)
    assert (endpoint.created, endpoint.sign_ins) == (2, 2)


async def test_a_kept_connection_that_was_cut_costs_nothing(endpoint: Endpoint, open_pool: Open) -> None:
    pool = open_pool()
    await pool.run(report("a"), 10)
    endpoint.cut_connections()
    assert isinstance(await pool.run(report("b"), 10), HostAnswer)
    await pool.close(5)
    assert [c.vm_id for c in endpoint.commands] == ["a", "b"]
    assert endpoint.sign_ins == 2


async def test_a_shell_that_the_host_has_ended_costs_nothing(endpoint: Endpoint, open_pool: Open) -> None:
    pool = open_pool()
    await pool.run(report("a"), 10)
    endpoint.shells.clear()
    assert isinstance(await pool.run(report("b"), 10), HostAnswer)
    await pool.close(5)
    assert [c.vm_id for c in endpoint.commands] == ["a", "b"]


@pytest.mark.slow
async def test_at_the_deadline_the_script_is_ended_and_its_shell_thrown_away(
    endpoint: Endpoint, open_pool: Open
) -> None:
    endpoint.script = lambda c: None
    pool = open_pool()
    started = time.monotonic()
    assert await reason_of(pool, 1.2) == "DEADLINE_EXCEEDED"
    assert 1.1 < time.monotonic() - started < 4
    assert endpoint.requests[-2:] == ["Signal", "Delete"]
    assert not endpoint.shells


@pytest.mark.slow
async def test_a_command_that_waits_for_a_session_until_its_deadline_is_never_sent(
    endpoint: Endpoint, open_pool: Open
) -> None:
    endpoint.script = lambda c: None
    pool = open_pool()
    results = await asyncio.gather(*(pool.run(report(f"vm{n}"), 1) for n in range(3)))
    await pool.close(5)
    assert [NoAnswer.Reason.Name(r.reason) for r in results if isinstance(r, NoAnswer)] == ["DEADLINE_EXCEEDED"] * 3
    assert {c.vm_id for c in endpoint.commands} == {"vm0", "vm1"}


@pytest.mark.slow
async def test_a_slow_command_outlasts_many_empty_receives(endpoint: Endpoint, open_pool: Open) -> None:
    def later(command: HostCommand) -> None:
        process = next(iter(endpoint.shells.values()))

        def write() -> None:
            with endpoint.changed:
                process.stdout += reports(command)
                endpoint.changed.notify_all()

        threading.Timer(2.5, write).start()

    endpoint.script = later
    pool = open_pool(settings=PoolSettings(limits=WinRsLimits(operation_s=1)))
    assert isinstance(await pool.run(report(), 10), HostAnswer)
    await pool.close(5)


async def test_a_script_that_ends_without_an_answer_leaves_the_outcome_unknown(
    endpoint: Endpoint, open_pool: Open
) -> None:
    endpoint.script = lambda c: 3
    pool = open_pool()
    result = await pool.run(report(), 10)
    await pool.close(5)
    assert isinstance(result, NoAnswer)
    assert result.reason == NoAnswer.CONNECTION_LOST
    assert "exit code 3" in result.detail
    assert "out of luck" in result.detail, "stderr is what tells the operator why"


@pytest.mark.parametrize(
    "written",
    [
        b"PROGRESS 10%\r\n",
        b"bm8ganNvbg==\r\n",
        b"W10=\r\n",
        answer_line(HostAnswer(protocol=1)),
        answer_line(HostAnswer(protocol=2, verdict=HostAnswer.DONE)),
        reports(HostCommand()) + b"and then some\r\n",
    ],
)
async def test_what_is_no_answer_ends_the_session_and_leaves_the_outcome_unknown(
    endpoint: Endpoint, open_pool: Open, written: bytes
) -> None:
    endpoint.script = lambda c: written
    assert await reason_of(open_pool()) == "MALFORMED_ANSWER"
    assert not endpoint.shells


async def test_closing_waits_for_what_runs_and_then_cuts_it_off(endpoint: Endpoint, open_pool: Open) -> None:
    endpoint.script = lambda c: None
    pool = open_pool(settings=PoolSettings(limits=WinRsLimits(operation_s=20)))
    running = asyncio.create_task(pool.run(report(), 60))
    await until(lambda: bool(endpoint.commands))
    await pool.close(0.1)
    result = await running
    assert isinstance(result, NoAnswer)
    assert result.reason == NoAnswer.CONNECTION_LOST


async def test_closing_also_cuts_off_a_command_whose_caller_was_cancelled(endpoint: Endpoint, open_pool: Open) -> None:
    endpoint.script = lambda c: None
    pool = open_pool(settings=PoolSettings(limits=WinRsLimits(operation_s=20)))
    running = asyncio.create_task(pool.run(report(), 60))
    await until(lambda: bool(endpoint.commands))
    running.cancel()
    await asyncio.wait([running])
    await asyncio.wait_for(pool.close(0.1), 5)


async def test_a_session_that_nobody_needs_is_given_back(endpoint: Endpoint, open_pool: Open) -> None:
    pool = open_pool(settings=PoolSettings(idle_close_s=0.05))
    await pool.run(report(), 10)
    await until(lambda: not endpoint.shells)
    assert isinstance(await pool.run(report(), 10), HostAnswer)
    await pool.close(5)


async def test_a_cancelled_caller_that_waits_never_sends_and_one_that_runs_keeps_its_place(
    endpoint: Endpoint, open_pool: Open
) -> None:
    release = threading.Event()

    def wait(command: HostCommand) -> bytes:
        endpoint.changed.release()
        release.wait(5)
        endpoint.changed.acquire()
        return reports(command)

    endpoint.script = wait
    pool = open_pool(settings=PoolSettings(sessions_per_host=1))
    runs = asyncio.create_task(pool.run(report("runs"), 10))
    await until(lambda: bool(endpoint.commands))
    waits = asyncio.create_task(pool.run(report("waits"), 10))
    await asyncio.sleep(0)
    for task in (runs, waits):
        task.cancel()
    await asyncio.wait([runs, waits])
    third = asyncio.create_task(pool.run(report("third"), 10))
    await asyncio.sleep(0)
    assert [c.vm_id for c in endpoint.commands] == ["runs"]
    release.set()
    assert isinstance(await third, HostAnswer)
    await pool.close(5)
    assert [c.vm_id for c in endpoint.commands] == ["runs", "third"]


async def test_the_secret_is_in_no_log_and_in_no_error(
    endpoint: Endpoint, open_pool: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pool = open_pool()
    await pool.run(report(), 10)
    endpoint.faults = {"Send": [995], "Receive": ["cut_before"]}
    await pool.run(report(), 10)
    await pool.run(report(), 10)
    await pool.close(5)
    await reason_of(open_pool(password=CANARY + "x"))
    assert caplog.records
    assert CANARY not in caplog.text


def test_after_a_sign_in_that_failed_nothing_is_sent_unsealed(endpoint: Endpoint) -> None:
    exchange = exchange_with(endpoint, password="wrong")
    with pytest.raises(SignInRefused):
        exchange.send_message("<envelope/>")
    with pytest.raises(Broken, match="nothing is sent"):
        exchange.send_message("<envelope/>")
    exchange.close_session()
    assert not endpoint.requests
