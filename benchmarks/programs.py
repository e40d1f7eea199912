"""Daemons and executors as processes, for measurements: when they are ready, what they use, how they end."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import grpc

from snapshotd.api.v1 import admin_pb2
from snapshotd.api.v1.admin_pb2_grpc import AdminServiceStub

LONGEST_START_S: Final = 240.0
"""How long a daemon may take until it serves. Then the measurement has no figure."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_ENDED_S: Final = 30.0


class NotReady(Exception):
    """A program did not get ready in time, or ended."""


class Process:
    """A program that prints a line of JSON when it is ready, or none.

    Args:
        arguments: of this Python: `-m`, a module, and the module's.
        log: where its stderr goes.
        speaks: whether it prints that line.
    """

    def __init__(self, arguments: Sequence[str], log: Path, *, speaks: bool = True) -> None:
        self._arguments = tuple(arguments)
        self._log = log
        self._speaks = speaks
        self._process: subprocess.Popen[bytes] | None = None
        self.ready_s = 0.0
        """How long it took until it printed its line."""
        self.said: dict[str, str] = {}

    def start(self) -> None:
        """Start it, and wait until it is ready. Raises NotReady."""
        began = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, *self._arguments], stdout=subprocess.PIPE, stderr=log)
        if not self._speaks:
            return
        assert self._process.stdout is not None
        there = select.select([self._process.stdout], [], [], LONGEST_START_S)[0]
        line = self._process.stdout.readline() if there else b""
        if not line:
            self.kill()
            why = self._log.read_text(encoding="utf-8", errors="replace")[-1000:] if there else "it took too long"
            raise NotReady(f"{' '.join(self._arguments)}: {why}")
        self.ready_s = time.perf_counter() - began
        self.said = json.loads(line)

    @property
    def address(self) -> str:
        """Where it serves."""
        return self.said["serving"]

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process is not None
        return self._process.pid

    @property
    def _stat(self) -> Path:
        return Path(f"/proc/{self.pid}")

    def cpu_s(self) -> float:
        """Return the processor time that it has used."""
        return cpu_of(self._stat)

    def running_s(self) -> float:
        """Return the processor time of the threads that it has, to the nanosecond: for the difference of two."""
        return sum(self.threads_s().values())

    def threads_s(self) -> dict[str, float]:
        """Return the processor time of each thread that it has, by the system's number of it."""
        return {
            task.name: int((task / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
            for task in (self._stat / "task").iterdir()
        }

    def memory_mb(self) -> float:
        """Return its resident memory."""
        (line,) = [x for x in (self._stat / "status").read_text(encoding="ascii").splitlines() if x.startswith("VmRSS")]
        return int(line.split()[1]) / 1024

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it: by SIGTERM, and if need be by SIGKILL."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_ENDED_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def daemon(directory: Path, *options: str, listen: str = "127.0.0.1:0") -> Process:
    """Return `snapshotd serve` over the files in a directory, without an executor."""
    directory.mkdir(parents=True, exist_ok=True)
    own = ["--server-listen", listen, "--storage-directory", str(directory), "--no-executor"]
    own += ["--limits-calls-per-second", "1000000"]  # each caller of the benchmark is the same one
    return Process(["-m", "snapshotd", "serve", *own, *options], directory / "daemon.log")


def instant_daemon(directory: Path, *options: str) -> Process:
    """Return the daemon over an instant host (instant_daemon.py)."""
    directory.mkdir(parents=True, exist_ok=True)
    return Process(["-m", "benchmarks.instant_daemon", str(directory), *options], directory / "daemon.log")


def instant_executor(server: str, log: Path, *options: str) -> Process:
    """Return an executor over instant hosts (instant_executor.py)."""
    return Process(["-m", "benchmarks.instant_executor", server, *options], log)


def cpu_of(process: Path) -> float:
    """Return the processor time that a process or a thread has used, by its directory in /proc."""
    fields = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def open_channel(address: str) -> grpc.aio.Channel:
    """Return a channel to a daemon."""
    return grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])


def until_attached(address: str, timeout_s: float = 30.0) -> None:
    """Wait until an executor is attached to a daemon."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        end = time.monotonic() + timeout_s
        while not AdminServiceStub(channel).GetStatus(admin_pb2.GetStatusRequest()).executors:
            if time.monotonic() > end:
                raise NotReady("no executor has attached")
            time.sleep(0.05)


def until_quiet(process: Process, timeout_s: float = 240.0) -> None:
    """Wait until a process has nothing to do any more: it has used next to nothing for 2 s."""
    end = time.monotonic() + timeout_s
    used, quiet = process.cpu_s(), 0
    while quiet < 4 and time.monotonic() < end:
        time.sleep(0.5)
        before, used = used, process.cpu_s()
        quiet = quiet + 1 if used - before < 0.05 else 0


def until_followed(address: str, timeout_s: float = 600.0) -> None:
    """Wait until a daemon's views hold all of its log."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        end = time.monotonic() + timeout_s
        while True:
            status = AdminServiceStub(channel).GetStatus(admin_pb2.GetStatusRequest())
            if all(view.position >= status.log_head_position for view in status.projections):
                return
            if time.monotonic() > end:
                raise NotReady("the views do not follow")
            time.sleep(0.05)
