"""Server, executor, host and callers, each at an address of its own and all over TLS: who gets in, and who does not.

Each who is refused is told why, and each refusal that the server hears of is on record. What TLS itself refuses in the
handshake is not: gRPC tells the server nothing of it (docs/access.md).
"""

from __future__ import annotations

import json
import queue
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from uuid import uuid4

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from demo.programs import CREDENTIAL
from snapshotd.api.v1 import executor_pb2, host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.executor_pb2_grpc import ExecutorServiceStub
from tests.certificates import Authority
from tests.e2e.machines import HOST, ROLES, Machines, Said, refusals
from tests.e2e.system import Client, refusal, until

pytestmark = pytest.mark.slow

NO_SIGN_IN, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
BEHALF = "x-snapshotd-on-behalf-of"


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with Machines(tmp_path_factory.mktemp("machines"), ("web01", "db01")) as machines:
        machines.issue("users", "ada", "--user", "ada")
        machines.issue("executors", "ex2", "--executor", "ex2", "--host", "hv01")
        machines.context("ada")
        machines.context("olga", machines.provider.token("olga"))
        machines.context("audit", machines.issue_token("audit"))
        run(machines, "ada", "host", "add", "hv01", HOST, "--port", str(machines.host.port), "--credential", CREDENTIAL)
        run(machines, "ada", "vm", "register", "hv01", "web01", "--owner", "acme")
        run(machines, "ada", "vm", "register", "hv01", "db01", "--owner", "globex")
        yield machines


@pytest.fixture(scope="module")
def soon_late(at: Machines) -> Client:
    """Connect with a certificate that is valid for a few seconds more."""
    users = Authority.at(at.at / "users")
    users.issue("eve", ("snapshotd://user/eve",), ends=timedelta(seconds=8)).write(at.at, "eve")
    connected = at.by_certificate("eve")
    assert refused_of(connected) == (DENIED, "NOT_ALLOWED"), "she has no role, and is known"
    return connected


@pytest.fixture(scope="module")
def auditor(at: Machines, soon_late: Client) -> Client:
    assert soon_late is not None, "it gets late meanwhile"
    return at.by_token((at.at / "audit.token").read_text(encoding="utf-8"))


def run(at: Machines, who: str, *arguments: str, apart: bool = False) -> Said:
    """Run a command that succeeds."""
    said = at.type_as(who, *arguments, apart=apart)
    assert said.code == 0, said.err
    return said


def list_hosts(client: Client) -> Callable[[], host_pb2.ListHostsResponse]:
    """Return the call that everybody may make who has a role."""
    return lambda: client.hosts.ListHosts(host_pb2.ListHostsRequest())


def tree(client: Client, vm_id: str) -> Callable[[], snapshot_pb2.SnapshotTree]:
    """Return a call about one VM."""
    return lambda: client.tree(vm_id)


def refused_of(client: Client) -> tuple[grpc.StatusCode, str]:
    """Return the code and the reason with which a caller is refused."""
    return refusal(list_hosts(client))[:2]


def recorded(auditor: Client, actor: str, reason: str, method: str) -> str:
    """Return what the event of a refusal says, as soon as there is one."""

    def found() -> list[str]:
        events = refusals(auditor, actor)
        return [e["detail"] for e in events if e["refusal"] == reason and e["method"].endswith(f"/{method}")]

    until(lambda: bool(found()))
    return found()[0]


class Stream:
    """A stream of Attach, by hand."""

    def __init__(self, client: Client, *hosts: str) -> None:
        self._sent: queue.SimpleQueue[executor_pb2.AttachRequest | None] = queue.SimpleQueue()
        hello = executor_pb2.Hello(executor_id=str(uuid4()), hosts=hosts)
        self._sent.put(executor_pb2.AttachRequest(hello=hello))
        self._answers = ExecutorServiceStub(client.channel).Attach(iter(self._sent.get, None))

    def read(self) -> executor_pb2.AttachResponse:
        """Return the next message of the server."""
        return next(self._answers)

    def read_on(self) -> None:
        """Read until the stream ends."""
        for _ in self._answers:
            pass

    def beat(self) -> None:
        """Send a heartbeat."""
        self._sent.put(executor_pb2.AttachRequest(heartbeat=executor_pb2.Heartbeat()))

    def close(self) -> None:
        """End this side."""
        self._sent.put(None)


def test_the_main_job_is_done_by_who_signed_in_and_recorded_as_theirs(at: Machines) -> None:
    for arguments in (("create", "web01", "--name", "one"), ("create", "web01", "--name", "two")):
        run(at, "olga", "snapshot", *arguments, "--wait", apart=True)
    run(at, "olga", "snapshot", "revert", "web01", "one", "--wait", apart=True)
    run(at, "olga", "snapshot", "delete", "web01", "two", "--wait", apart=True)
    assert [line.split()[0] for line in run(at, "olga", "snapshot", "list", "web01").out.splitlines()[1:]] == ["one"]
    checkpoints = next(vm for vm in at.host.control("state")["vms"] if vm["name"] == "web01")["checkpoints"]
    assert len(checkpoints) == 1
    events = [json.loads(line) for line in run(at, "audit", "audit", "list", "-o", "jsonl").out.splitlines()]
    asked = {(e["type"], e["actor"]) for e in events if e["actor"] != "snapshotd"}
    assert asked >= {
        ("HostRegistered", "certificate:ada"),
        ("VmRegistered", "certificate:ada"),
        ("SnapshotRequested", "oidc:olga"),
        ("OperationRequested", "oidc:olga"),
    }
    assert {actor for _, actor in asked} <= {"certificate:ada", "oidc:olga", "hv01"}, "the host saw what was done"


def test_for_whom_a_delegate_acts_is_recorded_beside_it_and_nobody_else_may_say_that(
    at: Machines, auditor: Client
) -> None:
    portal, olga = at.by_token(at.issue_token("portal")), at.by_token(at.provider.token("olga"))
    vm = vm_pb2.VirtualMachine(name=f"virtualMachines/{at.ids['web01']}", labels={"ticket": "7"})
    request = vm_pb2.UpdateVirtualMachineRequest(virtual_machine=vm, update_mask=FieldMask(paths=["labels"]))
    portal.vms.UpdateVirtualMachine(request, metadata=((BEHALF, "ann@acme"),))
    found = run(at, "audit", "audit", "list", "--actor", "token:portal", "-o", "jsonl").out.splitlines()
    (event,) = [json.loads(line) for line in found]
    assert (event["actor"], event["on_behalf_of"]) == ("token:portal", "ann@acme")
    refused = refusal(lambda: olga.vms.UpdateVirtualMachine(request, metadata=((BEHALF, "ann@acme"),)))
    assert refused[:2] == (DENIED, "NOT_ALLOWED")
    assert "to act for somebody takes the role delegate" in recorded(
        auditor, "oidc:olga", "NOT_ALLOWED", "UpdateVirtualMachine"
    )


def altered(token: str) -> str:
    """Return a token with the signature of another one's claims."""
    head, claims, signature = token.split(".")
    return ".".join((head, claims, f"{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"))


def revoked(at: Machines) -> str:
    """Return a token that was in force, and is no more."""
    token = at.issue_token("olga")
    assert refused_of(at.by_token(token)) == (DENIED, "NOT_ALLOWED"), "it is known, and has no role"
    at.revoke_token(token.split("_")[1])
    return token


@pytest.mark.parametrize(
    ("reason", "token"),
    [
        ("AUDIENCE_WRONG", lambda at: at.provider.token("olga", audience="grafana")),
        ("TOKEN_EXPIRED", lambda at: at.provider.token("olga", valid_s=-60)),
        ("SIGNATURE_INVALID", lambda at: altered(at.provider.token("olga"))),
        ("TOKEN_MALFORMED", lambda _: "letmein"),
        ("TOKEN_REVOKED", revoked),
    ],
)
def test_a_token_that_does_not_count_is_refused_by_its_reason_and_recorded(
    at: Machines, auditor: Client, reason: str, token: Callable[[Machines], str]
) -> None:
    given = token(at)
    code, told, message = refusal(list_hosts(at.by_token(given)))
    assert (code, told) == (NO_SIGN_IN, reason)
    assert recorded(auditor, "anonymous", reason, "ListHosts") == message
    assert given not in message


def test_who_sends_nothing_is_refused_and_recorded(at: Machines, auditor: Client) -> None:
    nobody = Client(at.daemon.address, grpc.ssl_channel_credentials((at.at / "servers-ca.pem").read_bytes()))
    assert refused_of(nobody) == (NO_SIGN_IN, "SIGN_IN_MISSING")
    nobody.channel.close()
    recorded(auditor, "anonymous", "SIGN_IN_MISSING", "ListHosts")


def test_to_somebody_elses_user_a_vm_is_not_there(at: Machines, auditor: Client) -> None:
    otto = at.by_token(at.provider.token("otto"))
    assert otto.tree(at.ids["db01"]).virtual_machine
    vm_id, made_up = at.ids["web01"], str(uuid4())
    told = refusal(tree(otto, vm_id))
    assert told[:2] == (grpc.StatusCode.NOT_FOUND, "VIRTUAL_MACHINE_NOT_FOUND")
    assert told[2].replace(vm_id, made_up) == refusal(tree(otto, made_up))[2]
    assert refusal(lambda: otto.create(vm_id, "mine"))[2] == told[2]
    recorded(auditor, "oidc:otto", "VIRTUAL_MACHINE_NOT_FOUND", "GetSnapshotTree")
    recorded(auditor, "oidc:otto", "VIRTUAL_MACHINE_NOT_FOUND", "CreateSnapshot")
    assert run(at, "olga", "vm", "list", "-o", "name").out.split() == [f"virtualMachines/{vm_id}"]


def test_an_executor_is_shown_and_logged_by_the_name_that_it_signed_in_by(at: Machines) -> None:
    at.issue("executors", "ex4", "--executor", "ex4", "--host", "hv01")
    one = Stream(at.by_certificate("ex4"), "hv01")
    assert one.read().HasField("welcome")
    shown = re.search(r"^ex4 \((ex-[0-9a-f]{12})\) +hv01 ", run(at, "audit", "status").out, re.MULTILINE)
    assert shown is not None
    one.close()
    label = rf"executor ex4 \({shown[1]}\)"
    facts = f"executor={shown[1]} actor=executor:ex4"
    log = partial(at.daemon.log.read_text, encoding="utf-8")
    until(lambda: re.search(rf"{label} detached {facts}$", log(), re.MULTILINE) is not None)
    assert re.search(rf"{label} attached, for hv01 {facts}$", log(), re.MULTILINE)


def test_a_stolen_executors_certificate_serves_no_other_hosts(at: Machines, auditor: Client) -> None:
    thief = at.start_executor("ex2", ["hv01", "hv02"])
    assert thief.wait() != 0
    assert "PERMISSION_DENIED: Cannot serve Attach to executor:ex2: it may serve hv01, and names hv02" in (
        thief.log.read_text(encoding="utf-8")
    )
    assert "names hv02" in recorded(auditor, "executor:ex2", "NOT_ALLOWED", "Attach")
    stolen = at.by_certificate("ex2")
    stream = Stream(stolen, "*")
    assert stream.read().HasField("welcome")
    stream.close()
    assert refused_of(stolen) == (DENIED, "NOT_ALLOWED")
    recorded(auditor, "executor:ex2", "NOT_ALLOWED", "ListHosts")


def test_a_users_certificate_attaches_no_executor(at: Machines, auditor: Client) -> None:
    ada = at.by_certificate("ada")
    assert refusal(Stream(ada, "hv01").read)[:2] == (DENIED, "NOT_ALLOWED")
    recorded(auditor, "certificate:ada", "NOT_ALLOWED", "Attach")


def test_a_barred_executors_stream_ends_which_is_recorded_and_it_does_not_come_again(
    at: Machines, auditor: Client
) -> None:
    at.issue("executors", "ex3", "--executor", "ex3", "--host", "hv01")
    stolen = at.by_certificate("ex3")
    stream = Stream(stolen, "hv01")
    assert stream.read().HasField("welcome")
    at.roles(f'{ROLES}\n[barred]\nsubjects = ["executor:ex3"]\n')
    stream.beat()
    code, reason, message = refusal(stream.read_on)
    assert (code, reason) == (DENIED, "NOT_ALLOWED")
    assert message.startswith(
        "Cannot serve snapshotd.api.v1.ExecutorService/Attach to executor:ex3: it was barred since"
    )
    assert recorded(auditor, "executor:ex3", "NOT_ALLOWED", "Attach") == message
    assert refusal(Stream(stolen, "hv01").read)[:2] == (DENIED, "NOT_ALLOWED")
    run(at, "olga", "snapshot", "create", "web01", "--name", "the other executor works", "--wait")


def test_a_foreign_certificate_and_one_that_has_expired_get_through_no_handshake(at: Machines) -> None:
    names = ("snapshotd://user/ada",)
    foreign = Authority("Ops users")
    foreign.issue("ada", names).write(at.at, "foreign")
    Authority.at(at.at / "users").issue("ada", names, ends=timedelta(seconds=-1)).write(at.at, "late")
    for name in ("foreign", "late"):
        with pytest.raises(grpc.RpcError) as failed:
            list_hosts(at.by_certificate(name))()
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        at.context(name)
    said = at.type_as("foreign", "host", "list")
    assert said.code == 6
    assert re.search(
        r"The server refused the certificate \S+/foreign\.pem \(CN=ada, issued by CN=Ops users\)", said.err
    )
    said = at.type_as("late", "host", "list")
    assert re.search(r"Cannot use --certificate \S+/late\.pem: the certificate of CN=ada expired on", said.err)


def test_a_certificate_that_expires_on_an_open_connection_is_refused_from_then_on(
    at: Machines, soon_late: Client, auditor: Client
) -> None:
    until(lambda: refused_of(soon_late) != (DENIED, "NOT_ALLOWED"))
    assert refused_of(soon_late) == (NO_SIGN_IN, "CERTIFICATE_EXPIRED")
    assert "CN=eve" in recorded(auditor, "anonymous", "CERTIFICATE_EXPIRED", "ListHosts")
    listed = run(at, "audit", "audit", "list", "--type", "CallRefused").out
    for reason in ("AUDIENCE_WRONG", "TOKEN_REVOKED", "VIRTUAL_MACHINE_NOT_FOUND", "CERTIFICATE_EXPIRED"):
        assert f"({reason})" in listed
