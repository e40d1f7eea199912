"""The composition root of a simulated host. Decides nothing."""

from __future__ import annotations

import os
import shutil

from snapshotd.hyperv.script import command_line, kept_script, script_sha256
from snapshotd.simulator import main as simulator
from snapshotd.simulator.builtin import AcceptedScript, BuiltinEngine
from snapshotd.simulator.model import SimulatedHyperV, open_host
from snapshotd.simulator.needs import Engine
from snapshotd.simulator.pwsh.engine import PwshEngine, find_powershell
from snapshotd.simulator.settings import SimulateHostSettings


def run(settings: SimulateHostSettings) -> int:
    """Run a simulated host until a signal ends it. Return the exit code."""
    return simulator.run(settings, open_host, lambda host: _engine(settings, host))


def _engine(settings: SimulateHostSettings, host: SimulatedHyperV) -> Engine:
    """Return the engine that runs scripts on a simulated host. Raises ValueError if there is no PowerShell for it."""
    if settings.engine == "builtin":
        kept = kept_script()
        return BuiltinEngine(host, AcceptedScript(command_line(kept), script_sha256()))
    named = settings.pwsh or os.environ.get("SNAPSHOTD_PWSH") or shutil.which("pwsh")
    try:
        return PwshEngine(host, find_powershell(named), settings.state / "pwsh")
    except ValueError as error:
        raise ValueError(f"Cannot use --engine pwsh: {error}. Name one with --pwsh PATH or $SNAPSHOTD_PWSH.") from error
