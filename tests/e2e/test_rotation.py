"""What proves who somebody is gets replaced, piece by piece, while fifty operations run: none fails, and no call does.

A lot of operations is let go beside each replacement, and each operation has a connection of its own. What was taken
out is refused afterwards.
"""

from __future__ import annotations

import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

import grpc
import pytest
from cryptography import x509
from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import host_pb2, snapshot_pb2
from snapshotd.api.v1.operation_pb2 import WatchOperationsRequest
from snapshotd.api.v1.operation_pb2_grpc import OperationServiceStub
from tests.e2e.machines import ROLES, SERVER, Machines
from tests.e2e.system import Client, refusal, until

T = TypeVar("T")

NAMES = tuple(f"vm{n}" for n in range(1, 6))
OPERATIONS = 50
LOT = 7
ADMIN = '\n[[binding]]\nrole = "admin"\nsubjects = ["token:ci", "token:watcher"]\n'
NO_SIGN_IN = grpc.StatusCode.UNAUTHENTICATED


class Held(Generic[T]):
    """What callers hold. It is replaced without a gap: whoever uses the former ends that first."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._users = {value: 0}
        self._changed = threading.Condition()

    @contextmanager
    def used(self) -> Iterator[T]:
        """Give it for some use."""
        with self._changed:
            value = self._value
            self._users[value] += 1
        try:
            yield value
        finally:
            with self._changed:
                self._users[value] -= 1
                self._changed.notify_all()

    def replace(self, value: T) -> T:
        """Give another one from now on, wait until nobody uses the former, and return that."""
        with self._changed:
            former, self._value = self._value, value
            self._users[value] = 0
            assert self._changed.wait_for(lambda: not self._users[former], 60)
        return former


@dataclass
class Place:
    """Where all of it happens, and what callers hold."""

    at: Machines
    ci: Held[str]
    """A local token."""
    olga: Held[str]
    """A token of the identity provider."""
    trusted: Held[bytes]
    """Whom callers take to issue the server's certificate."""

    @contextmanager
    def caller(self, number: int) -> Iterator[Client]:
        """Give a new connection of one of the callers."""
        with (self.ci if number % 2 else self.olga).used() as token:
            with self.trusted.used() as ca:
                client = self.at.by_token(token, ca)
                grpc.channel_ready_future(client.channel).result(60)
            yield client
            client.channel.close()

    def shown(self) -> int:
        """Return the serial number of the certificate that the server shows now."""
        port = int(self.at.daemon.address.rpartition(":")[2])
        return x509.load_pem_x509_certificate(ssl.get_server_certificate((SERVER, port)).encode()).serial_number

    def refused(self, client: Client) -> tuple[grpc.StatusCode, str]:
        """Return the code and the reason with which a caller is refused."""
        return refusal(lambda: client.hosts.ListHosts(host_pb2.ListHostsRequest()))[:2]

    def turned_away(self, client: Client) -> bool:
        """Return whether somebody gets through no handshake."""
        with pytest.raises(grpc.RpcError) as failed:
            client.hosts.ListHosts(host_pb2.ListHostsRequest())
        return failed.value.code() is grpc.StatusCode.UNAVAILABLE


class Work:
    """Fifty operations on five VMs: each is created, reverted to and deleted, and that again."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._let_go = threading.Semaphore(0)
        self._count = 0
        self._begun: list[str] = []
        self.ended: list[str] = []
        self.failures: list[str] = []
        self._callers = [threading.Thread(target=self._operate, args=(n,)) for n in range(len(NAMES))]
        self._over = False

    def __enter__(self) -> Self:
        for caller in self._callers:
            caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self.let_go_all()
        self.join()

    def let_go(self, count: int) -> None:
        """Let some more operations begin. Return when one of them has."""
        self._let_go.release(count)
        self._count += count
        until(lambda: len(self._begun) + len(self.failures) > self._count - count)

    def let_go_all(self) -> None:
        """Let the rest begin."""
        self._let_go.release(OPERATIONS)

    def join(self) -> None:
        """Wait for the end."""
        for caller in self._callers:
            caller.join()

    def _operate(self, number: int) -> None:
        vm_id = self._place.at.ids[NAMES[number]]
        for turn in range(OPERATIONS // len(NAMES)):
            self._let_go.acquire()
            if self._over:
                return
            try:
                with self._place.caller(number + turn) as client:
                    operation = ask(client, vm_id, turn)
                    self._begun.append(operation.name)
                    self.ended.append(client.succeeded(operation).name)
            except (grpc.RpcError, grpc.FutureTimeoutError, AssertionError) as error:
                self.failures.append(f"{NAMES[number]}, {turn}: {error!r}")


def ask(client: Client, vm_id: str, turn: int) -> Operation:
    """Ask for the operation of a turn."""
    if turn % 3 == 0:
        return client.create(vm_id, f"s{turn}")
    (snapshot,) = client.list_snapshots(vm_id)
    if turn % 3 == 1:
        return client.snapshots.RevertToSnapshot(snapshot_pb2.RevertToSnapshotRequest(name=snapshot.name))
    return client.snapshots.DeleteSnapshot(snapshot_pb2.DeleteSnapshotRequest(name=snapshot.name))


class Watch:
    """A stream that was open before."""

    def __init__(self, client: Client) -> None:
        self._answers = OperationServiceStub(client.channel).WatchOperations(WatchOperationsRequest())
        self._done: set[str] = set()
        self._ended = ""
        self._reading = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._reading.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.cancel()
        self._reading.join()

    def _read(self) -> None:
        try:
            for answer in self._answers:
                if answer.operation.done:
                    self._done.add(answer.operation.name)
        except grpc.RpcError as error:
            self._ended = f"{error.code()}: {error.details()}"

    def saw(self, operations: list[str]) -> None:
        """Wait until it has told of the end of all operations."""
        until(lambda: set(operations) <= self._done or bool(self._ended))
        assert self._ended == ""

    def has_ended(self, why: str) -> None:
        """Wait until it has ended, for a reason."""
        until(lambda: bool(self._ended))
        assert why in self._ended


def server_renewed(place: Place) -> Callable[[], None]:
    """Renew the server's certificate."""
    former = place.shown()
    place.at.operate("certificate", "renew", place.at.at / "servers", place.at.at / "server.pem")
    renewed = place.shown()
    assert renewed != former
    return lambda: None


def servers_authority_changed(place: Place) -> Callable[[], None]:
    """Have the server's certificate issued by another authority."""
    at = place.at
    at.authority("servers", "servers2")
    at.trust("servers", "servers", "servers2")
    former = place.trusted.replace((at.at / "servers-ca.pem").read_bytes())
    at.issue("servers2", "server", "--server", SERVER)
    at.trust("servers", "servers2")
    place.trusted.replace((at.at / "servers-ca.pem").read_bytes())

    def check() -> None:
        with place.olga.used() as token:
            assert place.turned_away(at.by_token(token, former))

    return check


def executors_authority_changed(place: Place) -> Callable[[], None]:
    """Have the executor's certificate issued by another authority."""
    at = place.at
    for kind in ("pem", "key"):
        shutil.copy(at.at / f"ex1.{kind}", at.at / f"former.{kind}")
    opened = at.by_certificate("former")
    assert place.refused(opened) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED"), "an executor lists no hosts"
    at.authority("executors", "executors2")
    at.trust("executors", "executors", "executors2")
    at.issue("executors2", "ex1", "--executor", "ex1", "--host", "hv01")
    assert "detached from" not in at.executor.log.read_text(encoding="utf-8"), "what is attached stays attached"
    assert at.executor.stop() == 0
    at.executor.start()
    at.attached(at.executor, times=2)
    at.trust("executors", "executors2")

    def check() -> None:
        assert place.turned_away(at.by_certificate("former"))
        assert place.refused(opened) == (NO_SIGN_IN, "CERTIFICATE_FOREIGN"), "also over a connection from before"

    return check


def token_changed(place: Place) -> Callable[[], None]:
    """Issue another local token, hand it over, and revoke the former."""
    former = place.ci.replace(place.at.issue_token("ci"))
    place.at.revoke_token(former.split("_")[1])

    def check() -> None:
        assert place.refused(place.at.by_token(former)) == (NO_SIGN_IN, "TOKEN_REVOKED")

    return check


def providers_key_changed(place: Place) -> Callable[[], None]:
    """Have the identity provider sign with another key, and withdraw the former."""
    provider = place.at.provider
    provider.add("k2")
    former = place.olga.replace(provider.token("olga"))
    provider.withdraw("k1")

    def check() -> None:
        # Keys that are known stay in use until they are fetched anew, as for one that is not known.
        for token in (provider.token("olga", kid="k3"), former):
            assert place.refused(place.at.by_token(token)) == (NO_SIGN_IN, "KEY_UNKNOWN")

    return check


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_certificates_authorities_and_tokens_are_replaced_while_fifty_operations_run(tmp_path: Path) -> None:
    replacements = (
        *(server_renewed, servers_authority_changed, executors_authority_changed),
        *(token_changed, providers_key_changed),
    )
    with ExitStack() as stack:
        at = stack.enter_context(Machines(tmp_path, NAMES))
        at.roles(ROLES + ADMIN)
        trusted = (tmp_path / "servers-ca.pem").read_bytes()
        place = Place(at, Held(at.issue_token("ci")), Held(at.provider.token("olga")), Held(trusted))
        with place.ci.used() as token:
            admin = at.by_token(token)
            at.add_host(admin, dict.fromkeys(NAMES, "acme"))
            revoked = stack.enter_context(Watch(admin))
        watch = stack.enter_context(Watch(at.by_token(at.issue_token("watcher"))))
        work = stack.enter_context(Work(place))
        checks = []
        for replace in replacements:
            work.let_go(LOT)
            checks.append(replace(place))
        assert len(work.ended) < OPERATIONS
        work.let_go_all()
        work.join()
        assert work.failures == []
        assert len(set(work.ended)) == OPERATIONS
        watch.saw(work.ended)
        revoked.has_ended("it was revoked")
        for check in checks:
            check()
