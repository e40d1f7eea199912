"""Server, executor and client speak TLS with each other as processes, while the server's certificate is renewed."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.programs import CREDENTIAL, Daemon, Executor, NotStarted, Program, SimulatedHost
from snapshotd.__main__ import main as snapshotd
from snapshotd.client.__main__ import main as snapshotctl
from tests.certificates import Authority
from tests.e2e.system import QUICK, inventory, until

SERVERS, EXECUTORS, FOREIGN = Authority("servers"), Authority("executors"), Authority("foreign")


class Person:
    """Somebody with a home directory of its own, who types commands."""

    def __init__(self, home: Path, captured: pytest.CaptureFixture[str]) -> None:
        self._environ = {"HOME": str(home), "SNAPSHOTD_ACTOR": "ann"}
        self._captured = captured

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run snapshotctl; return what it said."""
        ended = snapshotctl(arguments, self._environ)
        out, err = self._captured.readouterr()
        assert ended == code, err
        return out + err


@pytest.mark.slow
def test_a_snapshot_is_taken_over_tls_while_the_servers_certificate_is_renewed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca = str(SERVERS.write(tmp_path, "servers-ca"))
    server = SERVERS.issue("server").write(tmp_path, "server")
    own = EXECUTORS.issue("e1", ("snapshotd://executor/e1", "snapshotd://host/*")).write(tmp_path, "executor")
    of_server = [
        *(
            "--server-listen-mtls",
            "127.0.0.1:0",
            "--server-executor-ca",
            str(EXECUTORS.write(tmp_path, "executors-ca")),
        ),
        *("--server-certificate", str(server[0]), "--server-key", str(server[1])),
    ]
    of_executor = ["--executor-ca", ca, "--executor-certificate", str(own[0]), "--executor-key", str(own[1])]
    described, _ = inventory(["web01"], {})
    ann = Person(tmp_path, capsys)
    with (
        SimulatedHost(tmp_path / "hv01", described) as host,
        Daemon(tmp_path / "daemon", executor=False, options=[*QUICK, *of_server]) as daemon,
        Executor(tmp_path / "executor", daemon.mtls_address, ["hv01"], of_executor) as executor,
    ):
        assert "It is the current one." in ann("context", "set", "here", "--server", daemon.address, "--ca", ca)
        ann("host", "add", "hv01", "127.0.0.1", "--port", str(host.port), "--credential", CREDENTIAL)
        until(lambda: "attached to" in executor.log.read_text(encoding="utf-8"))
        ann("vm", "register", "hv01", "web01")
        for name in ("before", "after"):
            ann("snapshot", "create", "web01", "--name", name, "--wait")
            SERVERS.issue(f"server {name}").write(tmp_path, "server")
        assert "after" in ann("snapshot", "tree", "web01")
        foreign = str(FOREIGN.write(tmp_path, "foreign-ca"))
        said = ann("host", "list", "--context", "here", "--ca", foreign, code=6)
        assert "(CN=server after, issued by CN=servers) is not trusted by --ca" in said
        assert "The server speaks TLS." in ann("host", "list", "--server", daemon.address, code=6)
        assert "andshake" not in daemon.log.read_text(encoding="utf-8"), "gRPC writes into no log of ours"
        told = executor.log.read_text(encoding="utf-8")
        assert (told.count("attached to"), told.count("detached")) == (1, 0), "a renewal breaks no attachment"


@pytest.mark.slow
def test_a_server_with_files_that_cannot_be_used_does_not_start(tmp_path: Path) -> None:
    certificate, _ = SERVERS.issue("server").write(tmp_path, "server")
    _, other = FOREIGN.issue("other").write(tmp_path, "other")
    arguments = ["serve", "--server-listen", "127.0.0.1:0", "--storage-directory", str(tmp_path / "storage")]
    arguments += ["--server-certificate", str(certificate), "--server-key", str(other)]
    with pytest.raises(NotStarted) as refused:
        Program(arguments, tmp_path / "log").start()
    assert refused.value.code == 2
    assert f"snapshotd serve: Cannot use server.key {other}: it is not the key of the certificate" in str(refused.value)


def test_an_executor_with_files_that_cannot_be_used_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, key = SERVERS.issue("server").write(tmp_path, "server")
    assert snapshotd(["executor", "--executor-ca", str(key)]) == 2
    assert f"Cannot use executor.ca {key}: it holds no certificate in PEM form" in capsys.readouterr().err
