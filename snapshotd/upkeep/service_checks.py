"""The doctor on the service itself: whether its address is free or served, and what a running one says of itself."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Final

from snapshotd.api.v1.admin_pb2 import GetStatusRequest, GetStatusResponse
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.render import counted
from snapshotd.server.address import AddressInUse, check_address
from snapshotd.store.copying import installation_of
from snapshotd.tls import ClientFiles, TlsFile
from snapshotd.tls_problems import Words, explain
from snapshotd.upkeep.archive import LOG
from snapshotd.upkeep.file_checks import pair_of
from snapshotd.upkeep.findings import Finding, Ground, error, ok, warning

_PATIENCE_S: Final = 3.0
_TOLD: Final = 5
"""The most of one sort that is told one by one."""
_OURS: Final = Words("executor.ca", "executor.certificate")
_US: Final = "snapshotd-doctor"


def service(ground: Ground) -> Iterator[Finding]:
    """Look at the addresses, and ask a daemon that serves there; of an executor, at that of its server."""
    if not ground.serves:
        yield from _server(ground, ground.settings.text("executor.server"))
        return
    for name in ("server.listen", "server.listen_mtls"):
        if address := ground.settings.text(name):
            yield from _served(ground, address)


def _server(ground: Ground, address: str) -> Iterator[Finding]:
    """Look whether an executor can reach its server, and whether their certificates go together."""
    if not _answers(address):
        yield error("server", f"Nobody answers at {address}. Start the service, or set executor.server.")
        return
    authority = ground.file("executor.ca")
    files = None if authority is None else ClientFiles(TlsFile("executor.ca", authority), pair_of(ground))
    problem = explain(address, files, _OURS) if not address.startswith("unix:") else ""
    yield error("server", f"{address}: {problem}") if problem else ok("server", f"{address} answers.")


def _served(ground: Ground, address: str) -> Iterator[Finding]:
    if not _answers(address):
        try:
            check_address(address)
        except AddressInUse as problem:
            yield error("address", str(problem))
        else:
            yield ok("address", f"{address} is free; no service runs there now.")
        return
    if ground.file("server.certificate") is not None and not address.startswith("unix:"):
        yield ok("service", f"{address} is served, over TLS. Ask it with `snapshotctl status`.")
        return
    try:
        with Server(address, _US, _PATIENCE_S, pause=_give_up) as server:
            status = server.call(server.admin.GetStatus, GetStatusRequest())
    except Failed as problem:
        yield error("service", f"{address} is taken, and cannot be asked: {problem}")
        return
    said = f"{address} is served by snapshotd {status.version}, installation {status.installation_id}"
    directory = ground.settings.storage
    own = installation_of(directory / LOG)
    if own in ("", status.installation_id):
        yield ok("service", f"{said}.")
    else:
        yield error(
            "service",
            f"{said}, while the log in {directory} is of installation {own}. Set another server.listen, or the "
            "storage.directory of the service that runs.",
        )
    yield from troubles(status)


def troubles(status: GetStatusResponse) -> Iterator[Finding]:
    """Yield what a running service says is wrong."""
    for problem in status.problems[:_TOLD]:
        yield warning("service", f"{problem.subject}: {problem.message}")
    if (more := len(status.problems) - _TOLD) > 0:
        yield warning("service", f"{counted(more, 'more problem')}. See `snapshotctl status`.")
    away = [host for host in status.hosts if not host.reachable]
    for host in away[:_TOLD]:
        yield warning(
            "hosts", f"{host.host.rpartition('/')[2]} is not reached: {host.wait.message or 'not asked yet.'}"
        )
    if len(away) > _TOLD:
        yield warning("hosts", f"{counted(len(away) - _TOLD, 'more host')} not reached. See `snapshotctl status`.")
    if not away and status.hosts:
        yield ok("hosts", f"{counted(len(status.hosts), 'host')}, all reached.")
    if status.overdue_operation_count:
        oldest = status.overdue_operations[0]
        told = f"{counted(status.overdue_operation_count, 'operation')} overdue; the oldest, {oldest.operation}"
        yield warning("operations", f"{told}: {oldest.message}")
    else:
        yield ok("operations", "None is overdue.")


def _answers(address: str) -> bool:
    """Return whether somebody takes connections at an address."""
    try:
        if address.startswith("unix:"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
                tried.settimeout(_PATIENCE_S)
                tried.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            if not int(port):
                return False
            socket.create_connection((host.removeprefix("[").removesuffix("]"), int(port)), _PATIENCE_S).close()
    except OSError:
        return False
    return True


def _give_up(_: float) -> None:
    """Raise Failed, where others would wait for a server that may come back."""
    raise Failed("It does not answer as snapshotd.", ExitCode.UNAVAILABLE)
