"""snapshotctl as a program, against a running system."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

from tests.e2e.system import System


@dataclass(frozen=True)
class Said:
    """What the program printed, and its exit code."""

    code: int
    out: str
    err: str


class Ctl:
    """Runs snapshotctl."""

    def __init__(self, system: System) -> None:
        self.system = system

    def __call__(self, *arguments: str, server: str = "") -> Said:
        """Run a command."""
        command = [sys.executable, "-m", "snapshotd.client", *arguments]
        environ = {"SNAPSHOTD_SERVER": server or self.system.daemon.address, "SNAPSHOTD_ACTOR": "ann"}
        ran = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=100, check=False)
        assert "Traceback" not in ran.stderr, ran.stderr
        return Said(ran.returncode, ran.stdout, ran.stderr)
