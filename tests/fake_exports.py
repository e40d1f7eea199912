"""What a fake host does of exports: jobs that fill folders, and VMs that are imported from them."""

from __future__ import annotations

from dataclasses import dataclass, field

from snapshotd.dispatch.orders import Order
from snapshotd.domain.host_report import HostJob, JobState
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.state import replace
from snapshotd.steps.export_folder import marker_of
from tests import asking as actions


@dataclass
class FakeExports:
    """The exports of a host's VM, and the jobs that write them."""

    jobs: dict[str, HostJob] = field(default_factory=dict)
    """The hypervisor's jobs, by id: reports tell of all of them."""
    exports: dict[str, bool] = field(default_factory=dict)
    """The folders of exports that are there, and whether each is complete."""
    storage_away: bool = False
    """Jobs fail: nothing can be written to where they copy to."""
    dies_untold: bool = False
    """The next script that begins an export dies before it has told the job."""

    @property
    def exporting(self) -> bool:
        """Whether an export is under way."""
        return any(job.state is JobState.RUNNING for job in self.jobs.values())

    def end_jobs(self) -> None:
        """Let the jobs come to their end."""
        state = JobState.FAILED if self.storage_away else JobState.DONE
        error = "The network path was not found. (0x80070035)" if self.storage_away else ""
        for job in tuple(self.jobs.values()):
            if job.state is JobState.RUNNING:
                self.jobs[job.job_id] = replace(job, state=state, percent=100, error=error)

    def restart(self) -> None:
        """Go down and come up again: jobs are gone, and leave what they had copied."""
        self.jobs = {job_id: replace(job, state=JobState.GONE) for job_id, job in self.jobs.items()}

    def reported_jobs(self) -> tuple[HostJob, ...]:
        """Return what a report tells of jobs: also that nobody knows one that was never told."""
        return (*self.jobs.values(), HostJob(job_id="unknown", state=JobState.GONE))

    def markers(self) -> tuple[str, ...]:
        """Return the files that show that an export was begun."""
        return tuple(marker_of(folder) for folder, complete in self.exports.items() if not complete)

    def act_on_exports(self, order: Order) -> JsonObject:
        """Do what the order asks for, of what concerns exports; return what it tells."""
        what = order.input
        match order.action:
            case actions.EXPORT_VM:
                self.exports[str(what["directory"])] = False
                job_id = f"job-{len(self.jobs) + 1}"
                self.jobs[job_id] = HostJob(job_id=job_id, state=JobState.RUNNING, job_type=62)
                return {"job_id": job_id}
            case _:
                assert order.action == actions.COMPLETE, order
                self.exports.pop(str(what["directory"]), None)
                self.exports[str(what["target"])] = True
                return {"configuration_path": f"{what['target']}/Virtual Machines/vm.vmcx", "size_bytes": 7 << 30}

    def end_export(self, job_id: str, directory: str) -> None:
        """End a job, and remove its folder."""
        known = self.jobs.keys() if job_id == "unknown" else {job_id} & self.jobs.keys()
        for each in tuple(known):
            self.jobs[each] = replace(self.jobs[each], state=JobState.FAILED)
        self.exports.pop(directory, None)
