"""How long a start takes, by the size of the log: until the daemon serves, and until it has answered a call."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Final

import grpc

from benchmarks.large_logs import Kept
from benchmarks.programs import daemon, until_quiet
from benchmarks.progress import Figures, say
from benchmarks.sizes import EVENTS, log_of
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.virtual_machine_pb2_grpc import VirtualMachineServiceStub

_ROUNDS: Final = 5
_SMALL, _LARGE = 100_000, 1_000_000
"""The sizes that are compared."""
_LONG_S: Final = 10.0
"""A start that takes longer is not repeated."""


def measure(directory: Path, figures: Figures) -> None:
    """Start a daemon on logs of several sizes, with the same number of active operations."""
    del directory
    say(f"\na start, by the size of the log (medians of up to {_ROUNDS})")
    say(f"{'events':>10} {'serving, s':>11} {'first answer, s':>16} {'memory, MB':>11}")
    for events in EVENTS:
        log = log_of(events)
        with log.copied() as files:
            # A file that is new to its owner is read whole before the first start, and beside the later ones.
            with daemon(files) as running:
                until_quiet(running)
            rounds = [_start(log, files)]
            while len(rounds) < _ROUNDS and rounds[0][0] < _LONG_S:
                rounds.append(_start(log, files))
        serving, answered, memory = (statistics.median(values) for values in zip(*rounds, strict=True))
        figures[f"restart.{events}.serving_s"] = serving
        figures[f"restart.{events}.answered_s"] = answered
        figures[f"restart.{events}.memory_mb"] = memory
        if events == _LARGE and f"restart.{_SMALL}.serving_s" in figures:
            figures[f"restart.{_LARGE}.ratio_to_{_SMALL}"] = serving / figures[f"restart.{_SMALL}.serving_s"]
        say(f"{log.events:>10,} {serving:>11.2f} {answered:>16.2f} {memory:>11.0f}")


def _start(log: Kept, files: Path) -> tuple[float, float, float]:
    """Return when it served and when it had answered, in seconds, and the memory that it has then."""
    vm_id = next(log.vm_ids("with snapshots"))
    began = time.perf_counter()
    with (
        daemon(files) as running,
        grpc.insecure_channel(running.address, options=[("grpc.enable_http_proxy", 0)]) as channel,
    ):
        request = vm_pb2.GetVirtualMachineRequest(name=f"virtualMachines/{vm_id}")
        VirtualMachineServiceStub(channel).GetVirtualMachine(request)
        return running.ready_s, time.perf_counter() - began, running.memory_mb()
