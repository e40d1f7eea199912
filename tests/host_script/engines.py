"""The two engines on a host, by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshotd.simulator.builtin import BuiltinEngine
from snapshotd.simulator.hypervisor import Hypervisor
from snapshotd.simulator.needs import Engine
from snapshotd.simulator.pwsh.engine import PwshEngine
from tests.host_script.conversation import ACCEPTED
from tests.powershell_engine import pwsh

BOTH = ["builtin", pytest.param("pwsh", marks=pytest.mark.powershell)]
"""Parameters of a fixture that runs a test on both."""


def engine_on(name: str, host: Hypervisor, directory: Path) -> Iterator[Engine]:
    """Make an engine, and close it afterwards; the test is skipped if there is no PowerShell for it."""
    if name == "builtin":
        yield BuiltinEngine(host, ACCEPTED, mutex_wait_s=0.4, result_wait_s=0.4, second_look_s=0.1)
        return
    directory.mkdir(exist_ok=True)
    engine = PwshEngine(host, pwsh(), directory)
    yield engine
    engine.close()
