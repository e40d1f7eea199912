"""Wait for a job of the host that an earlier step has begun. Sends no command, and holds the VM.

The host forgets a job when it is restarted, and some minutes after its end (observed). Then nobody knows how far it
came, unless what it was to make tells that by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from snapshotd.domain.host_report import JobState, VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import Action, Failed, InProgress, Judgement

JOB_GONE: Final = "JOB_GONE"
"""The reason of a wait for a job that the host does not know any more."""


@dataclass(frozen=True, slots=True)
class Input:
    """Which job to wait for."""

    begun_by: ActionName
    """The action of the step that has begun it: the nearest one before the wait."""
    files: tuple[str, ...] = ()
    """Files that are all there only if the job was done: if the host has forgotten it, they decide."""


@dataclass(frozen=True, slots=True)
class Before:
    """What is watched."""

    job_id: str
    files: tuple[str, ...]


class JobWait(Action):
    """Poll until a job of the host has ended."""

    name = ActionName("job_wait")
    label = "wait for copy"
    polls = True
    waits_for = Failure(reason="JOB_IN_PROGRESS", message="The host is copying.")
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[Before] = Versioned(Before)

    def before(self, vm: VirtualMachine, operation: Operation, step: Step) -> Before:
        """Return the job that the earlier step has told, and the files."""
        return Before(self._job_of(operation, step), self.input.read(step.plan.input).files)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if the job is done, Failed if it failed, or if nobody will know."""
        watched = self._watched(step)
        job = report.job(watched.job_id)
        if job is None or job.state is JobState.RUNNING:
            return InProgress()
        if job.state is JobState.FAILED:
            text = f"The host's job failed: {job.error or 'it does not say why'}"
            return Failed(Failure(reason="JOB_FAILED", message=text if text.endswith(".") else f"{text}."))
        if job.state is JobState.GONE:
            if watched.files and set(watched.files) <= set(report.existing_files):
                return self.done()
            text = "The host does not know the job any more, as after a restart, so nobody knows whether it was done."
            return Failed(Failure(reason=JOB_GONE, message=text))
        return self.done()

    def satisfied(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether there is no job, since the host was done at once."""
        return self._job_of(operation, step) == ""

    def _job_of(self, operation: Operation, step: Step) -> str:
        begun_by = self.input.read(step.plan.input).begun_by
        before = (s for s in reversed(operation.steps) if s.plan.number < step.plan.number)
        output = next((s.output for s in before if s.plan.action == begun_by), None)
        return str(output.values["job_id"]) if output else ""

    def _watched(self, step: Step) -> Before:
        assert step.before is not None, step
        return self.facts.read(step.before)

    def watched_files(self, step: Step) -> tuple[str, ...]:
        """Return the files that decide if the job is gone."""
        return self._watched(step).files if step.before is not None else ()

    def watched_jobs(self, step: Step) -> tuple[str, ...]:
        """Return the job."""
        return (self._watched(step).job_id,) if step.before is not None else ()

    def progress(self, step: Step, report: VmReport) -> int:
        """Return how far the job has come, as the host says."""
        job = report.job(self._watched(step).job_id)
        return job.percent if job else 0

    def awaits(self, step: Step, report: VmReport) -> Failure:
        """Return how far the job has come."""
        return replace(self.waits_for, message=f"The host is copying ({self.progress(step, report)} %).")

    def stalled(self, policy: Policy, awaited: Failure) -> Failure:
        """Return the failure of a job that stands still."""
        text = f"Nothing has moved for {policy.job_stall_s:.0f} s. {awaited.message} Look at the host and its storage."
        return Failure(reason="JOB_STALLED", message=text)

    def time_limit_s(self, policy: Policy) -> float:
        """Return how long a job may stand still. With progress, the wait has no limit."""
        return policy.job_stall_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        return "Wait until the host has copied it."


JOB_WAIT = JobWait()
