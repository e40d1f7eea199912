"""Secrets are in no log, no file of the storage, no answer and no error, whoever sends them and wherever."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from demo.programs import CREDENTIAL, PASSWORD, Daemon, Executor, SimulatedHost
from snapshotd.access.local_tokens import TokenFile
from snapshotd.api.v1.host_pb2 import ListHostsRequest
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.client.__main__ import main as snapshotctl
from tests.certificates import Authority
from tests.e2e.system import QUICK, inventory, until

SERVERS, EXECUTORS = Authority("servers"), Authority("executors")
CANARY = "canary-5f0c2d9e77"


def spoilt(secret: str) -> list[tuple[str, str]]:
    """Return metadata that hold a secret where it belongs, in a wrong form, and where it does not belong."""
    part = base64.urlsafe_b64encode(f'{{"alg":"RS256","sub":"{secret}"}}'.encode()).decode().rstrip("=")
    return [
        ("authorization", f"Bearer {secret}"),
        ("authorization", f"Bearer {part}.{part}.{secret}"),
        ("authorization", f"Bearer snapshotd_00000000_{secret}"),
        ("authorization", f"Basic {secret}"),
        ("x-snapshotd-executor-secret", secret),
    ]


def refusals(address: str, ca: Path) -> str:
    """Send secrets that open nothing; return what is answered."""
    answers = []
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(ca.read_bytes())) as channel:
        for pair in spoilt(CANARY):
            for metadata in ((pair,), (pair, pair)):
                with pytest.raises(grpc.RpcError) as refused:
                    HostServiceStub(channel).ListHosts(ListHostsRequest(), metadata=metadata, timeout=20)
                answers.append(f"{refused.value!r} {refused.value.trailing_metadata()!r}")
    return "\n".join(answers)


def as_written(secret: str) -> list[bytes]:
    """Return how a secret may stand in a file."""
    plain, wide = secret.encode(), secret.encode("utf-16-le")
    return [plain, wide, base64.b64encode(plain).rstrip(b"=")[:-1], plain.hex().encode()]


@pytest.mark.slow
def test_a_job_with_every_credential_leaves_no_secret_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca = SERVERS.write(tmp_path, "servers-ca")
    server = SERVERS.issue("server").write(tmp_path, "server")
    own = EXECUTORS.issue("e1", ("snapshotd://executor/e1", "snapshotd://host/*")).write(tmp_path, "executor")
    storage, token_file = tmp_path / "daemon" / "storage", tmp_path / "ann.token"
    token, _ = TokenFile(tmp_path / "tokens.json").issue("ann", timedelta(hours=1), "test", datetime.now(UTC))
    token_file.touch(0o600)
    token_file.write_text(token)
    (tmp_path / "roles.toml").write_text('[[binding]]\nrole = "admin"\nsubjects = ["token:ann"]\n')
    of_server = {
        "server-listen-mtls": "127.0.0.1:0",
        "server-executor-ca": EXECUTORS.write(tmp_path, "executors-ca"),
        "server-certificate": server[0],
        "server-key": server[1],
        "auth-mode": "required",
        "auth-roles": tmp_path / "roles.toml",
        "auth-tokens": tmp_path / "tokens.json",
    }
    flags = [text for name, value in of_server.items() for text in (f"--{name}", str(value))]
    of_executor = ["--executor-ca", str(ca), "--executor-certificate", str(own[0]), "--executor-key", str(own[1])]
    said: list[str] = []

    def ann(*arguments: str) -> None:
        """Run snapshotctl as ann."""
        signed = ("--server", daemon.address, "--ca", str(ca), "--token-file", str(token_file))
        ended = snapshotctl([*arguments, *signed], {"HOME": str(tmp_path)})
        said.extend(capsys.readouterr())
        assert ended == 0, said[-1]

    with (
        SimulatedHost(tmp_path / "hv01", inventory(["web01"], {})[0]) as host,
        Daemon(tmp_path / "daemon", executor=False, options=[*QUICK, *flags]) as daemon,
    ):
        executor = Executor(tmp_path / "executor", daemon.mtls_address, ["hv01"], of_executor)
        executor.arguments.insert(0, "--verbose")
        with executor:
            ann("host", "add", "hv01", "127.0.0.1", "--port", str(host.port), "--credential", CREDENTIAL)
            until(lambda: "attached to" in executor.log.read_text(encoding="utf-8"))
            ann("vm", "register", "hv01", "web01")
            ann("snapshot", "create", "web01", "--name", "before", "--wait")
            said.append(refusals(daemon.address, ca))
            until(lambda: "CallRefused" in _listed(ann, said))
    told = {file: file.read_bytes() for file in storage.rglob("*") if file.is_file()}
    assert {"events.db", "views.db"} <= {file.name for file in told}
    told |= {log: log.read_bytes() for log in (executor.log, daemon.log)}
    told[Path("answers")] = "\n".join(said).encode()
    keys = [line for key in (server[1], own[1]) for line in key.read_text().splitlines() if "-----" not in line]
    for secret in (PASSWORD, token.rpartition("_")[2], CANARY, *keys):
        for written in as_written(secret):
            assert not [file for file, content in told.items() if written in content], secret
    assert b"before" in told[Path("answers")]
    assert any(b"token:ann" in content for file, content in told.items() if file.name == "events.db")


def _listed(ann: object, said: list[str]) -> str:
    assert callable(ann)
    ann("audit", "list", "--type", "CallRefused")
    return said[-2]
