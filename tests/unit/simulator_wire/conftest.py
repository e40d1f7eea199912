"""A WS-Management endpoint over the echo engine, and pywinrm's own Protocol as its client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import requests
import urllib3.exceptions
from winrm.protocol import Protocol

from snapshotd.simulator.network import Network
from snapshotd.simulator.ntlm import Accounts
from snapshotd.simulator.shells import Quotas, Shells
from snapshotd.simulator.wsman import WsmanEndpoint
from tests.unit.simulator_wire.echo_engine import EchoEngine

USER, PASSWORD = "svc", "corr'ct h<rse"

CUT = (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError, ConnectionError)
"""What pywinrm lets through when its connection is cut, or it has waited too long."""


@dataclass
class Wire:
    """One endpoint and its parts."""

    engine: EchoEngine
    network: Network
    shells: Shells
    endpoint: WsmanEndpoint
    clients: list[Protocol] = field(default_factory=list)

    def client(self, user: str = USER, password: str = PASSWORD, operation_s: int = 5) -> Protocol:
        """Make a pywinrm client, not connected yet."""
        protocol = Protocol(
            f"http://{self.endpoint.address}/wsman",
            transport="ntlm",
            username=user,
            password=password,
            proxy=None,
            ca_trust_path=None,  # type: ignore[arg-type]  # documented, and not in its type
            read_timeout_sec=operation_s + 5,
            operation_timeout_sec=operation_s,
        )
        self.clients.append(protocol)
        return protocol

    def serve(self, operation_s: int = 5) -> tuple[Protocol, str, str]:
        """Open a shell with a kept process in it."""
        protocol = self.client(operation_s=operation_s)
        shell = protocol.open_shell(codepage=65001)
        return protocol, shell, protocol.run_command(shell, "serve", console_mode_stdin=False)


def read_line(protocol: Protocol, shell: str, command: str) -> bytes:
    """Receive until there is a whole line."""
    text = b""
    while not text.endswith(b"\n"):
        stdout, _, _, done = protocol.get_command_output_raw(shell, command)
        text += stdout
        assert not done or text.endswith(b"\n")
    return text


def open_wire(quotas: Quotas, engine: EchoEngine) -> Wire:
    """Start an endpoint on a free port of loopback."""
    network = Network()
    shells = Shells(engine, network, quotas)
    endpoint = WsmanEndpoint("127.0.0.1:0", Accounts(f"{USER}:{PASSWORD}", "HV01"), shells, network, "HV01")
    endpoint.start()
    return Wire(engine, network, shells, endpoint)


def close_wire(wire: Wire) -> None:
    """Close the clients and the endpoint."""
    for client in wire.clients:
        client.transport.close_session()
    wire.endpoint.close()
    wire.endpoint.accounts.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = open_wire(Quotas(), EchoEngine())
    yield made
    close_wire(made)


@pytest.fixture
def wire_with() -> Iterator[Callable[..., Wire]]:
    made: list[Wire] = []

    def make(quotas: Quotas, engine: EchoEngine | None = None) -> Wire:
        made.append(open_wire(quotas, engine or EchoEngine()))
        return made[-1]

    yield make
    for one in made:
        close_wire(one)
