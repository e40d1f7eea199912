"""The command line of `snapshotd simulate-host`. Never opens what the arguments name."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ENGINES: Final = ("builtin", "pwsh")
OFFERS: Final = ("negotiate", "kerberos", "basic", "certificate", "credssp")
"""How a host may let others sign in."""


@dataclass(frozen=True)
class SimulateHostSettings:
    """Where the simulated host listens, what it consists of, and how slow it is."""

    listen: str
    control: str
    state: Path
    """Directory of the model's state, disks and journals; survives a restart."""
    inventory: Path
    """Read when the state directory is empty."""
    truth: Path
    credential: Path
    """File with one line, username:password."""
    engine: str
    """One of ENGINES."""
    pwsh: Path | None
    rtt_ms: int
    """What every request takes on its way."""
    powershell_start_ms: int
    durations: Mapping[str, int]
    """Milliseconds by name of what the hypervisor does."""
    storage: Path | None = None
    """Directory of the disks, if not in the state's; several hosts can have it."""
    https: str = ""
    """Where WS-Management is served over https; empty: nowhere."""
    certificate: Path | None = None
    """PEM file of a certificate and its key, instead of one by its own CA."""
    client_ca: Path | None = None
    """PEM file of the CA whose client certificates stand for the account."""
    keytab: Path | None = None
    offer: tuple[str, ...] = ("negotiate",)
    """Of ways_in.OFFERS."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `simulate-host`."""
    add = parser.add_argument
    add("--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="where WS-Management is served; port 0: any")
    add("--control", default="127.0.0.1:0", metavar="HOST:PORT", help="control port, on loopback only; port 0: any")
    add("--state", required=True, type=Path, metavar="DIR", help="state, disks and journals; made if missing")
    add(
        "--storage",
        type=Path,
        metavar="DIR",
        help="the disks, if not in --state; hosts between which VMs move share it",
    )
    add("--inventory", required=True, type=Path, metavar="FILE", help="the VMs, for a state directory that is empty")
    add("--truth", required=True, type=Path, metavar="FILE", help="every effect is appended here, as JSON lines")
    add("--credential", required=True, type=Path, metavar="FILE", help="file with one line, username:password")
    add(
        "--https",
        nargs="?",
        const="127.0.0.1:0",
        default="",
        metavar="HOST:PORT",
        help="serve WS-Management over https too; port 0, or none given: any",
    )
    add(
        "--certificate",
        type=Path,
        metavar="FILE",
        help="PEM file of --https, with its key; without it: by a CA of its own",
    )
    add("--client-ca", type=Path, metavar="FILE", help="PEM file of the CA of client certificates that may sign in")
    add("--keytab", type=Path, metavar="FILE", help="keytab of HTTP/<host>, to sign in by Kerberos")
    add(
        "--offer",
        type=_offer,
        default=("negotiate",),
        metavar="WAY,...",
        help=f"how to sign in: {', '.join(OFFERS)} (default: negotiate)",
    )
    add("--engine", choices=ENGINES, default="builtin", help="what runs the host script (default: %(default)s)")
    add("--pwsh", type=Path, metavar="PATH", help="the PowerShell of --engine pwsh")
    add("--rtt-ms", type=_milliseconds, default=0, metavar="N", help="what every request takes on its way")
    add("--powershell-start-ms", type=_milliseconds, default=0, metavar="N", help="what a process takes to start")
    add("--duration", type=_duration, nargs="+", action="extend", default=[], metavar="NAME=MS", help="e.g. merge=500")


def from_arguments(arguments: argparse.Namespace) -> SimulateHostSettings:
    """Return the settings in parsed arguments."""
    return SimulateHostSettings(
        listen=arguments.listen,
        control=arguments.control,
        state=arguments.state,
        inventory=arguments.inventory,
        truth=arguments.truth,
        credential=arguments.credential,
        engine=arguments.engine,
        pwsh=arguments.pwsh,
        rtt_ms=arguments.rtt_ms,
        powershell_start_ms=arguments.powershell_start_ms,
        durations=dict(arguments.duration),
        storage=arguments.storage,
        https=arguments.https,
        certificate=arguments.certificate,
        client_ca=arguments.client_ca,
        keytab=arguments.keytab,
        offer=arguments.offer,
    )


def _milliseconds(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"not a number of milliseconds: {text!r}")
    return int(text)


def _duration(text: str) -> tuple[str, int]:
    name, separator, milliseconds = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"not of the form NAME=MS: {text!r}")
    return name, _milliseconds(milliseconds)


def _offer(text: str) -> tuple[str, ...]:
    ways = tuple(text.split(","))
    if unknown := [way for way in ways if way not in OFFERS]:
        raise argparse.ArgumentTypeError(f"no way to sign in: {', '.join(unknown)}. Use {', '.join(OFFERS)}")
    return ways
