"""Each program loads what it runs and nothing of the others: a start does not wait for what is not used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

COMMANDS = "snapshotd.__main__"
GRPC, LOG, SERVER, SIMULATOR = "grpc", "eventsourcing", "snapshotd.server", "snapshotd.simulator.model"
ALL = (GRPC, LOG, SERVER, SIMULATOR, "projections", "requests")


@pytest.mark.parametrize(
    ("program", "without"),
    [
        (COMMANDS, ALL),
        ("snapshotd.simulator_bootstrap", (GRPC, LOG, SERVER, "projections")),
        ("snapshotd.executor_bootstrap", (LOG, SERVER, SIMULATOR, "projections")),
        ("snapshotd.bootstrap", (SIMULATOR,)),
    ],
)
def test_a_program_loads_nothing_of_the_others(program: str, without: tuple[str, ...]) -> None:
    code = f"import json, sys, {COMMANDS}, {program}; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert [name for name in loaded if any(f"{name}.".startswith(f"{other}.") for other in without)] == []
