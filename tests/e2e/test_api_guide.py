"""The client in docs/api.md does what the guide says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from demo.programs import Daemon, SimulatedHost
from demo.sandbox import fill, inventory

GUIDE = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.mark.slow
def test_the_client_of_the_guide_takes_a_snapshot_and_prints_what_happened(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    with SimulatedHost(tmp_path / "hv01", inventory()) as host, Daemon(tmp_path / "daemon") as daemon:
        fill(host, daemon.address)
        here = program.replace("127.0.0.1:7443", daemon.address)
        assert here != program
        ran = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert re.fullmatch(r"virtualMachines/[0-9a-f-]{36}/snapshots/[0-9a-f-]{36} READY", lines[0])
    assert lines[1].split()[1] == "SnapshotRequested"
    assert lines[-1].split()[1] == "OperationSucceeded"
