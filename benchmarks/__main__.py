"""`make bench`: all measurements in one run, or the parts that are named.

Compare numbers only with others of the same run.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.appends import ours, stock
from benchmarks.creates import creates_per_second
from benchmarks.exports import measure as measure_exports
from benchmarks.many_vms import measure

CALLERS = (1, 64)
CREATES = {1: 240, 64: 1024}
WRITERS = (1, 16, 64)
APPENDS = 4096
HOSTS, VMS_EACH = 10, 1000
EXPORTED_VMS, COPYING_S = 3, 2.0


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _creates(directory: Path) -> None:
    say("\nwhole creates per second over gRPC (call until the operation has ended; instant host)")
    say(f"{'callers':>8} {'with log':>10} {'in memory':>10} {'ratio':>7}")
    for callers in CALLERS:
        with_log = creates_per_second(directory / f"log-{callers}", callers, CREATES[callers], stored=True)
        without = creates_per_second(directory / f"memory-{callers}", callers, CREATES[callers], stored=False)
        say(f"{callers:>8} {with_log:>10.0f} {without:>10.0f} {with_log / without:>7.2f}")


def _appends(directory: Path) -> None:
    say("\nappends per second, one event each, durable, SQLite (synchronous=FULL)")
    say(f"{'writers':>8} {'ours':>10} {'stock':>10} {'ratio':>7}")
    for writers in WRITERS:
        place = directory / f"appends-{writers}"
        place.mkdir()
        own, other = ours(place, writers, APPENDS), stock(place, writers, APPENDS)
        say(f"{writers:>8} {own:>10.0f} {other:>10.0f} {own / other:>7.2f}")


def _vms(directory: Path) -> None:
    say(f"\n{VMS_EACH} VMs on each of {HOSTS} simulated hosts, seconds")
    say(f"{'call':<24} {'took':>6} {'slowest other call meanwhile':>29}")
    for what, took, other in measure(directory / "many", HOSTS, VMS_EACH):
        say(f"{what:<24} {took:>6.2f} {other:>29.3f}")


def _exports(directory: Path) -> None:
    place = directory / "exports"
    place.mkdir()
    say(f"\nwhat an export policy costs, if the copy takes {COPYING_S:.0f} s: seconds until the operation has ended")
    say(f"{'policy':<12} {'create':>7} {'stop':>7}")
    for policy, create, stop in measure_exports(place, EXPORTED_VMS, COPYING_S):
        say(f"{policy:<12} {create:>7.2f} {stop:>7.2f}")


PARTS: Final[dict[str, Callable[[Path], None]]] = {
    "creates": _creates,
    "appends": _appends,
    "vms": _vms,
    "exports": _exports,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    wanted = parser.parse_args().parts or PARTS
    say(f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="snapshotd-bench-") as name:
        for part in wanted:
            PARTS[part](Path(name))


if __name__ == "__main__":
    main()
