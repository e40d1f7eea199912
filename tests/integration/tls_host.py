"""A simulated host that serves https beside http and takes every way to sign in, and an executor's ways to it."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from demo.programs import PASSWORD, USERNAME
from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand, HostConnection, NoAnswer
from snapshotd.hyperv.credentials import Credentials
from snapshotd.hyperv.pool import HostPool, HostPools, PoolSettings
from snapshotd.hyperv.script import command_line, kept_script, script_sha256
from snapshotd.hyperv.winrs import WinRsLimits
from snapshotd.simulator.builtin import AcceptedScript, BuiltinEngine
from snapshotd.simulator.certificates import HostCertificates, LittleCa
from snapshotd.simulator.model import SimulatedHyperV, open_host
from snapshotd.simulator.running import RunningHost
from snapshotd.simulator.settings import SimulateHostSettings
from snapshotd.simulator.ways_in import WaysIn
from tests.host_script.host_commands import effect, look, observe
from tests.host_script.recording_host import WEB

SETTINGS = PoolSettings(sessions_per_host=1, limits=WinRsLimits(connect_s=5, operation_s=5, margin_s=5, close_s=2))
ALL = frozenset({"negotiate", "basic", "certificate", "credssp"})


class TlsHost:
    """The host, and credentials of every kind for it."""

    def __init__(self, directory: Path, model: SimulatedHyperV, offered: frozenset[str]) -> None:
        self.credentials = directory / "credentials"
        self.credentials.mkdir()
        self.clients = LittleCa("clients")
        (directory / "clients.pem").write_bytes(self.clients.pem)
        self.certificates = HostCertificates(
            directory / "tls", ("localhost", "127.0.0.1"), client_ca=directory / "clients.pem"
        )
        self.model = model
        script = AcceptedScript(command_line(kept_script()), script_sha256())
        self.running = RunningHost(
            self.model,
            BuiltinEngine(self.model, script),
            f"{USERNAME}:{PASSWORD}",
            ways=WaysIn(offered, self.certificates, "127.0.0.1:0"),
        )
        self.write("password", f"{USERNAME}:{PASSWORD}")
        self.write("certificate", self.clients.issue("snapshotd").pem.decode())
        self._tokens = count(1)

    def write(self, name: str, text: str) -> None:
        """Write a credential."""
        (self.credentials / name).touch(0o600)
        (self.credentials / name).write_text(text, encoding="utf-8")

    def way(self, transport: str, credential: str = "password", **fields: object) -> HostConnection:
        """Return a way to the host."""
        over_https = transport.endswith("_HTTPS")
        address = self.running.https if over_https else self.running.listening
        way = HostConnection(
            host="hosts/hv01",
            address="localhost" if over_https or transport.startswith("KERBEROS") else "127.0.0.1",
            port=int(address.rpartition(":")[2]),
            transport=HostConnection.Transport.Value(transport),
            credential=credential,
            ca_file=str(self.certificates.ca_file) if over_https else "",
        )
        for name, value in fields.items():
            setattr(way, name, value)
        return way

    def pools(self) -> HostPools:
        """Return an executor's pools."""
        return HostPools(Credentials(self.credentials, {}), kept_script(), SETTINGS)

    async def ask(self, way: HostConnection, pools: HostPools | None = None) -> tuple[str, str]:
        """Ask for a report in a new pool; return the reason why there is none, and the words; empty: there is one."""
        pool = (pools or self.pools()).open(way)
        answer = await pool.run(look(), 20)
        await pool.close(5)
        return (NoAnswer.Reason.Name(answer.reason), answer.detail) if isinstance(answer, NoAnswer) else ("", "")

    async def create_revert_delete(self, pool: HostPool) -> list[str]:
        """Take a checkpoint, go back to it and remove it; return the verdicts."""
        verdicts = []
        for action in ("checkpoint_create", "checkpoint_restore", "checkpoint_remove"):
            journal = (await self._run(pool, observe(next(self._tokens)))).vms[0].journal.journal_id
            token = next(self._tokens)
            command = effect(action, self.model, journal, token, step=token)
            if action == "checkpoint_create":
                command.checkpoint_create.checkpoint_name = "nightly"
            else:
                getattr(command, action).checkpoint_id = self.checkpoint()
            answer = await self._run(pool, command)
            verdicts.append(HostAnswer.Verdict.Name(answer.verdict))
        return verdicts

    def checkpoint(self) -> str:
        """Return the id of the VM's checkpoint."""
        vm = self.model.vm(WEB)
        assert vm is not None
        return vm.checkpoints[0].checkpoint_id

    async def _run(self, pool: HostPool, command: HostCommand) -> HostAnswer:
        async with asyncio.timeout(30):
            answer = await pool.run(command, 20)
        assert isinstance(answer, HostAnswer), answer
        return answer


@contextmanager
def tls_host(directory: Path, offered: frozenset[str] = ALL) -> Iterator[TlsHost]:
    """Serve such a host."""
    vms = [{"id": WEB, "name": "web01", "state": "Running", "disks": [{"location": "SCSI:0:0"}]}]
    (directory / "inventory.json").write_text(json.dumps({"host": {"name": "hv01"}, "vms": vms}))
    settings = SimulateHostSettings(
        listen="",
        control="",
        state=directory / "state",
        inventory=directory / "inventory.json",
        truth=directory / "truth.jsonl",
        credential=directory,
        engine="builtin",
        pwsh=None,
        rtt_ms=0,
        powershell_start_ms=0,
        durations={},
    )
    with open_host(settings) as model:
        host = TlsHost(directory, model, offered)
        host.running.start()
        try:
            yield host
        finally:
            host.running.close()


class Relay:
    """Somebody between an executor and the host, with a certificate of its own, who passes on what it reads.

    Args:
        host: the host.
        issuer: of its certificate.
    """

    def __init__(self, host: TlsHost, issuer: LittleCa) -> None:
        self._target = int(host.running.https.rpartition(":")[2])
        self._own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pem = host.credentials.parent / "between-key.pem"
        pem.write_bytes(issuer.issue("localhost", ("localhost",)).pem)
        self._own.load_cert_chain(pem)
        self._there = ssl.create_default_context(cafile=str(host.certificates.ca_file))

    def __enter__(self) -> int:
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return int(self._server.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _serve(self) -> None:
        with suppress(OSError):
            accepted, _ = self._server.accept()
            with (
                self._own.wrap_socket(accepted, server_side=True) as here,
                socket.create_connection(("127.0.0.1", self._target)) as plain,
                self._there.wrap_socket(plain, server_hostname="localhost") as there,
            ):
                while request := here.recv(65536):
                    there.sendall(request)
                    here.sendall(there.recv(65536))
