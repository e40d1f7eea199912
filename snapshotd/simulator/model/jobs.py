"""The hypervisor's jobs: what it does for a cmdlet takes its time, and goes on when the script that asked has died.

At most one job at a time works on a VM (merging aside). A caller waits for its job and for nothing else.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from snapshotd.simulator.hypervisor import Caller, HyperVError, ScriptKilled

_LOOK_S: Final = 0.02
"""How often a waiting call looks whether its script is dead."""
_LEAST_S: Final = 0.001
_RUNNING: Final = 4
_ENDING: Final = 6
_COMPLETED: Final = 7
_TERMINATED: Final = 8
_EXCEPTION: Final = 10
"""Values of JobState (documented)."""


def _was_terminated() -> str:
    raise HyperVError("OperationFailed", "", "The operation was canceled. (0x800704C7)")


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
    steps: list[Callable[[], None]] = field(default_factory=list)
    """What it does on its way, evenly over its time. Raises HyperVError and OSError."""
    gives_up: Callable[[HyperVError], None] = field(default=lambda _: None)
    """Told, under the host's lock, when it ends without having come to `finish`."""
    job_type: int = 0
    """JobType, of jobs that are asked for by their ids after their end too; 0: of no other."""
    storage: bool = False
    """It is a job of disks, and not of a VM."""
    cancellable: bool = False
    job_id: str = field(default_factory=lambda: str(uuid.uuid4()).upper())
    terminating: bool = False
    ended_s: float = 0.0
    began_s: float = field(default_factory=time.monotonic)
    over: bool = False
    result: str = ""
    error: HyperVError | None = None
    stopped_at_percent: int | None = None
    """How far it had come when it was given up."""
    _done_steps: int = 0

    def become(self, other: Job) -> None:
        """Go on as another job, which whoever waits for this one waits for then."""
        self.lasts_s, self.finish, self.yields = other.lasts_s, other.finish, other.yields
        self.began_s = other.began_s

    @property
    def state(self) -> int:
        """JobState."""
        if not self.over:
            return _ENDING if self.terminating else _RUNNING
        if self.error is None:
            return _COMPLETED
        return _TERMINATED if self.terminating else _EXCEPTION

    def advance(self) -> None:
        """Do the steps that are due by now."""
        while self.steps and not self.terminating and self._next_step_in_s() <= 0:
            self._step()

    def advance_to_the_end(self) -> None:
        """Do all the steps that are left."""
        while self.steps:
            self._step()

    def wakes_in_s(self) -> float:
        """Return how long it has nothing to do; 0: it is at its end, or over."""
        remaining_s = 0.0 if self.over else self.remaining_s()
        return min(remaining_s, max(_LEAST_S, self._next_step_in_s())) if self.steps else remaining_s

    def _step(self) -> None:
        step = self.steps.pop(0)
        self._done_steps += 1
        step()

    def _next_step_in_s(self) -> float:
        if not self._done_steps:
            return 0.0
        share = self._done_steps / (self._done_steps + len(self.steps))
        return self.lasts_s() * share - self.age_s()

    def terminate(self, lasts_s: Callable[[], float]) -> None:
        """Come to an end without having done it, in so many seconds."""
        self.stopped_at_percent = self.percent()
        self.terminating, self.began_s, self.lasts_s = True, time.monotonic(), lasts_s
        self.steps.clear()
        self.finish = _was_terminated

    def percent(self) -> int:
        """Return how far it has come."""
        if self.over and self.error is None:
            return 100
        if self.stopped_at_percent is not None:
            return self.stopped_at_percent
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
        self._ended: dict[str, Job] = {}
        """Those that are asked for after their end, by id."""
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def of(self, vm_id: str) -> Job | None:
        """Return the job that works on a VM."""
        return self._running.get(vm_id)

    def kept(self, kept_s: float) -> list[Job]:
        """Return the jobs that are asked for by their ids: those that run, or have ended within so many seconds."""
        for old in [job for job in self._ended.values() if time.monotonic() > job.ended_s + kept_s]:
            del self._ended[old.job_id]
        return [job for job in (*self._running.values(), *self._ended.values()) if job.job_type]

    def find(self, job_id: str, kept_s: float) -> Job | None:
        """Return one of these, by its id in any case."""
        return next((job for job in self.kept(kept_s) if job.job_id == job_id.upper()), None)

    def terminate(self, job: Job, lasts_s: Callable[[], float]) -> None:
        """Have a job end without having done it, in so many seconds. The lock is held."""
        job.terminate(lasts_s)
        self._changed.notify_all()
        if not lasts_s():
            (key,) = [key for key, running in self._running.items() if running is job]
            self._finish(key, job)

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
        self._try(vm_id, job, job.advance)
        if job.over:
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
        self._ended.clear()

    def close(self) -> None:
        """End all jobs, and wait for their threads. The lock is not held."""
        with self._changed:
            self._closed = True
            self.end_all()
        for thread in tuple(self._threads):
            thread.join()

    def _run(self, vm_id: str, job: Job) -> None:
        with self._changed:
            while not job.over and job.remaining_s():
                self._try(vm_id, job, job.advance)
                self._changed.wait(min(job.wakes_in_s(), threading.TIMEOUT_MAX))
            if not job.over:
                self._finish(vm_id, job)
            self._threads.discard(threading.current_thread())

    def _finish(self, vm_id: str, job: Job) -> None:
        def finish() -> None:
            job.advance_to_the_end()
            job.result = job.finish()

        self._try(vm_id, job, finish)
        if not job.over:
            self._over(vm_id, job)

    def _try(self, vm_id: str, job: Job, act: Callable[[], None]) -> None:
        """Do something of a job; end it if that fails."""
        try:
            act()
        except HyperVError as error:
            job.error = error
        except OSError as error:  # the disk of the machine that simulates: the VM must not stay busy for ever
            job.error = HyperVError("OperationFailed", "", f"The hypervisor could not write: {error}")
        if job.error is not None:
            self._over(vm_id, job)

    def _end(self, vm_id: str, job: Job) -> None:
        job.error = HyperVError("OperationFailed", "", "The host was restarted.")
        self._over(vm_id, job)

    def _over(self, vm_id: str, job: Job) -> None:
        if job.error is not None and job.stopped_at_percent is None:
            job.stopped_at_percent = job.percent()
        job.over, job.ended_s = True, time.monotonic()
        del self._running[vm_id]
        if job.error is not None:
            job.gives_up(job.error)
        if job.job_type:
            self._ended[job.job_id] = job
        self._changed.notify_all()
