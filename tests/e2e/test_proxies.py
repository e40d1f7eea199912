"""With proxies in the environment, as on most company machines, this machine and the hosts are reached directly."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.programs import Daemon, SimulatedHost
from tests.e2e.system import System, inventory

VARIABLES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Proxy:
    """A proxy that leads nowhere, and counts who tried it."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.tried = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            came, _ = self._socket.accept()
            with came:
                if not came.recv(1):
                    return
                self.tried += 1
                came.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def close(self) -> None:
        """Stop."""
        socket.create_connection(self._socket.getsockname()).close()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    proxy = Proxy()
    for variable in VARIABLES:
        monkeypatch.setenv(variable, proxy.url)
    yield proxy
    proxy.close()


def ctl(address: str, *arguments: str) -> str:
    """Run snapshotctl with this environment; return what it printed."""
    command = [sys.executable, "-m", "snapshotd.client", "--server", address, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_client_and_executor_reach_the_server_and_the_executor_its_host(tmp_path: Path, proxy: Proxy) -> None:
    with System(tmp_path, ("web01",)) as system:
        assert "web01" in ctl(system.daemon.address, "host", "discover", "hv01")
    assert proxy.tried == 0


@pytest.mark.slow
def test_the_daemons_own_executor_attaches_and_reaches_its_host(tmp_path: Path, proxy: Proxy) -> None:
    described, _ = inventory(("web01",), {})
    with SimulatedHost(tmp_path / "hv01", described) as host, Daemon(tmp_path / "daemon") as daemon:
        ctl(daemon.address, "host", "add", "hv01", "127.0.0.1", "--port", str(host.port), "--credential", "hyperv")
        assert "web01" in ctl(daemon.address, "host", "discover", "hv01")
    assert proxy.tried == 0
