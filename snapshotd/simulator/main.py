"""`snapshotd simulate-host`: opens the model, listens, prints one line, and waits for a signal to end.

Never chooses the model or the engine: bootstrap hands them in.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Final, TypeVar

from snapshotd.simulator.certificates import HostCertificates
from snapshotd.simulator.listener import PortInUse
from snapshotd.simulator.needs import ControlledHost, Engine
from snapshotd.simulator.running import RunningHost
from snapshotd.simulator.settings import SimulateHostSettings
from snapshotd.simulator.ways_in import WaysIn
from snapshotd.small_file import read_small, text_of

_LARGEST_CREDENTIAL: Final = 4096
"""Bytes; it is one line."""

H = TypeVar("H", bound=ControlledHost)


def run(
    settings: SimulateHostSettings,
    open_host: Callable[[SimulateHostSettings], AbstractContextManager[H]],
    make_engine: Callable[[H], Engine],
) -> int:
    """Serve a simulated host until SIGTERM or SIGINT; return the exit code, 2 if it cannot be served.

    Args:
        settings: what the command line said.
        open_host: opens the model on its state; left when the wire is closed.
        make_engine: makes what runs scripts on the model.
    """
    # Not an Event: its lock deadlocks if a signal comes while it is waited for. A SimpleQueue is reentrant.
    ended: SimpleQueue[int] = SimpleQueue()
    before = {number: signal.signal(number, _telling(ended)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        credential = text_of(read_small(settings.credential, _LARGEST_CREDENTIAL).content)
        with _owned(settings.state), open_host(settings) as host:
            running = RunningHost(
                host,
                make_engine(host),
                credential,
                listen=settings.listen,
                control=settings.control,
                rtt_s=settings.rtt_ms / 1000,
                start_s=settings.powershell_start_ms / 1000,
                ways=_ways(settings, host.name),
            )
            running.start()
            sys.stdout.write(_ready_line(running, settings) + "\n")
            sys.stdout.flush()
            ended.get()
            running.close()
    except (OSError, ValueError, LookupError, PortInUse) as error:
        sys.stderr.write(f"snapshotd simulate-host: {_said(error, settings)}\n")
        return 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


@contextmanager
def _owned(state: Path) -> Iterator[None]:
    """Keep a state directory for this process. Raises ValueError if another one has it."""
    state.mkdir(parents=True, exist_ok=True)
    lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ValueError(f"--state {state} is in use by another simulated host. Stop it, or name another.") from None
    try:
        yield
    finally:
        os.close(lock)


def _said(error: Exception, settings: SimulateHostSettings) -> str:
    """Return what went wrong; for a file, with the option that names it."""
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    named = {
        "--state": settings.state,
        "--storage": settings.storage,
        "--inventory": settings.inventory,
        "--truth": settings.truth,
        "--credential": settings.credential,
        "--certificate": settings.certificate,
        "--client-ca": settings.client_ca,
        "--keytab": settings.keytab,
    }
    option = next((f"{option} " for option, path in named.items() if str(path) == str(error.filename)), "")
    return f"{option}{error.filename}: {(error.strerror or '').lower()}. Name another one, or put that right."


def _ready_line(running: RunningHost, settings: SimulateHostSettings) -> str:
    said = {"listening": running.listening, "control": running.control, "engine": settings.engine}
    if running.https:
        said |= {"https": running.https, "ca_file": str((_tls_directory(settings) / "ca.pem").resolve())}
    return json.dumps(said)


def _ways(settings: SimulateHostSettings, host: str) -> WaysIn:
    """Return how to sign in. Raises OSError and ValueError for what cannot be used."""
    if not settings.https and (settings.certificate or settings.client_ca):
        raise ValueError("--certificate and --client-ca are for https. Add --https")
    if settings.keytab is not None:
        settings.keytab.read_bytes()
        # The only place where the Kerberos library looks for it.
        os.environ["KRB5_KTNAME"] = f"FILE:{settings.keytab}"
    elif "kerberos" in settings.offer:
        raise ValueError("--offer kerberos needs the keytab of the host. Add --keytab")
    certificates = None
    if settings.https:
        address = settings.https.rpartition(":")[0].strip("[]")
        names = (host, "localhost", *dict.fromkeys((address, "127.0.0.1", "::1")))
        certificates = HostCertificates(_tls_directory(settings), names, settings.certificate, settings.client_ca)
    return WaysIn(frozenset(settings.offer), certificates, settings.https)


def _tls_directory(settings: SimulateHostSettings) -> Path:
    return settings.state / "tls"


def _telling(ended: SimpleQueue[int]) -> Callable[[int, FrameType | None], None]:
    def handler(number: int, _frame: FrameType | None) -> None:
        ended.put(number)

    return handler
