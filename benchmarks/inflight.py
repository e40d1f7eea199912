"""How long it takes until operations go on that were under way when the daemon was killed.

10,000 creates are on their hosts, which never answer an effect. Daemon and executor, by default one process, are killed
and started again. Then each VM has to be looked at, and, since the effect has left no trace, to be asked again.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.large_logs import Kept, Shape, kept
from benchmarks.programs import NotReady, Process, daemon, instant_executor, open_channel, until_attached
from benchmarks.progress import Figures, say
from snapshotd.api.v1 import snapshot_pb2
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceStub

_OPERATIONS: Final = 10_000
_HOSTS: Final = 100
_FOR_LOOKS: Final = 2
"""Sessions of a host beside those that effects hold."""
_CALLERS: Final = 64
_LONGEST_S: Final = 300.0
_EACH_S: Final = 20.0
"""How often it is said how far it is."""


def measure(directory: Path, figures: Figures) -> None:
    """Bring all under way, kill the daemon and its executor, and wait until all are under way again."""
    log = kept(Shape((("registered", _OPERATIONS),), hosts=_HOSTS))
    say(f"\n{_OPERATIONS:,} operations under way on {_HOSTS} hosts, daemon and executor killed and started again")
    options = ("--executor-sessions-per-host", str(_OPERATIONS // _HOSTS + _FOR_LOOKS))
    with log.copied() as files:
        began = time.perf_counter()
        with _killed(daemon(files, *options)) as first, _killed(_executor(first, log, directory / "before")):
            until_attached(first.address)
            asyncio.run(_ask(first.address, log))
            _until_all(directory / "before", "EFFECT", "under way")
            say(f"  all under way after {time.perf_counter() - began:.1f} s")
        began = time.perf_counter()
        with _killed(daemon(files, *options)) as second, _killed(_executor(second, log, directory / "after")):
            figures["inflight.serving_s"] = second.ready_s
            _until_all(directory / "after", "OBSERVE", "looked at again")
            figures["inflight.observed_s"] = time.perf_counter() - began
            _until_all(directory / "after", "EFFECT", "under way again")
            figures["inflight.going_s"] = time.perf_counter() - began
    say(
        f"  started again: serving after {figures['inflight.serving_s']:.1f} s, all looked at after "
        f"{figures['inflight.observed_s']:.1f} s, all under way again after {figures['inflight.going_s']:.1f} s"
    )


def _executor(running: Process, log: Kept, told: Path) -> Process:
    told.touch()
    arguments = ("--kept", str(log.directory), "--holding", "--told", str(told))
    return instant_executor(running.address, told.with_suffix(".log"), *arguments)


@contextmanager
def _killed(process: Process) -> Iterator[Process]:
    """Start a process, and kill it at the end."""
    process.start()
    try:
        yield process
    finally:
        process.kill()


async def _ask(address: str, log: Kept) -> None:
    """Ask for a snapshot of each VM."""
    async with open_channel(address) as channel:
        snapshots, vm_ids = SnapshotServiceStub(channel), log.vm_ids("registered")

        async def call() -> None:
            for vm_id in vm_ids:
                snapshot = snapshot_pb2.Snapshot(display_name="under way", kind=snapshot_pb2.Snapshot.DISK)
                request = snapshot_pb2.CreateSnapshotRequest(
                    parent=f"virtualMachines/{vm_id}", snapshot=snapshot, request_id=str(uuid.uuid4())
                )
                await snapshots.CreateSnapshot(request)

        await asyncio.gather(*(call() for _ in range(_CALLERS)))


def _until_all(told: Path, kind: str, what: str) -> None:
    """Wait until each VM's host was asked for something of a kind. Raises NotReady."""
    began = said = time.monotonic()
    while True:
        lines = told.read_text(encoding="ascii").splitlines()
        count = len({line for line in lines if line.startswith(kind)})
        if count >= _OPERATIONS:
            return
        now = time.monotonic()
        if now - began > _LONGEST_S:
            raise NotReady(f"only {count:,} of {_OPERATIONS:,} are {what} after {_LONGEST_S:.0f} s")
        if what and now - said > _EACH_S:
            say(f"  {count:,} {what} after {now - began:.0f} s")
            said = now
        time.sleep(0.05)
