"""Runs other people's scripts in a real PowerShell over the model."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from snapshotd.simulator.model import SimulatedHyperV
from snapshotd.simulator.pwsh.engine import PwshEngine
from tests.powershell_engine import pwsh

Run = Callable[..., list[str]]
"""Runs a script; returns the lines that it writes, those of stderr at the end. Fails if it does not end by itself."""


@contextmanager
def running_on(host: SimulatedHyperV, directory: Path) -> Iterator[Run]:
    """Return what runs scripts on a host."""
    engine = PwshEngine(host, pwsh(), directory)

    def start(script: str, exit_code: int = 0) -> list[str]:
        encoded = base64.b64encode(script.encode("utf-16-le")).decode()
        process = engine.start(f"powershell -NoProfile -NonInteractive -OutputFormat Text -EncodedCommand {encoded}")
        process.close_stdin()
        stdout, stderr, code = b"", b"", None
        while code is None:
            out, err, code = process.read(60.0)
            assert out or err or code is not None, f"the script hangs: {script}"
            stdout, stderr = stdout + out, stderr + err
        assert code == exit_code, stderr.decode()
        return [line for line in (stdout + stderr).decode().splitlines() if line.strip()]

    try:
        yield start
    finally:
        engine.close()
