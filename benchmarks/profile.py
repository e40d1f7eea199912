"""Where the processor time of a create goes: by thread as the system counts it, by part as a profile divides it."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks.creates import CREATES, create_all, register
from benchmarks.profiling import NAMES
from benchmarks.programs import Process, instant_daemon, instant_executor, open_channel, until_attached
from benchmarks.progress import Figures, say

_CALLERS: Final = (64, 1)
_PATIENCE_S: Final = 10.0
_NATIVE: Final = "native"
"""Threads that are not Python's: gRPC's."""


def measure(directory: Path, figures: Figures) -> None:
    """Take creates without a profile, for how much each thread uses, and with one, for what it uses it for."""
    say("\nprocessor time of the daemon, µs a create, executor in its own process")
    for callers in _CALLERS:
        threads, executor = _unprofiled(directory / f"plain-{callers}", callers)
        shares = _profiled(directory / f"profiled-{callers}", callers)
        parts: dict[str, float] = defaultdict(float)
        for thread, us in threads.items():
            for part, share in shares.get(thread, {"wire": 1.0} if thread == _NATIVE else {"other": 1.0}).items():
                parts[part] += us * share
        say(f"{callers} callers: by thread " + ", ".join(f"{n} {us:.0f}" for n, us in sorted(threads.items())))
        for part in NAMES:
            figures[f"profile.{callers}.{part}_us"] = parts[part]
            say(f"  {part:<12} {parts[part]:>8.0f}")
        figures[f"profile.{callers}.total_us"] = sum(parts.values())
        figures[f"profile.{callers}.executor_us"] = executor
        say(f"  {'total':<12} {sum(parts.values()):>8.0f}   (the executor beside it: {executor:.0f})")


def _unprofiled(place: Path, callers: int) -> tuple[dict[str, float], float]:
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


def _profiled(place: Path, callers: int) -> dict[str, dict[str, float]]:
    """Return, for each kind of thread, the shares of the parts in what it uses."""
    with (
        instant_daemon(place, "--executor-apart", "--profile", str(place / "profile")) as daemon,
        instant_executor(daemon.address, place / "executor.log"),
    ):
        until_attached(daemon.address)

        async def run() -> None:
            async with open_channel(daemon.address) as channel:
                await create_all(channel, await register(channel, CREATES[callers]), callers)

        asyncio.run(run())
    threads: dict[str, dict[str, float]] = json.loads((place / "profile").read_text(encoding="utf-8"))
    return {name: _share(parts) for name, parts in threads.items()}


def _share(parts: Mapping[str, float]) -> dict[str, float]:
    whole = sum(parts.values())
    return {part: seconds / whole for part, seconds in parts.items()} if whole else {"other": 1.0}


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
