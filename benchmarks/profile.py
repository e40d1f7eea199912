"""Where the processor time of a create goes: by thread as the system counts it, the main one's by samples of it."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

from benchmarks.creates import CREATES, create_all, register
from benchmarks.profiling import NAMES, THREADS, sampled, shares_of_main
from benchmarks.programs import Process, instant_daemon, instant_executor, open_channel, until_attached
from benchmarks.progress import Figures, say

_CALLERS: Final = (64, 1)
_PATIENCE_S: Final = 10.0
_MAIN: Final = "MainThread"
_NATIVE: Final = "native"
"""Threads that are not Python's: gRPC's."""


def measure(directory: Path, figures: Figures) -> None:
    """Take creates unsampled, for how much each thread uses, and sampled, for what the main one uses it for."""
    say("\nprocessor time of the daemon, µs a create, executor in its own process")
    for callers in _CALLERS:
        threads, executor = _unsampled(directory / f"plain-{callers}", callers)
        shares = {_MAIN: _sampled(directory / f"sampled-{callers}", callers)}
        parts: dict[str, float] = defaultdict(float)
        for thread, us in threads.items():
            for part, share in shares.get(thread, {THREADS.get(thread, "other"): 1.0}).items():
                parts[part] += us * share
        say(f"{callers} callers: by thread " + ", ".join(f"{n} {us:.0f}" for n, us in sorted(threads.items())))
        for part in NAMES:
            figures[f"profile.{callers}.{part}_us"] = parts[part]
            say(f"  {part:<12} {parts[part]:>8.0f}")
        figures[f"profile.{callers}.total_us"] = sum(parts.values())
        figures[f"profile.{callers}.executor_us"] = executor
        say(f"  {'total':<12} {sum(parts.values()):>8.0f}   (the executor beside it: {executor:.0f})")


def _unsampled(place: Path, callers: int) -> tuple[dict[str, float], float]:
    """Return the processor time of each kind of thread, and of the executor, in µs a create."""
    with (
        instant_daemon(place, "--executor-apart", "--threads", str(place / "threads")) as daemon,
        instant_executor(daemon.address, place / "executor.log") as executor,
    ):
        until_attached(daemon.address)

        async def run() -> tuple[dict[str, float], float]:
            async with open_channel(daemon.address) as channel:
                vms = await register(channel, CREATES[callers])
                before, executor_s = _by_thread(daemon, place / "threads"), executor.running_s()
                count = len(await create_all(channel, vms, callers))
                after, executor_s = _by_thread(daemon, place / "threads"), executor.running_s() - executor_s
                used = {name: 1e6 * (seconds - before.get(name, 0.0)) / count for name, seconds in after.items()}
                return used, 1e6 * executor_s / count

        return asyncio.run(run())


def _sampled(place: Path, callers: int) -> dict[str, float]:
    """Return the shares of the parts in what the main thread uses."""
    with (
        instant_daemon(place, "--executor-apart") as daemon,
        instant_executor(daemon.address, place / "executor.log"),
    ):
        until_attached(daemon.address)

        async def run() -> None:
            async with open_channel(daemon.address) as channel:
                vms = await register(channel, CREATES[callers])
                with sampled(daemon, place / "samples"):
                    await create_all(channel, vms, callers)

        asyncio.run(run())
    return shares_of_main((place / "samples").read_text(encoding="utf-8").splitlines())


def _by_thread(daemon: Process, file: Path) -> dict[str, float]:
    """Return the seconds that each kind of thread of a daemon has used."""
    file.unlink(missing_ok=True)
    daemon.tell(signal.SIGUSR1)
    end = time.monotonic() + _PATIENCE_S
    while not file.exists():
        assert time.monotonic() < end, "the daemon did not tell its threads"
        time.sleep(0.01)
    names: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    seconds: dict[str, float] = defaultdict(float)
    for thread, used in daemon.threads_s().items():
        seconds[names.get(thread, _NATIVE)] += used
    return seconds
