"""What `--verbose` writes, and what it never does."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from demo.programs import Daemon, Executor, SimulatedHost
from tests.e2e.system import Client, inventory

_NTLM = b"NTLMSSP\0"
"""What each message of signing in by NTLM begins with: challenge and response can be tried for the password."""


@pytest.mark.slow
def test_a_verbose_executor_that_signs_in_writes_no_message_of_ntlm(tmp_path: Path) -> None:
    described, ids = inventory(["web01"], {})
    with SimulatedHost(tmp_path / "hv01", described) as host, Daemon(tmp_path / "daemon", executor=False) as daemon:
        executor = Executor(tmp_path / "executor", daemon.address, ["hv01"])
        executor.arguments.insert(0, "--verbose")
        with executor:
            client = Client(daemon.address)
            client.register_host(host.port)
            client.register_vm(ids["web01"])
            client.channel.close()
        log = executor.log.read_text(encoding="utf-8")
    assert f"attached to {daemon.address}" in log
    for written in (base64.b64encode(_NTLM[:6]).decode(), _NTLM.hex(), _NTLM.hex().upper(), "NTLMSSP"):
        assert written not in log
    told = {line.split()[2].partition(".")[0] for line in log.splitlines() if " DEBUG " in line}
    assert told <= {"snapshotd"}, told
