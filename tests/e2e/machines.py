"""A server that knows its callers, an executor, a host and an identity provider, each at an address of its own.

127.0.0.2   snapshotd serve; callers with tokens, and callers with certificates
127.0.0.3   a simulated host
127.0.0.4   the identity provider
127.0.0.1   the executor, and people with snapshotctl
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc
from joserfc import jwt
from joserfc.jwk import ECKey

from demo.programs import Daemon, Executor, SimulatedHost
from snapshotd.__main__ import main as snapshotd
from snapshotd.api.v1 import audit_pb2
from snapshotd.client.__main__ import main as snapshotctl
from tests.e2e.system import QUICK, Client, inventory, until
from tests.site import Site, body

SERVER, HOST, PROVIDER = "127.0.0.2", "127.0.0.3", "127.0.0.4"
ROLES: Final = """
[[binding]]
role = "admin"
subjects = ["certificate:ada"]

[[binding]]
role = "operator"
subjects = ["oidc:olga", "token:portal"]
account = "acme"

[[binding]]
role = "delegate"
subjects = ["token:portal"]

[[binding]]
role = "operator"
subjects = ["oidc:otto"]
account = "globex"

[[binding]]
role = "auditor"
subjects = ["token:audit"]
"""


class IdentityProvider:
    """An identity provider, which signs with the newest of its keys."""

    def __init__(self) -> None:
        self._site = Site(address=PROVIDER)
        self.issuer = f"{self._site.url}/ops"
        self._site.answers["/ops/.well-known/openid-configuration"] = body(
            {"issuer": self.issuer, "jwks_uri": f"{self._site.url}/keys"}
        )
        self._keys: dict[str, ECKey] = {}
        self.add("k1")

    def add(self, kid: str) -> None:
        """Publish another key, and sign with it from now on."""
        self._keys[kid] = ECKey.generate_key("P-256")
        self._publish()

    def withdraw(self, kid: str) -> None:
        """Take a key out of those that are published."""
        del self._keys[kid]
        self._publish()

    def _publish(self) -> None:
        keys = [{**key.as_dict(private=False), "kid": kid} for kid, key in self._keys.items()]
        self._site.answers["/keys"] = body({"keys": keys})

    def token(self, name: str, audience: str = "snapshotd", valid_s: float = 300, kid: str = "") -> str:
        """Issue a token. One that names a key which is not published is forged."""
        key = self._keys.get(kid) or ([*self._keys.values()][-1] if not kid else ECKey.generate_key("P-256"))
        claims = {"iss": self.issuer, "aud": audience, "sub": name, "exp": int(time.time() + valid_s)}
        return jwt.encode({"alg": "ES256", "kid": kid or [*self._keys][-1]}, claims, key)

    def close(self) -> None:
        """End it."""
        self._site.close()


@dataclass(frozen=True)
class Said:
    """What snapshotctl printed, and its exit code."""

    code: int
    out: str
    err: str


class Machines:
    """All of it, started, with a host hv01 that is not registered yet.

    Args:
        at: a directory for everything.
        names: the VMs on the host.
    """

    def __init__(self, at: Path, names: Sequence[str]) -> None:
        self.at = at
        described, self.ids = inventory(names, {})
        self._stack = ExitStack()
        for whom in ("servers", "users", "executors"):
            self.authority(whom)
            self.trust(whom, whom)
        self.issue("servers", "server", "--server", SERVER)
        self.issue("executors", "ex1", "--executor", "ex1", "--host", "hv01")
        self.roles(ROLES)
        self.provider = IdentityProvider()
        self._stack.callback(self.provider.close)
        self.host = SimulatedHost(at / "hv01", described)
        self.host.listening = f"{HOST}:0"
        options = {
            "--server-listen-mtls": f"{SERVER}:0",
            "--server-certificate": at / "server.pem",
            "--server-key": at / "server.key",
            "--server-user-ca": at / "users-ca.pem",
            "--server-executor-ca": at / "executors-ca.pem",
            "--auth-mode": "required",
            "--auth-roles": at / "roles.toml",
            "--auth-tokens": at / "tokens.json",
            "--auth-oidc-issuer": self.provider.issuer,
            "--auth-oidc-audience": "snapshotd",
        }
        told = [str(part) for pair in options.items() for part in pair]
        self.daemon = Daemon(at / "daemon", executor=False, options=[*QUICK, *told])
        self.daemon.address = f"{SERVER}:0"
        self._clients: list[Client] = []

    def __enter__(self) -> Self:
        with ExitStack() as unless_started:
            unless_started.push(self._stack)
            self._stack.enter_context(self.host)
            self._stack.enter_context(self.daemon)
            self.executor = self.start_executor("ex1", ["hv01"])
            self.attached(self.executor)
            unless_started.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for client in self._clients:
            client.channel.close()
        self._stack.close()

    def authority(self, whom: str, directory: str = "") -> None:
        """Make an authority for servers, users or executors, in the directory of their name or another one."""
        self.operate("certificate", "authority", self.at / (directory or whom), "--name", f"Ops {whom}", "--for", whom)

    def issue(self, authority: str, name: str, *whom: str) -> None:
        """Issue a certificate as NAME.pem and NAME.key, over those that may be there."""
        self.operate("certificate", "issue", self.at / authority, *whom, "--out", self.at / f"{name}.pem", "--replace")

    def trust(self, whom: str, *authorities: str) -> None:
        """Write whom everybody takes to issue certificates of servers, users or executors."""
        self.write(f"{whom}-ca.pem", b"".join((self.at / one / "ca.pem").read_bytes() for one in authorities))

    def write(self, name: str, content: bytes) -> None:
        """Write a file in one step, as long as others read it."""
        new = self.at / f"{name}.new"
        new.write_bytes(content)
        new.replace(self.at / name)

    def operate(self, *arguments: str | Path) -> None:
        """Run an operator's command, which succeeds."""
        assert snapshotd([str(argument) for argument in arguments]) == 0

    def issue_token(self, name: str) -> str:
        """Issue a local token. Return it."""
        printed = io.StringIO()
        with redirect_stdout(printed):
            self.operate("token", "issue", name, "--auth-tokens", self.at / "tokens.json")
        return printed.getvalue().strip()

    def revoke_token(self, which: str) -> None:
        """Revoke a local token."""
        self.operate("token", "revoke", which, "--auth-tokens", self.at / "tokens.json")

    def roles(self, text: str) -> None:
        """Write the roles."""
        self.write("roles.toml", text.encode())

    def start_executor(self, certificate: str, hosts: Sequence[str]) -> Executor:
        """Start an executor with a certificate."""
        own = [
            *("--executor-ca", str(self.at / "servers-ca.pem")),
            *("--executor-certificate", str(self.at / f"{certificate}.pem")),
            *("--executor-key", str(self.at / f"{certificate}.key")),
        ]
        executor = Executor(self.at / f"executor-{certificate}", self.daemon.mtls_address, hosts, own)
        return self._stack.enter_context(executor)

    def attached(self, executor: Executor, times: int = 1) -> None:
        """Wait until an executor has attached so many times."""
        until(lambda: len(re.findall("executor ex-.* attached to", executor.log.read_text(encoding="utf-8"))) >= times)

    def by_token(self, token: str, ca: bytes = b"") -> Client:
        """Return a new connection of a caller with a token.

        Args:
            token: of the caller.
            ca: whom the caller takes to issue the server's certificate, if it is not as everybody does.
        """
        tls = grpc.ssl_channel_credentials(ca or (self.at / "servers-ca.pem").read_bytes())
        signing = grpc.access_token_call_credentials(token)
        return self._kept(Client(self.daemon.address, grpc.composite_channel_credentials(tls, signing)))

    def by_certificate(self, name: str) -> Client:
        """Return a new connection of a caller with the certificate NAME.pem."""
        own = ((self.at / f"{name}.key").read_bytes(), (self.at / f"{name}.pem").read_bytes())
        tls = grpc.ssl_channel_credentials((self.at / "servers-ca.pem").read_bytes(), *own)
        return self._kept(Client(self.daemon.mtls_address, tls))

    def _kept(self, client: Client) -> Client:
        self._clients.append(client)
        return client

    def context(self, name: str, token: str = "") -> None:
        """Make a context of snapshotctl for somebody, who signs in by a token, or by the certificate NAME.pem."""
        how: list[str | Path] = ["--server", self.daemon.mtls_address]
        how += ["--certificate", self.at / f"{name}.pem", "--key", self.at / f"{name}.key"]
        if token:
            file = self.at / f"{name}.token"
            file.touch(mode=0o600)
            file.write_text(token, encoding="utf-8")
            how = ["--server", self.daemon.address, "--token-file", file]
        said = self.type_as("", "context", "set", name, "--ca", self.at / "servers-ca.pem", *how)
        assert said.code == 0, said.err

    def type_as(self, context: str, *arguments: str | Path, apart: bool = False) -> Said:
        """Run snapshotctl by a context, in a process of its own or in this one, which is quicker."""
        typed = [str(argument) for argument in arguments]
        environ = {"HOME": str(self.at), "PATH": os.environ.get("PATH", "")}
        environ |= {"SNAPSHOTD_CONTEXT": context} if context else {}
        if not apart:
            out, err = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(err):
                code = snapshotctl(typed, environ)
            return Said(code, out.getvalue(), err.getvalue())
        command = [sys.executable, "-m", "snapshotd.client", *typed]
        ran = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=100, check=False)
        return Said(ran.returncode, ran.stdout, ran.stderr)

    def add_host(self, admin: Client, owners: dict[str, str]) -> None:
        """Register the host and its VMs, each for its owner."""
        admin.register_host(self.host.port, address=HOST)
        for name, owner in owners.items():
            admin.register_vm(self.ids[name], owner)


def refusals(auditor: Client, actor: str) -> list[dict[str, Any]]:
    """Return what the events tell of the refused calls of somebody."""
    answer = auditor.audit.ListEvents(audit_pb2.ListEventsRequest(type="CallRefused", actor=actor, page_size=1000))
    return [dict(event.data) for event in answer.events]
