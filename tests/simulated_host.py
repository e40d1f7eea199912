"""A simulated host for tests, in threads of this process, over a model and an engine that were made already."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from demo.programs import PASSWORD, USERNAME, ControlRefused, HostControl
from demo.programs import SimulatedHost as SimulatedHostProcess
from snapshotd.simulator.needs import ControlledHost, Engine
from snapshotd.simulator.running import RunningHost

__all__ = ["PASSWORD", "USERNAME", "ControlRefused", "SimulatedHostProcess", "SimulatedHostThreads"]


class SimulatedHostThreads(HostControl):
    """A simulated host in this process.

    Args:
        host: the model.
        engine: runs scripts on it.
        truth: the model's truth file.
        rtt_s: seconds that every request takes on its way.
    """

    def __init__(self, host: ControlledHost, engine: Engine, truth: Path, rtt_s: float = 0.0) -> None:
        self.running = RunningHost(host, engine, f"{USERNAME}:{PASSWORD}", rtt_s=rtt_s)
        super().__init__(self.running.control, self.running.listening, truth)

    def __enter__(self) -> Self:
        self.running.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.running.close()
