"""The hypervisor's jobs: what it does for a cmdlet takes its time, and goes on when the script that asked has died.

At most one job at a time works on a VM (merging aside). A caller waits for its job and for nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from snapshotd.simulator.hypervisor import Caller, HyperVError, ScriptKilled

_LOOK_S: Final = 0.02
"""How often a waiting call looks whether its script is dead."""


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """One job."""

    status: str
    """SecondaryOperationalStatus; empty: none."""
    transition: str
    """What the VM's state reads meanwhile; empty: as before."""
    lasts_s: Callable[[], float]
    """How long it takes as of now, perhaps for ever: durations can change while it runs."""
    finish: Callable[[], str]
    """Does it, under the host's lock; returns what the cmdlet returns. Raises HyperVError."""
    yields: bool = False
    """A turn-off takes it over: a shutdown, which only asks the guest."""
    began_s: float = field(default_factory=time.monotonic)
    over: bool = False
    result: str = ""
    error: HyperVError | None = None

    def become(self, other: Job) -> None:
        """Go on as another job, which whoever waits for this one waits for then."""
        self.lasts_s, self.finish, self.yields = other.lasts_s, other.finish, other.yields
        self.began_s = other.began_s

    def percent(self) -> int:
        """Return how far it has come."""
        lasts_s = self.lasts_s()
        return min(99, int(100 * (time.monotonic() - self.began_s) / lasts_s)) if lasts_s else 99

    def remaining_s(self) -> float:
        """Return how long it still takes."""
        return max(0.0, self.lasts_s() - self.age_s())

    def age_s(self) -> float:
        """Return how long it has run."""
        return time.monotonic() - self.began_s


class Jobs:
    """The jobs that run now.

    Args:
        changed: the host's lock; notified when a job is over.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._running: dict[str, Job] = {}
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def of(self, vm_id: str) -> Job | None:
        """Return the job that works on a VM."""
        return self._running.get(vm_id)

    def begin(self, vm_id: str, job: Job) -> None:
        """Begin a job. The lock is held; a job without duration is over when this returns."""
        assert vm_id not in self._running, vm_id
        self._running[vm_id] = job
        if self._closed:
            self._end(vm_id, job)
            return
        if not job.lasts_s():
            self._finish(vm_id, job)
            return
        thread = threading.Thread(target=self._run, args=(vm_id, job), name=f"job {job.status}", daemon=True)
        self._threads.add(thread)
        thread.start()

    def wait(self, job: Job, caller: Caller) -> str:
        """Wait for a job's end, with the lock held; return its result.

        Raises HyperVError, and ScriptKilled when the caller is dead: the job goes on.
        """
        while not job.over and not caller.killed:
            self._changed.wait(_LOOK_S)
        # Of a script that died in the job's last moment too: it must not go on to the module's next call.
        if caller.killed:
            raise ScriptKilled(job.status)
        if job.error is not None:
            raise job.error
        return job.result

    def end_all(self) -> None:
        """End all jobs as a restart does: what has not happened by now does not happen. The lock is held."""
        for vm_id, job in tuple(self._running.items()):
            self._end(vm_id, job)

    def close(self) -> None:
        """End all jobs, and wait for their threads. The lock is not held."""
        with self._changed:
            self._closed = True
            self.end_all()
        for thread in tuple(self._threads):
            thread.join()

    def _run(self, vm_id: str, job: Job) -> None:
        with self._changed:
            while not job.over and (remaining_s := job.remaining_s()):
                self._changed.wait(min(remaining_s, threading.TIMEOUT_MAX))
            if not job.over:
                self._finish(vm_id, job)
            self._threads.discard(threading.current_thread())

    def _finish(self, vm_id: str, job: Job) -> None:
        try:
            job.result = job.finish()
        except HyperVError as error:
            job.error = error
        except OSError as error:  # the disk of the machine that simulates: the VM must not stay busy for ever
            job.error = HyperVError("OperationFailed", "", f"The hypervisor could not write: {error}")
        self._over(vm_id, job)

    def _end(self, vm_id: str, job: Job) -> None:
        job.error = HyperVError("OperationFailed", "", "The host was restarted.")
        self._over(vm_id, job)

    def _over(self, vm_id: str, job: Job) -> None:
        job.over = True
        del self._running[vm_id]
        self._changed.notify_all()
