"""Where the main thread of a daemon spends its time, by parts of snapshotd: samples of its stack, taken by py-spy.

py-spy stands outside of the process and is asked for stacks that hold the interpreter's lock; so calls cost what they
cost without it. (cProfile counts calls, and made what consists of many small ones look twice as dear.) A sample counts
to the innermost frame that is of a part. gRPC's own code is compiled and has no frames: what the event loop's handles
run themselves is its work.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.environments import programs_of
from benchmarks.programs import NotReady, Process

PARTS: Final = (
    ("snapshotd/store/codec", "encoding"),
    ("snapshotd/store/upcasts", "encoding"),
    ("snapshotd/ports/", "encoding"),
    ("snapshotd/store/", "commit"),
    ("snapshotd/server/executor_service", "wire"),
    ("snapshotd/server/host_wire", "wire"),
    ("snapshotd/server/wire_", "wire"),
    ("snapshotd/server/", "translation"),
    ("snapshotd/executor/", "wire"),
    ("snapshotd/application/", "decision"),
    ("snapshotd/dispatch/", "decision"),
    ("snapshotd/domain/", "decision"),
    ("snapshotd/operations/", "decision"),
    ("snapshotd/steps/", "decision"),
    ("projections/", "views"),
    ("grpc/", "wire"),
)
"""Beginnings of paths, and what they belong to. The first that fits counts."""
NAMES: Final = ("translation", "decision", "encoding", "commit", "views", "wire", "other")
THREADS: Final = {
    "event-log-writer": "commit",
    "projections": "views",
    "views": "views",
    "Thread-1 (_poll_wrapper)": "wire",
    "native": "wire",
}
"""What whole threads belong to, but for the main one. The native ones are gRPC's; what is not here is other."""

_MAIN: Final = "MainThread"
_FRAME: Final = re.compile(r"(?P<name>.+) \((?P<path>[^()]+):\d+\)")
_HANDLE: Final = "Handle._run (asyncio/events.py"
_SAMPLES_PER_S: Final = 200
_ATTACHED_S: Final = 30.0


@contextmanager
def sampled(process: Process, raw: Path) -> Iterator[None]:
    """Sample a process meanwhile. Write what was found to a file, in py-spy's raw format. Raises NotReady."""
    command = [str(programs_of("py-spy") / "py-spy"), "record", "--pid", str(process.pid), "--output", str(raw)]
    options = ["--format", "raw", "--threads", "--gil", "--rate", str(_SAMPLES_PER_S), "--duration", "unlimited"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as sampler:
        assert sampler.stdout is not None
        line = sampler.stdout.readline()  # "Sampling process ..."
        if "Sampling" not in line:
            sampler.kill()
            raise NotReady(f"py-spy cannot sample the daemon: {line.strip() or sampler.stdout.read().strip()}")
        try:
            yield
        finally:
            sampler.send_signal(signal.SIGINT)
            sampler.communicate(timeout=_ATTACHED_S)


def shares_of_main(samples: Iterable[str]) -> dict[str, float]:
    """Return the shares of the parts in what the main thread did. Raises NotReady if nothing was found of it.

    Args:
        samples: lines of py-spy: frames from the outermost, with `;` between them, a blank, and how often.
    """
    parts: Counter[str] = Counter()
    for line in samples:
        stack, _, times = line.rpartition(" ")
        thread, *frames = stack.split(";")
        if thread.endswith(_MAIN):
            parts[part_of(frames)] += int(times)
    if not parts:
        raise NotReady("py-spy saw nothing of the daemon's main thread")
    return {part: times / parts.total() for part, times in parts.items()}


def part_of(frames: list[str]) -> str:
    """Return the part that a stack counts to."""
    if frames and frames[-1].startswith(_HANDLE):
        return "wire"
    for frame in reversed(frames):
        found = _FRAME.fullmatch(frame)
        for beginning, part in PARTS if found else ():
            if found and found["path"].startswith(beginning):
                return part
    return "other"


def role_of(thread: str) -> str:
    """Return a thread's name without its number."""
    return thread.rstrip("0123456789").rstrip("-_")
