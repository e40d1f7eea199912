"""What each export policy costs: how long a stop and a create take, on a simulated host that copies for a set time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from google.longrunning.operations_pb2 import Operation

from benchmarks.progress import Figures, say
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine
from tests.e2e.exporting import Place, two_hosts

Measured = tuple[str, float, float]
"""The policy, and how long a create and a stop took, in seconds."""
_VMS_EACH: Final = 3
_COPYING_S: Final = 2.0
_POLICIES = (VirtualMachine.NEVER, VirtualMachine.ON_STOP, VirtualMachine.ON_SNAPSHOT)


def report(directory: Path, figures: Figures) -> None:
    """Measure, and print."""
    say(f"\nwhat an export policy costs, if the copy takes {_COPYING_S:.0f} s: seconds until the operation has ended")
    say(f"{'policy':<12} {'create':>7} {'stop':>7}")
    for policy, create, stop in measure(directory, _VMS_EACH, _COPYING_S):
        figures |= {f"exports.{policy.lower()}.create_s": create, f"exports.{policy.lower()}.stop_s": stop}
        say(f"{policy:<12} {create:>7.2f} {stop:>7.2f}")


def measure(directory: Path, vms_each: int, copying_s: float) -> Iterator[Measured]:
    """Yield the medians of each policy.

    Args:
        directory: holds everything.
        vms_each: on how many VMs, which run and have a snapshot, each policy is tried.
        copying_s: how long the host copies.
    """
    with two_hosts(directory, len(_POLICIES) * vms_each) as hosts:
        for policy in _POLICIES:
            creates, stops = [], []
            for _ in range(vms_each):
                place = hosts.take(policy, running=True)
                place.one.control("durations", export=int(copying_s * 1000))
                creates.append(_took(partial(_create, place)))
                stops.append(_took(place.stop))
                place.client.wait(place.newest())  # the next one shall not wait for its copy
            yield VirtualMachine.ExportPolicy.Name(policy), statistics.median(creates), statistics.median(stops)


def _create(place: Place) -> Operation:
    return place.client.wait(place.client.create(place.vm_id, "measured"))


def _took(call: Callable[[], Operation]) -> float:
    began = time.perf_counter()
    ended = call()
    assert not ended.HasField("error"), ended.error.message
    return time.perf_counter() - began
