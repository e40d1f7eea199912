"""A place to try snapshotd in: a simulated host with a few VMs, the daemon with an executor, and what to type.

`make sandbox`. Everything stands in a temporary directory, and is gone when Ctrl-C (or SIGTERM) ends it.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import FrameType
from typing import Any, Final

from demo.checks import say
from demo.programs import CREDENTIAL, Daemon, NotStarted, SimulatedHost, find_pwsh, make_folders

_DEFAULT: Final = "127.0.0.1:7443"
"""The address at which snapshotctl looks for a server unless it is told another one."""
_PATIENCE_S: Final = 30.0
_DURATIONS: Final = ("checkpoint=1500", "remove=300", "merge=2000", "restore=1000", "start=1000", "shutdown=1500")
"""How long the host takes for its work, in ms: long enough to be watched."""


class Interrupted(Exception):
    """Somebody ends the sandbox."""


def inventory() -> dict[str, Any]:
    """Describe the host: VMs that run, one that is off, and one that cannot be frozen without its memory."""
    system, data = {"location": "SCSI:0:0"}, {"location": "SCSI:0:1"}
    vms: list[dict[str, Any]] = [
        {"name": "web01", "state": "Running", "disks": [system]},
        {"name": "web02", "state": "Running", "disks": [system]},
        {"name": "db01", "state": "Running", "disks": [system, data], "memory_bytes": 8 << 30},
        {"name": "build01", "state": "Off", "disks": [system]},
        {"name": "legacy01", "state": "Running", "disks": [system], "vss": False},
    ]
    return {"host": {"name": "hv01"}, "vms": [{"id": str(uuid.uuid4()), **vm} for vm in vms]}


def ctl(address: str, *arguments: str) -> str:
    """Run snapshotctl; return what it printed. Raises CalledProcessError."""
    command = [sys.executable, "-m", "snapshotd.client", *arguments, "--server", address]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def fill(host: SimulatedHost, address: str) -> None:
    """Register the host and its VMs, and take a few snapshots of db01."""
    ctl(address, "host", "add", "hv01", "127.0.0.1", "--port", str(host.port), "--credential", CREDENTIAL)
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            ctl(address, "vm", "register", "hv01", "--all")
            break
        except subprocess.CalledProcessError as error:  # its executor attaches just now
            if time.monotonic() > until:
                raise NotStarted("the sandbox", error.returncode, error.stderr) from error
            time.sleep(0.2)
    for name, flags in (("empty", ()), ("installed", ("--memory",)), ("patched", ())):
        host.control("write_disk", vm="db01", location="SCSI:0:0", block="system", data=name)
        ctl(address, "snapshot", "create", "db01", "--name", name, "--wait", *flags)


def guide(address: str, directory: Path) -> str:
    """Return what to type next."""
    ours = Path(sys.executable).parent / "snapshotctl"
    program = "snapshotctl" if shutil.which("snapshotctl") == str(ours) else str(ours)
    lines = [f"alias snapshotctl={program}"] if program != "snapshotctl" else []
    if address != _DEFAULT:
        lines.append(f"export SNAPSHOTD_SERVER={address}")
    lines += [
        "snapshotctl vm list",
        "snapshotctl snapshot tree db01",
        "snapshotctl snapshot create web01 --name before-update --wait",
        "snapshotctl snapshot revert db01 installed --dry-run",
        "snapshotctl snapshot revert db01 installed --wait",
        "snapshotctl snapshot delete db01 patched --wait",
        "snapshotctl volume-snapshot take db01 SCSI:0:1 --name data --wait",
        "snapshotctl vm export web01 --wait",
        "snapshotctl operation list",
        "snapshotctl audit list --vm db01",
        "snapshotctl audit diff db01 --from 1",
        "snapshotctl status",
    ]
    typed = "".join(f"    {line}\n" for line in lines)
    end = "Ctrl-C ends the sandbox, and removes it."
    return f"Type in another terminal:\n\n{typed}\nLogs and storage: {directory}\n{end}\n"


def _free(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
    return True


def run(directory: Path, engine: str) -> None:
    """Run the sandbox until somebody ends it. Raises NotStarted, Interrupted."""
    options = ["--engine", engine, "--duration", *_DURATIONS]
    if engine == "pwsh" and (pwsh := find_pwsh()) is not None:
        options += ["--pwsh", str(pwsh)]
    say(f"start a simulated host ({engine} engine)")
    with SimulatedHost(directory / "hv01", inventory(), options) as host:
        say("start snapshotd with an executor")
        *_, folders = make_folders(directory / "hv01")
        daemon = Daemon(directory / "daemon", options=folders)
        daemon.address = _DEFAULT if _free(_DEFAULT) else daemon.address
        with daemon:
            say("register the host with its VMs, and take three snapshots of db01")
            fill(host, daemon.address)
            sys.stdout.write(ctl(daemon.address, "vm", "list") + "\n")
            sys.stdout.write(guide(daemon.address, directory))
            sys.stdout.flush()
            signal.pause()


def main() -> int:
    """Run the sandbox. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["builtin", "pwsh"], default="builtin", help="engine of the simulated host")
    engine = parser.parse_args().engine

    def end(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    try:
        with tempfile.TemporaryDirectory(prefix="snapshotd-sandbox-") as directory:
            run(Path(directory), engine)
    except Interrupted:
        say("ended")
    except NotStarted as error:
        sys.stderr.write(f"{str(error).rstrip()}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
