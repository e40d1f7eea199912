"""The wait for a host's job: how polls of it are judged, and what it shows meanwhile."""

from __future__ import annotations

import pytest

from snapshotd.domain.host_report import HostJob, JobState, VmReport
from snapshotd.domain.operation import Operation, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import Recorded
from snapshotd.domain.state import replace
from snapshotd.steps.action import Done, Failed, InProgress, Judgement
from snapshotd.steps.files_delete import FILES_DELETE, Input
from snapshotd.steps.job_wait import JOB_WAIT
from snapshotd.steps.job_wait import Input as Wait
from tests.fakes import World
from tests.unit.steps.standing import made, operation_of, step_of

BEGINS = FILES_DELETE.name
"""Stands for an action that begins a job: the wait knows it by its name only."""
WORLD = made()


def waiting(job_id: str = "j1", files: tuple[str, ...] = ()) -> tuple[Operation, Step]:
    """Return a wait for the job that the nearest step before it has begun, and its operation."""
    begun = [
        replace(step_of(FILES_DELETE, Input(())), output=Recorded(1, {"job_id": told})) for told in ("earlier", job_id)
    ]
    operation = operation_of(WORLD.vm, *begun, step_of(JOB_WAIT, Wait(BEGINS, files)))
    step = operation.step(3)
    return operation, replace(step, before=JOB_WAIT.facts.write(JOB_WAIT.before(WORLD.vm, operation, step)))


def report(*jobs: HostJob, files: tuple[str, ...] = ()) -> VmReport:
    """Return what a poll tells."""
    return replace(World().host.report(), jobs=jobs, existing_files=files)


def judged(told: VmReport, files: tuple[str, ...] = ()) -> Judgement:
    """Return how a poll is judged."""
    operation, step = waiting(files=files)
    return JOB_WAIT.judge(WORLD.vm, operation, step, told)


def job(state: JobState, percent: int = 0, error: str = "") -> HostJob:
    """Return a state of the job."""
    return HostJob(job_id="j1", state=state, percent=percent, error=error)


def test_a_job_at_work_is_waited_for_and_shows_how_far_it_is() -> None:
    told = report(job(JobState.RUNNING, 40), HostJob(job_id="other", state=JobState.DONE))
    _, step = waiting()
    assert judged(told) == InProgress()
    assert JOB_WAIT.progress(step, told) == 40
    assert "40 %" in JOB_WAIT.awaits(step, told).message


def test_what_a_poll_does_not_tell_of_is_waited_for() -> None:
    assert judged(report()) == InProgress()


def test_a_job_that_is_done_ends_the_wait() -> None:
    assert isinstance(judged(report(job(JobState.DONE, 100))), Done)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("There is not enough space on the disk. (0x80070070)", "0x80070070)."),
        ("No more.", "failed: No more."),
        ("", "it does not say why."),
    ],
)
def test_a_job_that_fails_ends_the_wait_with_the_hosts_words(error: str, message: str) -> None:
    found = judged(report(job(JobState.FAILED, 40, error)))
    assert isinstance(found, Failed)
    assert (found.failure.reason, found.failure.message.endswith(message)) == ("JOB_FAILED", True)


@pytest.mark.parametrize(
    ("files", "there", "done"),
    [
        ((), ("a",), False),
        (("a", "b"), ("a",), False),
        (("a", "b"), ("a", "b", "c"), True),
    ],
)
def test_of_a_job_that_the_host_has_forgotten_the_files_decide(
    files: tuple[str, ...], there: tuple[str, ...], *, done: bool
) -> None:
    found = judged(report(job(JobState.GONE), files=there), files)
    if done:
        assert isinstance(found, Done)
    else:
        assert isinstance(found, Failed)
        assert found.failure.reason == "JOB_GONE"


def test_it_watches_the_job_of_the_nearest_step_and_the_files() -> None:
    _, step = waiting(files=("a",))
    assert JOB_WAIT.watched_jobs(step) == ("j1",)
    assert JOB_WAIT.watched_files(step) == ("a",)


@pytest.mark.parametrize("job_id", ["", "j1"])
def test_what_was_done_at_once_is_not_waited_for(job_id: str) -> None:
    operation, step = waiting(job_id)
    assert JOB_WAIT.satisfied(WORLD.vm, operation, step) is (job_id == "")


def test_a_job_that_stands_still_is_told_with_how_far_it_was() -> None:
    policy = Policy(job_stall_s=300)
    _, step = waiting()
    assert JOB_WAIT.time_limit_s(policy) == 300
    failure = JOB_WAIT.stalled(policy, JOB_WAIT.awaits(step, report(job(JobState.RUNNING, 40))))
    assert (failure.reason, "300 s" in failure.message, "40 %" in failure.message) == ("JOB_STALLED", True, True)
