"""`make bench`: all measurements in one run, or the parts that are named.

Compare numbers only with others of the same run. A whole run writes build/bench.json and docs/performance.md; one of
some parts writes build/bench.json only, with the figures of these.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from benchmarks import (
    appends,
    creates,
    exports,
    idle,
    inflight,
    many_vms,
    profile,
    reads,
    report,
    restart,
    state,
    views_rebuilt,
)
from benchmarks.programs import NotReady
from benchmarks.progress import Figures, say
from benchmarks.targets import TARGETS

PARTS: Final[dict[str, Callable[[Path, Figures], None]]] = {
    "creates": creates.measure,
    "appends": appends.measure,
    "views": views_rebuilt.measure,
    "restart": restart.measure,
    "reads": reads.measure,
    "state": state.measure,
    "inflight": inflight.measure,
    "idle": idle.measure,
    "vms": many_vms.report,
    "exports": exports.report,
    "profile": profile.measure,
}

_BUSY: Final = 0.5
"""Processes that want to run, of a machine on which others work."""


def arguments(given: Sequence[str]) -> list[str]:
    """Return the parts that a command line names; all if it names none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    return parser.parse_args(given).parts or [*PARTS]


def main() -> None:
    """Measure, print, and keep the figures."""
    wanted = arguments(sys.argv[1:])
    figures: Figures = {}
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _end)
    for name, value in report.about().items():
        say(f"{name}: {value}")
    if (load := os.getloadavg()[0]) > _BUSY:
        say(f"Others work on this machine, or did just now (load {load:.1f}): that makes each figure worse.")
    with tempfile.TemporaryDirectory(prefix="snapshotd-bench-") as name:
        for number, part in enumerate(wanted, 1):
            say(f"\n[{number}/{len(wanted)}] {part}, after {time.monotonic() - began:.0f} s")
            place = Path(name) / part
            place.mkdir()
            try:
                PARTS[part](place, figures)
            except NotReady as error:
                say(f"  not measured: {error}")
            report.save(figures)
    _told(figures)
    if set(wanted) == set(PARTS):
        report.main()
    say(f"\n{time.monotonic() - began:.0f} s in all")


def _end(number: int, _: object) -> NoReturn:
    """End like Ctrl-C does, with all that was started: a daemon that is left behind would spoil the next run."""
    raise SystemExit(128 + number)


def _told(figures: Figures) -> None:
    """Print what the run must show, as far as it was measured."""
    say("")
    for target in TARGETS:
        for bound in target.bounds if any(b.figure in figures for b in target.bounds) else ():
            reached = {True: "reached", False: "MISSED", None: ""}[bound.reached(figures)]
            say(f"{target.what[:96]:<96} {bound.wanted():>10} {bound.found(figures):>14} {reached}")


if __name__ == "__main__":
    main()
