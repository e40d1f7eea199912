"""`make bench`: all measurements in one run. Compare numbers only with others of the same run."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path

from benchmarks.appends import ours, stock
from benchmarks.creates import creates_per_second

CALLERS = (1, 64)
CREATES = {1: 240, 64: 1024}
WRITERS = (1, 16, 64)
APPENDS = 4096


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    say(f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="snapshotd-bench-") as name:
        directory = Path(name)
        say("\nwhole creates per second over gRPC (call until the operation has ended; instant host)")
        say(f"{'callers':>8} {'with log':>10} {'in memory':>10} {'ratio':>7}")
        for callers in CALLERS:
            with_log = creates_per_second(directory / f"log-{callers}", callers, CREATES[callers], stored=True)
            without = creates_per_second(directory / f"memory-{callers}", callers, CREATES[callers], stored=False)
            say(f"{callers:>8} {with_log:>10.0f} {without:>10.0f} {with_log / without:>7.2f}")
        say("\nappends per second, one event each, durable, SQLite (synchronous=FULL)")
        say(f"{'writers':>8} {'ours':>10} {'stock':>10} {'ratio':>7}")
        for writers in WRITERS:
            place = directory / f"appends-{writers}"
            place.mkdir()
            own, other = ours(place, writers, APPENDS), stock(place, writers, APPENDS)
            say(f"{writers:>8} {own:>10.0f} {other:>10.0f} {own / other:>7.2f}")


if __name__ == "__main__":
    main()
